import io
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from comsl.data.audio import load_audio
from comsl.errors import UsageError
from comsl.inference import MODES
from comsl.inference.clips import longest_clip, prepare_clip
from comsl.inference.confidence import Calibration
from comsl.inference.decode import Decoded, DecodingOptions, decode_modes, decode_speech
from comsl.inference.encoding import DecodingError
from comsl.inference.inputs import FileError
from comsl.inference.mbr import chrf
from comsl.inference.memory import Rule, TranslationMemory
from comsl.inference.segment import segment
from comsl.inference.subtitles import FileResult
from comsl.inference.translate import Translator, shipped_model
from comsl.languages import UnknownLanguage
from comsl.model import ComSLForConditionalGeneration, MissingLanguage
from tests.inference.conftest import talkative
from tests.tiny import tiny_comsl, tiny_mbart50

SEARCH = DecodingOptions(max_new_tokens=8)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "comsl"
    model, processor = tiny_comsl(path)
    talkative(model, processor)
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def translator(directory):
    return Translator.from_pretrained(directory, device="cpu")


def run(translator, files, **settings):
    settings = {"source": "de", "beam": 2, "decoding": SEARCH} | settings
    return list(translator.translate(files, **settings))


def test_one_file(translator, folder):
    (result,) = run(translator, folder / "talk.wav", max_joined=0.0)
    assert isinstance(result, FileResult)
    assert (result.file, result.source, result.target) == (str(folder / "talk.wav"), "de", "en")
    assert result.transcript is None
    assert len(result.segments) == 4
    assert result.translation == " ".join(part.translation for part in result.segments if part.translation)
    assert result.text == result.translation != ""
    assert all(part.score < 0 and part.transcript is None for part in result.segments)
    assert 1.0 < result.segments[0].end < result.segments[-1].end <= result.duration


def test_a_clip_with_hesitations_is_decoded_whole(translator, sentences, tmp_path):
    """As evaluation decodes it: pauses up to two seconds do not cut what fits into the model."""
    import numpy as np
    import soundfile

    pause = np.zeros(round(1.2 * 16_000), np.float32)
    clip = np.concatenate([sentences[1], pause, sentences[2]])
    soundfile.write(tmp_path / "clip.wav", clip, 16_000)
    (result,) = run(translator, tmp_path / "clip.wav")
    assert [(part.start, part.end) for part in result.segments] == [(0.0, result.duration)]
    clips = [prepare_clip(clip, translator.processor)]
    options = replace(SEARCH, beam=2)
    (whole,) = decode_speech(translator.model, translator.processor, clips, "de", "en", "translate", options)
    assert result.translation == whole.text != ""
    assert len(run(translator, tmp_path / "clip.wav", max_joined=0.0)[0].segments) == 2


def test_order_and_batch_size(translator, folder):
    """Results in input order, the same whatever the batches; good files among bad ones."""
    names = ["d", "missing", "talk", "empty", "silence", "a", "text", "blip", "c", "short", "nan", "b", "talk"]
    files = [folder / f"{name}.wav" for name in names]
    results = run(translator, files)
    assert [result.file for result in results] == [str(file) for file in files]
    bad = {"missing", "empty", "text", "blip", "nan"}
    assert [isinstance(result, FileError) for result in results] == [name in bad for name in names]
    for result in results:
        if isinstance(result, FileError):
            assert result.message.startswith(f"{result.file}: ")
            assert "\n" not in result.message
    for batch_size in (1, 3, 50):
        again = run(translator, files, batch_size=batch_size, progress=batch_size == 3)
        for first, second in zip(results, again, strict=True):
            if isinstance(first, FileError):
                assert first == second
                continue
            assert first.translation == second.translation
            assert [part.score for part in first.segments] == pytest.approx(
                [part.score for part in second.segments], abs=1e-5
            )
    alone = run(translator, folder / "a.wav")[0]
    assert alone.translation == results[5].translation


