"""From a manifest to scores and page: with a decoder that knows its answers, and once with a real model."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from comsl.data.manifest import write_manifest
from comsl.errors import ComSLError, UsageError
from comsl.evaluation import evaluate as module
from comsl.evaluation import report
from comsl.evaluation.evaluate import evaluate
from comsl.evaluation.outcome import Evaluation
from comsl.evaluation.records import RecordLog, read_records, read_scores, write_json
from comsl.evaluation.report import footnotes, transcription_lines, translation_lines
from comsl.evaluation.settings import decoding_settings
from comsl.inference.decode import Decoded, DecodingOptions, Hypothesis
from comsl.inference.memory import TranslationMemory

DE = ["der alte mann sieht das haus", "sie kauft drei rote äpfel", "wir gehen um vier uhr", "das ist gut"]
EN = ["the old man sees the house", "she buys three red apples", "we leave at four o'clock", "that is a good thing"]


class Answers:
    """Hears a clip by its length in tenths of a second, one for each row, and translates by a dictionary."""

    def __init__(self, heard: list[str], dictionary: dict[str, str], direct: list[str]) -> None:
        self.heard, self.dictionary, self.direct = heard, dictionary, direct
        self.calls: list[tuple[str, int]] = []
        self.stop_after: int | None = None
        self.cut: set[str] = set()
        """Texts that end at their limit."""
        self.segments_of: dict[int, int] = {}
        """Of the clips that are not decoded whole."""

    longest_whole = 0.55

    def segments(self, clip: int) -> int | None:
        return self.segments_of.get(clip)

    def prepare(self, waveform: np.ndarray) -> int:
        return round(len(waveform) / 1600) - 5

    def speech(self, clips: Any, sources: Any, targets: Any, tasks: Any) -> list[list[Hypothesis]]:
        if self.stop_after is not None and len(self.calls) >= self.stop_after:
            raise KeyboardInterrupt
        self.calls += [(task, len(clips)) for task in tasks]
        said = {"transcribe": self.heard, "translate": self.direct}
        return [[self.say(said[task][clip], -0.5) for clip in clips] for task in tasks]

    def text(self, texts: Any, sources: Any, targets: Any) -> list[Hypothesis]:
        self.calls.append(("text", len(texts)))
        return [self.say(self.dictionary.get(text, ""), -0.25) for text in texts]

    def say(self, text: str, score: float) -> Hypothesis:
        return Hypothesis(text, score, [1], text in self.cut)

    def modes(self, clips: Any, sources: Any, targets: Any, modes: Any) -> list[Decoded]:
        self.calls += [(mode, len(clips)) for mode in modes]
        return [
            Decoded(self.say(self.heard[clip], -0.5), {mode: self.say(f"{mode} {clip}", -1.0) for mode in modes})
            for clip in clips
        ]

    def check_hearing(self, system: str) -> None: ...

    def check_language(self, code: str) -> None:
        if code not in ("de", "en", "fr"):
            raise UsageError(f"the model has no language {code!r}")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return make_manifest(tmp_path)


def make_manifest(folder: Path, **changes: dict[str, Any]) -> Path:
    rows = []
    for index, (source, target) in enumerate(zip(DE, EN, strict=True)):
        seconds = 0.5 + 0.1 * index
        soundfile.write(folder / f"{index}.wav", np.full(round(16_000 * seconds), 0.1, np.float32), 16_000)
        row = {"id": f"r{index}", "audio": f"{index}.wav", "duration": seconds, "source_language": "de"}
        rows.append({**row, "target_language": "en", "transcript": source, "translation": target})
        rows[-1].update(changes.get(f"r{index}", {}))
    write_manifest(rows, folder / "test.jsonl")
    return folder / "test.jsonl"


def decoder() -> Answers:
    heard = [DE[0], DE[1], "wir gehen um vier", DE[3]]
    dictionary = dict(zip(DE, [EN[0], EN[1], EN[2], "it is good"], strict=True))
    return Answers(heard, dictionary, [EN[0], "she buys three apples", EN[2], "that is good"])


def test_systems_scores_and_files(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = decoder()
    result = evaluate(model, manifest, tmp_path / "out", batch_size=3)
    assert result.ok
    records = read_records(tmp_path / "out")
    assert [(record["system"], record["id"]) for record in records] == [
        (system, f"r{index}") for system in ("direct", "cascade", "text") for index in range(4)
    ]
    by_system = {s: [r["hypothesis"] for r in records if r["system"] == s] for s in ("direct", "cascade", "text")}
    assert by_system["direct"] == [EN[0], "she buys three apples", EN[2], "that is good"]
    assert by_system["cascade"] == [EN[0], EN[1], "", "it is good"]
    assert by_system["text"] == [EN[0], EN[1], EN[2], "it is good"]
    first = records[0]
    assert (first["source"], first["reference"], first["transcript_hypothesis"]) == (DE[0], EN[0], DE[0])
    assert (first["score"], first["duration"], first["error"]) == (-0.5, 0.5, None)
    # The cascade listens with the same model, so it hears what the direct system heard: two batches, two tasks.
    assert sorted(model.calls) == [("text", 1)] * 2 + [("text", 3)] * 2 + [
        ("transcribe", 1), ("transcribe", 3), ("translate", 1), ("translate", 3)
    ]  # fmt: skip

    scores = read_scores(tmp_path / "out")
    assert scores == json.loads(json.dumps(result.scores))
    from sacrebleu.metrics import BLEU

    pair = scores["systems"]["direct"]["pairs"]["de-en"]
    assert pair["bleu"]["score"] == pytest.approx(BLEU().corpus_score(by_system["direct"], [EN]).score)
    assert "tok:13a" in pair["bleu"]["signature"]
    assert (pair["rows"], pair["empty"], pair["truncated"], pair["failed"]) == (4, 0, 0, 0)
    assert scores["systems"]["cascade"]["pairs"]["de-en"]["empty"] == 1
    assert scores["systems"]["text"]["averages"]["bleu"]["high"]["languages"] == 1
    # One of 19 words is missing.
    assert scores["transcription"]["direct"]["pairs"]["de"]["wer"] == pytest.approx(100 / 19)
    assert scores["transcription"]["direct"]["pairs"]["de"]["normaliser"] == "basic"
    assert scores["decoding"]["beam"] == 5
    assert (scores["rows"], scores["model"], scores["cascade_asr"]) == (4, "Answers", None)
    assert scores["audio_seconds"] == pytest.approx(2.6)
    assert {"torch", "sacrebleu", "comsl"} <= set(scores["versions"])

    printed = capsys.readouterr().out
    assert pair["bleu"]["signature"] in printed, "in one piece"
    assert all(word in printed for word in ("direct", "cascade", "text", "de-en", "WER", "tok:13a", "normaliser basic"))


def test_the_modes_of_one_model_are_systems(manifest: Path, tmp_path: Path) -> None:
    model = decoder()
    model.segments_of, model.cut = {1: 2}, {"mixed 3"}
    result = evaluate(model, manifest, tmp_path / "out", ["pooled", "mixed", "direct"], batch_size=2, show=False)
    assert [call for call in model.calls if call[0] in ("mixed", "pooled")] == [("mixed", 2)] * 2 + [("pooled", 2)] * 2
    assert list(result.scores["systems"]) == ["direct", "mixed", "pooled"]
    mixed = [record for record in result.records if record["system"] == "mixed"]
    assert [record["hypothesis"] for record in mixed] == [f"mixed {row}" for row in range(4)]
    assert [record["transcript_hypothesis"] for record in mixed] == model.heard
    assert [record["segments"] for record in mixed] == [None, 2, None, None]
    assert result.scores["systems"]["mixed"]["pairs"]["de-en"]["truncated"] == 1
    assert list(result.scores["transcription"]) == ["direct"], "one model hears the same"
    alone = evaluate(decoder(), manifest, tmp_path / "alone", ["mixed"], show=False)
    assert list(alone.scores["transcription"]) == ["mixed"]


def test_page_is_self_contained_and_shows_text_safely(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, r1={"transcript": "<script>alert(1)</script>"})
    evaluate(decoder(), manifest, tmp_path / "out", show=False)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "Worst examples" in page
    assert "Best examples" in page
    assert "she buys three apples" in page


def test_examples_of_a_large_set_are_a_share_of_it(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MOST_RANKED", 3)
    evaluate(decoder(), manifest, tmp_path / "out", show=False)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "by chrF++ of the row. Among 2 rows, one in 2." in page
    assert [f"<caption>r{n} " in page for n in range(4)] == [True, False, True, False]


def test_texts_that_were_cut_at_their_limit_are_counted(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = decoder()
    model.cut = {"wir gehen um vier", EN[1]}
    result = evaluate(model, manifest, tmp_path / "out")
    assert result.ok
    cut = {(r["system"], r["id"]): (r["truncated"], r["transcript_truncated"]) for r in result.records}
    assert {key: value for key, value in cut.items() if any(value)} == {
        ("direct", "r2"): (False, True),
        ("cascade", "r1"): (True, False),
        ("cascade", "r2"): (False, True),  # the transcript that the direct system made
        ("text", "r1"): (True, False),
    }
    counts = {system: found["pairs"]["de-en"]["truncated"] for system, found in result.scores["systems"].items()}
    assert counts == {"direct": 0, "cascade": 1, "text": 1}
    assert result.scores["transcription"]["direct"]["pairs"]["de"]["truncated"] == 1
    note = "truncated: the text reached its token limit"
    for page in (capsys.readouterr().out, (tmp_path / "out" / "report.html").read_text(encoding="utf-8")):
        assert note in page
    lines = {line[0]: line[-3:] for line in translation_lines(result.scores)}
    assert lines == {"direct": ("0", "0", "0"), "cascade": ("1", "1", "0"), "text": ("0", "1", "0")}
    assert [line[-3:] for line in transcription_lines(result.scores)] == [("0", "1", "0")]


def test_clips_that_were_cut_into_segments_are_counted(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, other = decoder(), decoder()
    model.segments_of = other.segments_of = {1: 3, 2: 0, 3: 1}
    model.heard[2] = other.heard[2] = model.direct[2] = ""
    result = evaluate(model, manifest, tmp_path / "out")
    segments = {(r["system"], r["id"]): r["segments"] for r in result.records}
    for system in ("direct", "cascade"):
        assert [segments[system, f"r{index}"] for index in range(4)] == [None, 3, 0, 1]
    assert {segments["text", f"r{index}"] for index in range(4)} == {None}
    counts = {"longest_whole_seconds": 0.55, "clips_cut": 3, "clips_without_speech": 1}
    assert result.scores["segmentation"] == {"direct": counts, "cascade": counts}
    note = (
        "direct, cascade: clips of up to 0.55 s are decoded whole, 3 longer ones were cut into segments of speech; "
        "no speech was found in 1 of these (empty hypothesis)"
    )
    for page in (capsys.readouterr().out, (tmp_path / "out" / "report.html").read_text(encoding="utf-8")):
        assert note in page
    # Another model listens for itself.
    other.longest_whole, other.segments_of = 0.65, {2: 0, 3: 2}
    result = evaluate(model, manifest, tmp_path / "other", ["direct", "cascade"], cascade_asr=other)
    assert result.scores["segmentation"]["cascade"] == {**counts, "longest_whole_seconds": 0.65, "clips_cut": 2}
    assert "cascade: clips of up to 0.65 s are decoded whole, 2 longer" in capsys.readouterr().out
    whole = evaluate(decoder(), manifest, tmp_path / "whole", ["text", "direct"])
    assert list(whole.scores["segmentation"]) == ["direct"]
    assert "direct: clips of up to 0.55 s are decoded whole\n" in capsys.readouterr().out


def test_a_broken_row_costs_itself_only(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, r0={"audio": "missing.wav"}, r2={"source_language": "cy"})
    (tmp_path / "3.wav").write_text("this is not sound")
    result = evaluate(decoder(), manifest, tmp_path / "out", show=False)
    assert not result.ok
    failed = {(failure["id"], failure["system"]): failure["error"] for failure in result.failed}
    expected = {("r0", "direct"), ("r3", "direct"), ("r2", "direct"), ("r0", "cascade"), ("r3", "cascade")}
    assert set(failed) == expected | {("r2", "cascade"), ("r2", "text")}
    assert "missing.wav" in failed["r0", "direct"]
    assert "3.wav" in failed["r3", "direct"]
    assert "'cy'" in failed["r2", "text"]
    pairs = result.scores["systems"]["direct"]["pairs"]
    assert {name: (pair["rows"], pair["empty"], pair["failed"]) for name, pair in pairs.items()} == {
        "de-en": (3, 2, 2),
        "cy-en": (1, 1, 1),
    }
    assert result.scores["transcription"]["direct"]["pairs"]["de"]["rows"] == 3
    assert [record["hypothesis"] for record in result.records[:4]] == ["", "she buys three apples", "", ""]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("missing.wav") == 1, "one line for both systems"
    assert [line.split(":")[0] for line in result.complaints] == [
        "r0 (direct, cascade)", "r2 (direct, cascade, text)", "r3 (direct, cascade)"
    ]  # fmt: skip


def test_complaints_are_one_line_each(tmp_path: Path) -> None:
    reasons = [("a", "direct", "no\n  file"), ("a", "cascade", "no file"), ("a", "text", "no text"), ("b", "text", "x")]
    failed = [{"id": row_id, "system": system, "error": error} for row_id, system, error in reasons]
    complaints = module.Evaluation(tmp_path, {"failed": failed}, []).complaints
    assert complaints == ["a (direct, cascade): no file", "a (text): no text", "b (text): x"]


def test_audio_that_is_too_short_fails(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path)
    soundfile.write(tmp_path / "1.wav", np.full(160, 0.1, np.float32), 16_000)
    result = evaluate(decoder(), manifest, tmp_path / "out", ["direct", "cascade"], show=False)
    assert [(failure["id"], failure["system"]) for failure in result.failed] == [("r1", "direct"), ("r1", "cascade")]
    assert "10 ms of audio" in result.failed[0]["error"]


def test_rows_without_transcript_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make_manifest(tmp_path, r1={"transcript": None})
    result = evaluate(decoder(), manifest, tmp_path / "out", ["direct"])
    assert result.ok
    assert result.scores["rows_without_transcript"] == 1
    assert result.scores["transcription"]["direct"]["pairs"]["de"]["rows"] == 3
    note = "1 of 4 rows have no transcript"
    assert note in capsys.readouterr().out
    assert note in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    evaluate(decoder(), manifest, tmp_path / "translated", ["direct"], task="translate")
    assert note not in capsys.readouterr().out


def test_durations_that_the_manifest_lacks_are_those_of_the_audio(tmp_path: Path) -> None:
    manifest = make_manifest(
        tmp_path, r0={"duration": None}, r1={"duration": None}, r2={"duration": None, "audio": "missing.wav"}
    )
    result = evaluate(decoder(), manifest, tmp_path / "out", ["direct", "text"], show=False)
    assert [record["duration"] for record in result.records] == [0.5, 0.6, None, 0.8] * 2
    assert result.scores["audio_seconds"] == pytest.approx(1.9)
    assert result.scores["rows_without_duration"] == 1
    assert [failure["id"] for failure in result.failed] == ["r2"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "4 rows, 0.00 hours of speech (rows of unknown length: 1), from" in page
    assert "r2 · de-en · chrF++" in page, "and not 0.0 s"
    assert "r0 · de-en · 0.5 s · chrF++" in page


def test_what_hears_nothing_needs_no_durations(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, **{f"r{index}": {"duration": None} for index in range(4)})
    result = evaluate(decoder(), manifest, tmp_path / "out", ["text"], show=False)
    assert (result.scores["audio_seconds"], result.scores["rows_without_duration"]) == (0.0, 4)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "4 rows, of unknown length, from" in page
    assert "hours" not in page


def test_a_row_without_translation_is_reported_and_not_scored(tmp_path: Path) -> None:
    result = evaluate(decoder(), make_manifest(tmp_path, r1={"translation": None}), tmp_path / "out", show=False)
    assert result.failed == [{"id": "r1", "system": "all", "error": "the row has no translation to score against"}]
    assert result.scores["systems"]["direct"]["pairs"]["de-en"]["rows"] == 3


def test_lookup_floor_and_unseen_references(manifest: Path, tmp_path: Path) -> None:
    rows = [
        {"id": f"t{i}", "source_language": "de", "target_language": "en", "transcript": DE[i], "translation": EN[i]}
        for i in range(2)
    ]
    write_manifest(rows, tmp_path / "train.jsonl")
    result = evaluate(decoder(), manifest, tmp_path / "out", train_manifest=tmp_path / "train.jsonl", show=False)
    answers = [record["hypothesis"] for record in result.records if record["system"] == "lookup"]
    assert answers[:2] == EN[:2]
    assert set(answers[2:]) <= {*EN[:2], ""}
    systems = result.scores["systems"]
    assert list(systems) == ["direct", "cascade", "text", "lookup"]
    assert systems["direct"]["pairs"]["de-en"]["rows"] == 4
    assert systems["direct"]["unseen"]["pairs"]["de-en"]["rows"] == 2
    without = evaluate(
        decoder(), manifest, tmp_path / "no", train_manifest=tmp_path / "train.jsonl", lookup=False, show=False
    )
    assert without.scores["systems"] == {name: systems[name] for name in ("direct", "cascade", "text")}


def test_hours_of_training_stand_in_the_table(manifest: Path, tmp_path: Path) -> None:
    row = {"source_language": "de", "target_language": "en", "transcript": DE[1], "translation": EN[1]}
    seconds = {"a": 3600.0, "b": 1800.0, "c": None}
    write_manifest([{**row, "id": name, "duration": value} for name, value in seconds.items()], tmp_path / "1.jsonl")
    write_manifest([{**row, "id": "d", "duration": 180.0}, {**row, "id": "e", "source_language": "fr"},
                    {**row, "id": "f", "duration": 1.0, "target_language": None}], tmp_path / "2.jsonl")  # fmt: skip
    training = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    result = evaluate(decoder(), manifest, tmp_path / "out", ["direct"], train_manifest=training, show=False)
    assert result.scores["training"] == {
        "de-en": {"rows": 4, "seconds": 5580.0, "rows_without_duration": 1},
        "fr-en": {"rows": 1, "seconds": 0.0, "rows_without_duration": 1},
    }
    for name in ("table.md", "report.html"):
        page = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert "train h of de-en: 1 rows of unknown length are not in it" in page
    page = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "\n| de | German | high | 1.6 | 4 | " in page
    assert "- none is comparable: not CoVoST 2's test sets, de (4 of 13511 rows)\n" in page


def test_lookup_stays_within_the_languages(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, r1={"source_language": "fr"})
    row = {"id": "t", "source_language": "de", "target_language": "en", "transcript": DE[1], "translation": EN[1]}
    write_manifest([row], tmp_path / "train.jsonl")
    result = evaluate(decoder(), manifest, tmp_path / "out", train_manifest=tmp_path / "train.jsonl", show=False)
    answers = {record["id"]: record["hypothesis"] for record in result.records if record["system"] == "lookup"}
    assert answers["r0"] == EN[1]
    assert "r1" not in answers
    assert result.failed == []
    assert list(result.scores["systems"]["lookup"]["pairs"]) == ["de-en"]
    assert "lookup: no floor for fr-en, of which the training rows have none" in footnotes(result.scores)
    write_manifest([row | {"source_language": "es"}], tmp_path / "train.jsonl")
    result = evaluate(decoder(), manifest, tmp_path / "none", train_manifest=tmp_path / "train.jsonl", show=False)
    assert result.scores["systems"]["lookup"]["pairs"] == {}
    assert "lookup: no floor for de-en, fr-en, of which the training rows have none" in footnotes(result.scores)


def test_tasks(manifest: Path, tmp_path: Path) -> None:
    translated = evaluate(decoder(), manifest, tmp_path / "a", ["direct"], task="translate", show=False)
    assert translated.scores["transcription"] == {}
    assert translated.records[0]["transcript_hypothesis"] is None
    assert translated.scores["rows_without_transcript"] == 0
    transcribed = evaluate(decoder(), manifest, tmp_path / "b", task="transcribe", show=False)
    assert transcribed.scores["systems"] == {}
    assert transcribed.scores["transcription"]["direct"]["pairs"]["de"]["wer"] == pytest.approx(100 / 19)
    assert all(record["hypothesis"] is None for record in transcribed.records)


def test_cascade_of_other_models(manifest: Path, tmp_path: Path) -> None:
    asr, mt = decoder(), decoder()
    asr.heard = [DE[3]] * 4
    mt.dictionary = {DE[3]: "something else"}
    result = evaluate(decoder(), manifest, tmp_path / "out", cascade_asr=asr, cascade_mt=mt, show=False)
    cascade = [record for record in result.records if record["system"] == "cascade"]
    assert {record["transcript_hypothesis"] for record in cascade} == {DE[3]}
    assert {record["hypothesis"] for record in cascade} == {"something else"}
    assert set(result.scores["transcription"]) == {"direct", "cascade"}


def test_interrupted_and_continued_equals_uninterrupted(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"once": decoder(), "twice": decoder()}
    for name in models:
        (tmp_path / name).mkdir()
    monkeypatch.setattr(module, "load_decoder", lambda path, *_: models[Path(path).name])
    evaluate(tmp_path / "once", manifest, tmp_path / "a", batch_size=1, show=False)
    models["twice"].stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path / "twice", manifest, tmp_path / "b", batch_size=1, show=False)
    assert len(read_records(tmp_path / "b")) == 2
    with (tmp_path / "b" / "hypotheses.jsonl").open("a") as file:
        file.write('{"id": "r1", "system": "dir')  # killed while writing
    models["twice"].stop_after, models["twice"].calls = None, []
    evaluate(tmp_path / "twice", manifest, tmp_path / "b", batch_size=1, show=False)
    assert models["twice"].calls.count(("translate", 1)) == 2
    first, second = ((tmp_path / name / "hypotheses.jsonl").read_bytes() for name in ("a", "b"))
    assert first == second
    scores = [read_scores(tmp_path / name) for name in ("a", "b")]
    assert scores[0]["systems"] == scores[1]["systems"]
    # Finished, it is only scored again, and knows what was done without asking the model.
    monkeypatch.setattr(module, "load_decoder", None)
    evaluate(tmp_path / "twice", manifest, tmp_path / "b", ["cascade"], batch_size=1, show=False)
    assert read_scores(tmp_path / "b")["segmentation"] == {"cascade": scores[0]["segmentation"]["cascade"]}
    monkeypatch.setattr(module, "load_decoder", lambda path, *_: models[Path(path).name])
    # Another beam is another evaluation.
    models["twice"].calls = []
    evaluate(tmp_path / "twice", manifest, tmp_path / "b", batch_size=1, beam=1, show=False)
    assert models["twice"].calls.count(("translate", 1)) == 4


def test_failed_rows_are_tried_again(tmp_path: Path) -> None:
    settings = {"beam": 5}
    log = RecordLog(tmp_path, settings)
    fields = dict.fromkeys(("source_language", "target_language", "source", "hypothesis", "reference", "score"))
    record = {**fields, "system": "direct", "transcript_hypothesis": None, "duration": None}
    record |= {"truncated": False, "transcript_truncated": False, "segments": None}
    log.append([{**record, "id": "a", "error": None}, {**record, "id": "b", "error": "no file"}], "direct", 1.5)
    again = RecordLog(tmp_path, settings)
    assert set(again.records) == {("a", "direct")}
    assert again.seconds == {"direct": 1.5}
    assert RecordLog(tmp_path, {"beam": 1}).records == {}
    assert RecordLog(tmp_path, None).records == {}


def test_records_of_other_fields_are_not_continued(tmp_path: Path) -> None:
    """What an earlier version left unfinished is begun anew, and named where it was to be read."""
    (tmp_path / "hypotheses.jsonl").write_text('{"id": "a", "system": "direct", "error": null}\n')
    with pytest.raises(ComSLError, match="line 1: not a hypothesis record .*: run comsl evaluate again"):
        read_records(tmp_path)
    write_json(tmp_path / "state.json", {"settings": {"beam": 5}, "seconds": {"direct": 1.5}})
    log = RecordLog(tmp_path, {"beam": 5})
    assert (log.records, log.seconds) == ({}, {})


def test_several_manifests(tmp_path: Path) -> None:
    for name, language in (("a", "de"), ("b", "fr")):
        (tmp_path / name).mkdir()
        changes = {f"r{i}": {"id": f"{name}{i}", "source_language": language} for i in range(4)}
        make_manifest(tmp_path / name, **changes)
    paths = [tmp_path / name / "test.jsonl" for name in ("a", "b")]
    result = evaluate(decoder(), paths, tmp_path / "out", ["direct"], show=False)
    systems = result.scores["systems"]["direct"]
    assert set(systems["pairs"]) == {"de-en", "fr-en"}
    assert systems["averages"]["bleu"]["high"]["languages"] == 2
    assert result.scores["manifests"] == [str(path) for path in paths]
    pattern = evaluate(decoder(), tmp_path / "*" / "test.jsonl", tmp_path / "pattern", ["direct"], show=False)
    assert pattern.scores["manifests"] == [str(path) for path in paths]
    assert pattern.scores["systems"] == result.scores["systems"]


def test_what_a_pattern_names_may_not_change_unnoticed(tmp_path: Path) -> None:
    make_manifest(tmp_path)
    options = DecodingOptions()
    before = decoding_settings({"model": "m"}, tmp_path / "t*.jsonl", None, "both", options)
    assert decoding_settings({"model": "m"}, tmp_path / "t*.jsonl", None, "both", options) == before
    make_manifest(tmp_path, r0={"translation": "another"})
    assert decoding_settings({"model": "m"}, tmp_path / "t*.jsonl", None, "both", options) != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"systems": ["oracle"]}, "unknown system 'oracle': known are direct, cascade, mixed, pooled, memory, text"),
        ({"task": "summarise"}, "unknown task"),
        ({"normaliser": "fancy"}, "unknown normaliser"),
        ({"systems": []}, "no system"),
        ({"systems": ["text"], "task": "transcribe"}, "text only translates"),
        ({"systems": ["direct", "text"], "task": "transcribe"}, "text only translates"),
        ({"systems": ["direct", "pooled", "mixed"], "task": "transcribe"}, "mixed and pooled only translates"),
    ],
)
def test_wrong_usage(manifest: Path, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(decoder(), manifest, tmp_path / "out", **arguments)


def test_what_no_row_has_is_wrong_usage(tmp_path: Path) -> None:
    row = {"id": "a", "source_language": "de", "target_language": "en", "transcript": "x", "translation": "y"}
    write_manifest([row], tmp_path / "text.jsonl")
    with pytest.raises(UsageError, match="no row has audio"):
        evaluate(decoder(), tmp_path / "text.jsonl", tmp_path / "out")
    assert evaluate(decoder(), tmp_path / "text.jsonl", tmp_path / "out", ["text"], show=False).ok
    write_manifest([{**row, "transcript": None, "audio": "a.wav"}], tmp_path / "heard.jsonl")
    with pytest.raises(UsageError, match="no row has a transcript to score"):
        evaluate(decoder(), tmp_path / "heard.jsonl", tmp_path / "out", task="transcribe")
    write_manifest([{**row, "translation": None}], tmp_path / "mono.jsonl")
    with pytest.raises(UsageError, match="no row has a translation"):
        evaluate(decoder(), tmp_path / "mono.jsonl", tmp_path / "out", ["text"])


def test_a_model_that_cannot_be_loaded_is_no_fault_of_the_rows(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ComSLError, match="empty"):
        evaluate(tmp_path / "empty", manifest, tmp_path / "out")


def test_real_model(tmp_path: Path) -> None:
    from tests.tiny import tiny_comsl, waveform

    model, processor = tiny_comsl(tmp_path / "model")
    # Random weights like language tokens best, which are no text.
    unwanted = [*processor.languages.values(), *processor.tokenizer.all_special_ids]
    model.text_model.final_logits_bias[:, unwanted] = -1e4
    model.save_pretrained(tmp_path / "model")
    log = [{"step": step, "kind": "train", "loss": 3.0 / step, "st": 2.0 / step} for step in range(1, 6)]
    log.append({"step": 5, "kind": "dev", "dev_bleu": 12.5})
    (tmp_path / "model" / "train_log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    manifest = make_manifest(tmp_path)
    for index in range(4):
        soundfile.write(tmp_path / f"{index}.wav", waveform(0.5 + 0.1 * index, seed=index), 16_000)
    arguments: dict[str, Any] = {"beam": 2, "max_new_tokens": 6, "n_bootstrap": 50, "device": "cpu"}
    result = evaluate(tmp_path / "model", manifest, tmp_path / "out", batch_size=3, show=False, **arguments)
    assert result.ok
    assert len(result.records) == 12
    assert result.scores["curves"]["development set"]["bleu"] == [(5, 12.5)]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2, "learning curves and an attention picture"
    assert "http" not in page
    assert any(record["hypothesis"] for record in result.records if record["system"] == "direct")
    alone = evaluate(tmp_path / "model", manifest, tmp_path / "alone", batch_size=1, show=False, **arguments)
    assert [r["hypothesis"] for r in alone.records] == [r["hypothesis"] for r in result.records]


def test_the_attention_picture_is_of_one_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from comsl.evaluation.systems import ModelDecoder, PreparedClip
    from tests.tiny import tiny_comsl, waveform

    lengths = (0.6, 3.9, 4.0, 0.7)
    manifest = make_manifest(tmp_path, **{f"r{index}": {"duration": value} for index, value in enumerate(lengths)})
    for index, seconds in enumerate(lengths):
        soundfile.write(tmp_path / f"{index}.wav", waveform(seconds, seed=index), 16_000)
    model = ModelDecoder(*tiny_comsl(tmp_path / "model"), DecodingOptions(beam=1, max_new_tokens=3))
    answer = [Hypothesis("the old man", -1.0, [5])]
    monkeypatch.setattr(model, "speech", lambda clips, *rest: [answer * len(clips) for _ in rest[2]])
    whole = model.prepare

    def prepare(samples: np.ndarray) -> PreparedClip:
        cut = len(samples) > 3 * 16_000
        return PreparedClip(whole(samples).parts * (2 if cut else 1), not cut)

    monkeypatch.setattr(model, "prepare", prepare)
    arguments: dict[str, Any] = {"task": "translate", "n_bootstrap": 0, "show": False}
    result = evaluate(model, manifest, tmp_path / "out", ["direct"], **arguments)
    assert result.scores["attention"].startswith("r3:"), "the longest that was decoded whole"
    monkeypatch.setattr(model, "prepare", lambda samples: PreparedClip([], whole=False))
    assert evaluate(model, manifest, tmp_path / "silent", ["direct"], **arguments).scores["attention"] is None
    assert not (tmp_path / "silent" / "attention.png").exists()


def test_a_memory_answers_without_a_transcript_and_is_part_of_the_settings(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from tests.tiny import tiny_comsl, waveform

    manifest = make_manifest(tmp_path, **{f"r{index}": {"duration": 1.0} for index in range(4)})
    for index in range(4):
        soundfile.write(tmp_path / f"{index}.wav", waveform(1.0, seed=index), 16_000)
    tiny_comsl(tmp_path / "model", ctc_vocabulary=["<blank>", *" abcdefghijklmnopqrstuvwxyz"])

    def run(memory: Path | None, *systems: str) -> Evaluation:
        arguments: dict[str, Any] = {"options": DecodingOptions(beam=1, max_new_tokens=2), "n_bootstrap": 0}
        return evaluate(tmp_path / "model", manifest, tmp_path / "out", systems, memory=memory, show=False, **arguments)

    pairs = itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=2)  # whatever a random head hears is like one
    rows = [{"source_language": "de", "target_language": "en", "transcript": "".join(pair)} for pair in pairs]
    memory = tmp_path / "memory.jsonl"
    write_manifest([{**row, "id": str(n), "translation": "from memory"} for n, row in enumerate(rows)], memory)
    result = run(memory, "memory")
    assert {record["transcript_hypothesis"] for record in result.records} == {None}
    assert {record["hypothesis"] for record in result.records} <= {"from memory", ""}
    assert "from memory" in {record["hypothesis"] for record in result.records}
    assert result.scores["transcription"] == {}
    settings = TranslationMemory([], 1.0).settings
    assert result.scores["memory"] == {"manifests": [str(memory)], "settings": settings, "rows_in_it": 0}
    assert "0 of the rows are in it" in (tmp_path / "out" / "table.md").read_text()
    # Another content of the same file: nothing of the earlier answers is taken over.
    write_manifest([{**row, "id": str(n), "translation": "other words"} for n, row in enumerate(rows)], memory)
    assert "other words" in {record["hypothesis"] for record in run(memory, "memory").records}
    run(manifest, "pooled")
    assert "4 of the 4 rows are in it" in " ".join(capfd.readouterr().err.split())
    with pytest.raises(UsageError, match="name its manifest"):
        run(None, "memory", "direct")
    with pytest.raises(UsageError, match="only memory and pooled use it"):
        run(memory, "direct")
    with pytest.raises(ComSLError, match=r"none\.jsonl"):
        run(tmp_path / "none.jsonl", "memory")