@pytest.mark.parametrize("progress", [False, True])
def test_results_come_as_they_are_ready(translator, folder, monkeypatch, progress):
    """Files are read as the work goes on, not all of them first."""
    from comsl.inference import translate

    read = []
    load = translate.load_recording
    monkeypatch.setattr(translate, "load_recording", lambda source, *rest: read.append(source) or load(source, *rest))
    results = translator.translate(
        [folder / "a.wav"] * 40, "de", beam=1, batch_size=1, decoding=SEARCH, progress=progress
    )
    assert read == []
    next(results)
    assert len(read) < 12


def test_a_long_file_holds_a_window_of_features_at_most(translator, folder, monkeypatch):
    """And is the same from a temporary file as from memory."""
    from comsl.inference import translate

    counts = {"made": 0, "decoded": 0}
    ahead = []
    prepare, decode = translate.prepare_clip, translate.decode_modes

    def count_made(*arguments):
        counts["made"] += 1
        ahead.append(counts["made"] - counts["decoded"])
        return prepare(*arguments)

    def count_decoded(model, processor, clips, *rest, **settings):
        counts["decoded"] += len(clips)
        return decode(model, processor, clips, *rest, **settings)

    monkeypatch.setattr(translate, "prepare_clip", count_made)
    monkeypatch.setattr(translate, "decode_modes", count_decoded)
    monkeypatch.setattr(translate, "WINDOW_BATCHES", 3)
    settings = {"max_joined": 0.0, "min_pause": 0.1, "beam": 1, "batch_size": 1}
    (expected,) = run(translator, folder / "talk.wav", **settings)
    assert counts["made"] == counts["decoded"] == len(expected.segments) > 3
    assert max(ahead) == 3
    monkeypatch.setattr("comsl.data.recording.IN_MEMORY", 1000)
    assert run(translator, folder / "talk.wav", **settings) == [expected]


def test_a_segment_without_features_is_an_error_of_its_file(translator, folder, monkeypatch):
    """Met while others of the file have been decoded already."""
    from comsl.inference import translate
    from comsl.model import FeatureError

    calls = []

    def prepare(samples, processor):
        calls.append(len(samples))
        if len(calls) == 4:
            raise FeatureError("a clip of 3 samples is too short")
        return prepare_clip(samples, processor)

    monkeypatch.setattr(translate, "prepare_clip", prepare)
    files = [folder / "talk.wav", folder / "a.wav"]
    failed, good = run(translator, files, max_joined=0.0, beam=1, batch_size=1)
    assert failed == FileError(str(files[0]), f"{files[0]}: a clip of 3 samples is too short")
    assert good.translation


def test_a_text_that_was_cut_at_its_limit_says_so(translator, folder, monkeypatch):
    """Of segments, and of the file whose segment it is; of either text where there are two."""
    from comsl.inference import translate

    decode = translate.decode_modes

    def cut_the_transcript(*arguments, **settings):
        return [
            Decoded(
                None if row.transcript is None else replace(row.transcript, truncated=True),
                {mode: replace(text, truncated=False) for mode, text in row.translations.items()},
            )
            for row in decode(*arguments, **settings)
        ]

    monkeypatch.setattr(translate, "decode_modes", cut_the_transcript)
    for task, truncated in (("translate", False), ("transcribe", True), ("both", True)):
        speech, silence = run(translator, [folder / "a.wav", folder / "silence.wav"], task=task)
        assert [part.truncated for part in speech.segments] == [truncated]
        assert (speech.truncated, silence.truncated) == (truncated, False)


@pytest.mark.parametrize("task", ["translate", "transcribe", "both"])
def test_tasks(translator, folder, task):
    speech, silence = run(translator, [folder / "a.wav", folder / "silence.wav"], task=task)
    for result in (speech, silence):
        assert (result.transcript is None) == (task == "translate")
        assert (result.translation is None) == (task == "transcribe")
        assert result.target == ("de" if task == "transcribe" else "en")
    assert silence.segments == []
    assert (silence.transcript or "") == (silence.translation or "") == ""
    assert speech.text
    if task == "both":
        transcript = run(translator, folder / "a.wav", task="transcribe")[0].transcript
        assert speech.transcript == transcript


def test_the_example_of_the_readme(translator, folder, tmp_path, monkeypatch, capsys):
    """With a file that can be used, and with one that cannot."""
    readme = Path(__file__).parents[2] / "README.md"
    code = readme.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    monkeypatch.setattr(Translator, "from_pretrained", lambda *_: translator)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out == "clip.mp3: no such file; check the path\n"
    shutil.copy(folder / "a.wav", "clip.mp3")
    exec(code, {})
    (result,) = translator.translate("clip.mp3", "de")
    assert capsys.readouterr().out == f"clip.mp3 {result.translation}\n"


def test_the_clip_of_the_readme_with_the_shipped_model():
    root = Path(__file__).parents[2]
    readme = (root / "README.md").read_text(encoding="utf-8").splitlines()
    line = next(line for line in readme if "comsl translate docs/clip.mp3" in line)
    (result,) = Translator.from_pretrained(device="cpu").translate([root / "docs" / "clip.mp3"], "de")
    assert result.translation == line.split("# ")[1]


def test_stdin(translator, folder, monkeypatch):
    stdin = SimpleNamespace(buffer=io.BytesIO((folder / "a.wav").read_bytes()), isatty=lambda: False)
    monkeypatch.setattr("sys.stdin", stdin)
    piped, missing = run(translator, ["-", "-"])  # the second finds stdin empty
    assert piped.file == "-"
    assert piped.translation == run(translator, folder / "a.wav")[0].translation
    assert missing.message.startswith("-: ")


def test_languages(translator, folder):
    with pytest.raises(UnknownLanguage):
        translator.translate(["missing.wav"], "deutschh")
    with pytest.raises(MissingLanguage, match="de, en"):
        translator.translate(["missing.wav"], "mdw")
    with pytest.raises(UsageError, match="task"):
        translator.translate(["missing.wav"], "de", task="sing")
    assert next(iter(translator.translate([folder / "a.wav"], "zh-CN", beam=1, decoding=SEARCH))).source == "zh"


def test_a_target_that_training_did_not_teach_is_said(translator, folder, monkeypatch, caplog):
    monkeypatch.setattr(translator.model.config, "translation_targets", ["en", "fr"])
    for target in ("en", "zh"):
        translator.translate([folder / "a.wav"], "de", target)
    translator.translate([folder / "a.wav"], "zh", task="transcribe")
    message = "the model was trained to translate into en, fr; into zh it may write anything"
    assert [record.message for record in caplog.records] == [message]
    caplog.clear()
    monkeypatch.setattr(translator.model.config, "translation_targets", [])  # all of them were trimmed away
    translator.translate([folder / "a.wav"], "de", "zh")
    assert "into no language that it has; into zh" in caplog.records[0].message


def test_long_speech_is_cut_to_what_the_model_takes(translator, sentences, tmp_path):
    import numpy as np
    import soundfile

    sentence = np.concatenate([sentences[0], sentences[3]])
    soundfile.write(tmp_path / "long.wav", np.tile(sentence, 4), 16_000)
    (result,) = run(translator, tmp_path / "long.wav")
    assert result.duration > 20
    assert len(result.segments) >= 3
    assert result.segments[0].start == 0
    assert result.segments[-1].end == pytest.approx(result.duration)
    assert all(part.end - part.start < 126 / 12.5 for part in result.segments)


def test_model_in_half_precision_on_disk_runs_in_full_on_the_cpu(directory, tmp_path):
    model = ComSLForConditionalGeneration.from_pretrained(directory).half()
    model.save_pretrained(tmp_path)
    from comsl.model import ComSLProcessor

    ComSLProcessor.from_pretrained(directory).save_pretrained(tmp_path)
    assert Translator.from_pretrained(tmp_path, device="cpu").model.dtype == torch.float32


def test_precisions(directory):
    """int8 of what is shipped: the same sentence, in a model that is half as large as float32."""
    from comsl.inference.precision import PrecisionError, weight_bytes

    clip = Path(__file__).parents[2] / "docs" / "clip.mp3"
    exact, small = (Translator.from_pretrained(device="cpu", precision=name) for name in ("float32", "int8"))
    texts = [next(iter(translator.translate(clip, "de"))).translation for translator in (exact, small)]
    assert texts[0] == texts[1]
    assert weight_bytes(small.model) < 0.5 * weight_bytes(exact.model)
    with pytest.raises(PrecisionError, match="int8 is for the CPU"):
        Translator.from_pretrained("is/not-looked-for", device="cuda", precision="int8")


def test_wrong_models(tmp_path):
    from comsl.errors import ComSLError

    with pytest.raises(ComSLError, match="nowhere"):
        Translator.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(ComSLError, match="not a ComSL model"):
        Translator.from_pretrained(tiny_mbart50(tmp_path / "text"))


def test_the_way_to_translation_imports_nothing_of_training():
    check = "import sys, comsl.inference.translate; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(done.stdout.split())
    assert not loaded & {"datasets", "pandas", "pyarrow", "matplotlib", "sklearn", "sacrebleu", "jsonargparse", "peft"}


HELD_OUT = {
    "Das Pferd ist kleiner als der Bär.": "The horse is smaller than the bear.",
    "Wir werden in der Nacht den alten Hund sehen.": "We will see the old dog at night.",
    "Die Frau hat drei Pferde getragen.": "The woman has carried three horses.",
    "Mein König ist nicht hinter der Tasche.": "My king is not behind the bag.",
}


def test_the_shipped_model_understands_german(tmp_path):
    """Sentences and voices that it was not trained on."""
    import jiwer
    import sacrebleu
    import soundfile

    from comsl.demo.grammar import held_out
    from comsl.demo.speech import TEST_VARIANTS, Voice, synthesize

    assert HELD_OUT.items() <= {pair.source: pair.english for pair in held_out("de", "dev")}.items()
    files = [tmp_path / f"{place}.wav" for place in range(len(HELD_OUT))]
    for file, text, variant in zip(files, HELD_OUT, TEST_VARIANTS, strict=False):
        soundfile.write(file, synthesize(text, Voice("de", variant), silence=(0.1, 0.1)), 16_000)
    translator = Translator.from_pretrained(shipped_model(), device="cpu")
    results = list(translator.translate(files, "de", task="both"))
    assert all(isinstance(result, FileResult) for result in results)
    heard = [result.transcript for result in results]
    assert jiwer.cer(list(HELD_OUT), heard) < 0.3, heard
    translated = [result.translation for result in results]
    assert sacrebleu.corpus_chrf(translated, [list(HELD_OUT.values())]).score > 70, translated


def test_modes_and_confidence_of_files(translator, folder):
    """What a file gives is what its clip gives; confidence is the calibration's of the agreement that is shown."""
    model, processor = translator.model, translator.processor
    calibration = Calibration(
        {"mixed": [0.5, 2.0, -1.0, 0.25]}, replace(SEARCH, beam=2).outcome(), [], {"mixed": 60}, None
    )
    calibrated = Translator(model, processor, calibration)
    (plain,) = run(translator, folder / "a.wav", task="both", mode="mixed")
    (result,) = run(calibrated, folder / "a.wav", task="both", mode="mixed", confidence=True)
    (unsure,) = run(translator, folder / "a.wav", mode="pooled", confidence=True)
    waveform = load_audio(str(folder / "a.wav"))
    (heard,) = segment(waveform, longest_clip(model, processor))
    clip = prepare_clip(heard.samples(waveform), processor)
    options = replace(SEARCH, beam=2)
    (found,) = decode_modes(model, processor, [clip], "de", "en", MODES[:4], options, transcribe=True)
    direct, cascade = found.translations["direct"], found.translations["cascade"]
    wanted = (chrf(direct.text, cascade.text) + chrf(cascade.text, direct.text)) / 2
    (part,) = result.segments
    assert (part.transcript, part.translation) == (found.transcript.text, found.translations["mixed"].text)
    assert part.score == pytest.approx(found.translations["mixed"].score, abs=1e-5)
    assert part.agreement == pytest.approx(wanted)
    odds = 0.5 + 2.0 * wanted - math.exp(direct.score) + 0.25 * math.exp(cascade.score)
    assert result.confidence == part.confidence == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-5)
    assert plain.translation == result.translation
    assert (plain.segments[0].agreement, plain.confidence) == (None, None)
    assert (unsure.segments[0].agreement, unsure.confidence) == (pytest.approx(wanted), None)
    assert unsure.translation == found.translations["pooled"].text
    assert unsure.transcript is None, "made, but not asked for"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "both"}, "unknown mode 'both': use one of direct, cascade, mixed, pooled, memory"),
        ({"task": "transcribe", "mode": "mixed"}, "modes and confidence are of translations"),
        ({"task": "transcribe", "confidence": True}, "modes and confidence are of translations"),
        ({"decoding": DecodingOptions(transcript="ctc")}, "no CTC head"),
        ({"decoding": DecodingOptions(mbr=5), "beam": 2}, "mbr: 5 candidates are not between 0 and what a beam of 2"),
        ({"confidence": True, "beam": 3}, "calibrated with beam 2, not 3"),
        ({"confidence": True, "mode": "pooled"}, "not calibrated for the mode pooled"),
    ],
)
def test_settings_that_do_not_fit_are_wrong_usage_before_any_file(translator, settings, message):
    calibration = Calibration({"direct": [0.0] * 4}, replace(SEARCH, beam=2).outcome(), [], {"direct": 60}, None)
    with pytest.raises(UsageError, match=message):
        run(Translator(translator.model, translator.processor, calibration), "missing.wav", **settings)


def test_pooled_with_a_memory_is_another_thing_than_without(translator, monkeypatch):
    weights = {"pooled": [0.0] * 4, "direct": [0.0] * 4}
    options = replace(SEARCH, beam=2)
    rows = [("de", "en", "ja", "yes")]
    settings = TranslationMemory(rows, 2.0).settings
    without, with_one = (Calibration(weights, options.outcome(), [], {}, listened) for listened in (None, settings))
    without.check(options, "pooled")
    with_one.check(options, "pooled", settings)
    with_one.check(options, "direct")
    with pytest.raises(UsageError, match="calibrated with --memory and --memory-gap 2, not without --memory: evaluate"):
        with_one.check(options, "pooled")
    with pytest.raises(UsageError, match="calibrated with a memory that chose by another rule: evaluate"):
        with_one.check(options, "pooled", TranslationMemory(rows, 2.0, rule=Rule(hearings=0)).settings)
    memory = TranslationMemory(rows, 1.5)
    model, processor = translator.model, translator.processor
    monkeypatch.setattr("comsl.inference.translate.check_memory", lambda *_: None)  # it has no CTC head
    with pytest.raises(UsageError, match="calibrated without --memory, not with --memory and --memory-gap 1.5"):
        run(Translator(model, processor, without), "missing.wav", mode="pooled", confidence=True, memory=memory)


def test_a_segment_that_cannot_be_decoded_costs_its_own_file_only(translator, folder, monkeypatch):
    """Too long together with its transcript, in one batch with others."""
    from comsl.inference import translate

    decode = translate.decode_modes
    sizes = []

    def refuse(model, processor, clips, *rest, **settings):
        sizes.append(len(clips))
        if any(clip.seconds > 3.0 for clip in clips):
            raise DecodingError("a transcript and its speech take 130 positions together")
        return decode(model, processor, clips, *rest, **settings)

    monkeypatch.setattr(translate, "decode_modes", refuse)
    files = [folder / f"{name}.wav" for name in "abc"]
    long, *others = run(translator, files, batch_size=3)
    assert long == FileError(str(files[0]), f"{files[0]}: a transcript and its speech take 130 positions together")
    assert all(result.translation for result in others)
    assert sizes == [3, 1, 1, 1]


def test_a_calibration_lies_beside_the_model(directory, tmp_path):
    assert Translator.from_pretrained(directory, device="cpu").calibration is None
    shutil.copytree(directory, tmp_path / "model")
    calibration = Calibration({"direct": [0.0, 1.0, 2.0, 3.0]}, SEARCH.outcome(), ["dev.jsonl"], {"direct": 60}, None)
    calibration.save(tmp_path / "model" / "confidence.json")
    assert Translator.from_pretrained(tmp_path / "model", device="cpu").calibration == calibration
