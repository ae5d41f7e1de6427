"""Texts that another system made, scored through the same code as our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sacrebleu.metrics import BLEU

from comsl import cli
from comsl.data.manifest import write_manifest
from comsl.errors import UsageError
from comsl.evaluation.evaluate import evaluate
from comsl.evaluation.external import HypothesesError, score_external
from comsl.evaluation.records import read_records, read_scores
from comsl.evaluation.significance import compare
from comsl.inference.decode import Hypothesis

EN = ["the old man sees a house", "she buys three red apples", "we leave at four o'clock", "that is good"]
DE = ["der alte mann sieht ein haus", "sie kauft drei rote äpfel", "wir gehen um vier uhr", "das ist gut"]
SAID = ["the old man sees a house", "", "we leave at\u2028four o'clock", " that  is good"]


def manifest(folder: Path, source: str = "de", rows: int = 4) -> Path:
    path = folder / f"{source}.jsonl"
    texts = zip(DE[:rows], EN[:rows], strict=True)
    write_manifest(
        [
            {"id": f"{source}{n}", "audio": f"{n}.mp3", "duration": 1.0, "source_language": source,
             "target_language": "en", "transcript": heard, "translation": said}
            for n, (heard, said) in enumerate(texts)
        ],
        path,
    )  # fmt: skip
    return path


def lines(path: Path, texts: list[str], end: str = "\n") -> Path:
    path.write_bytes("".join(text + end for text in texts).encode())
    return path


def entries(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def test_lines_of_text(tmp_path: Path) -> None:
    result = score_external(
        manifest(tmp_path), [lines(tmp_path / "a.txt", SAID)], "theirs", tmp_path / "out", show=False
    )
    assert [made["hypothesis"] for made in read_records(tmp_path / "out")] == SAID, "to the letter"
    scores = read_scores(tmp_path / "out")["systems"]["theirs"]["pairs"]["de-en"]
    assert scores["bleu"]["score"] == pytest.approx(BLEU().corpus_score(SAID, [EN]).score)
    assert (scores["rows"], scores["empty"], scores["failed"]) == (4, 1, 0)
    assert result.ok
    table = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "| de | German | high | 4 |" in table
    assert f"- decoding: done elsewhere, read from {tmp_path / 'a.txt'}; 4 rows" in table
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    path = lines(tmp_path / "a.txt", SAID, end)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().removesuffix(end.encode()))  # a BOM, and no end at the end
    records = score_external(manifest(tmp_path), [path], "theirs", tmp_path / "out", show=False).records
    assert [made["hypothesis"] for made in records] == SAID


def test_the_same_texts_score_the_same_as_our_own(tmp_path: Path) -> None:
    class Said:
        """A text model that says what the file has."""

        longest_whole = 1.0

        def text(self, texts: Any, sources: Any, targets: Any) -> list[Hypothesis]:
            return [Hypothesis(SAID[DE.index(text)], -1.0) for text in texts]

        def check_language(self, code: str) -> None: ...
        def check_hearing(self, system: str) -> None: ...

    path: Any = manifest(tmp_path)
    ours = evaluate(Said(), path, tmp_path / "ours", ["text"], show=False)  # type: ignore[arg-type]
    theirs = score_external(path, [lines(tmp_path / "a.txt", SAID)], "theirs", tmp_path / "theirs", show=False)
    assert theirs.scores["systems"]["theirs"] == ours.scores["systems"]["text"]
    assert compare(tmp_path / "ours", tmp_path / "theirs", "text", "theirs", n_samples=10).pairs["de-en"][
        "bleu"
    ].difference == pytest.approx(0)


def test_objects_with_ids_in_any_order_and_transcripts(tmp_path: Path) -> None:
    both = [manifest(tmp_path), manifest(tmp_path, "fr", 2)]
    said = [{"id": f"fr{n}", "hypothesis": EN[n], "more": 1} for n in (1, 0)]
    said += [{"id": f"de{n}", "hypothesis": SAID[n]} for n in (2, 0, 3, 1)]
    heard = [
        *({"id": f"de{n}", "transcript": DE[n]} for n in range(4)),
        *({"id": f"fr{n}", "transcript": ""} for n in (0, 1)),
    ]
    result = score_external(
        both,
        [entries(tmp_path / "said.jsonl", said)],
        "theirs",
        tmp_path / "out",
        transcripts=[entries(tmp_path / "heard.jsonl", heard)],
        show=False,
    )
    assert [made["id"] for made in result.records] == ["de0", "de1", "de2", "de3", "fr0", "fr1"]
    assert [made["hypothesis"] for made in result.records] == [*SAID, *EN[:2]]
    rates = result.scores["transcription"]["theirs"]["pairs"]
    assert (rates["de"]["wer"], rates["fr"]["wer"], rates["fr"]["empty"]) == (0, 100, 2)
    by_line = score_external(
        both,
        [lines(tmp_path / "de.txt", SAID), lines(tmp_path / "fr.txt", EN[:2])],
        "theirs",
        tmp_path / "lines",
        transcripts=[lines(tmp_path / "de.heard", DE), lines(tmp_path / "fr.heard", ["", ""])],
        show=False,
    )
    assert by_line.records == result.records
    pattern = score_external(
        tmp_path / "??.jsonl", [tmp_path / "de.txt", tmp_path / "fr.txt"], "theirs", tmp_path / "pattern", show=False
    )
    assert pattern.scores["manifests"] == [str(path) for path in both], "in the order of their names"
    assert pattern.scores["systems"] == result.scores["systems"]
    assert by_line.scores["systems"] == result.scores["systems"]


def test_a_number_of_lines_that_is_not_that_of_the_rows(tmp_path: Path) -> None:
    both = [manifest(tmp_path), manifest(tmp_path, "fr", 2)]
    files = [lines(tmp_path / "de.txt", SAID[:3]), lines(tmp_path / "fr.txt", EN[:3])]
    with pytest.raises(HypothesesError) as caught:
        score_external(both, files, "theirs", tmp_path / "out")
    assert str(caught.value) == (
        f"{files[0]}: 3 lines for the 4 rows of {both[0]}; 'de3' and what follows have none; "
        f"{files[1]}: 3 lines for the 2 rows of {both[1]}; line 3 has no row. "
        "Write one line a row, an empty one where there is no text"
    )
    assert not (tmp_path / "out").exists(), "nothing is begun"
    with pytest.raises(UsageError, match="1 files of text for 2 manifests"):
        score_external(both, files[:1], "theirs", tmp_path / "out")
    with pytest.raises(HypothesesError, match="0 lines for the 4 rows"):
        score_external(both[0], [lines(tmp_path / "none.txt", [])], "theirs", tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "de0", "hypothesis": "a"}\n', r"3 of 4 rows are missing: 'de1', 'de2', 'de3'; where there is no text"),
        ("".join(f'{{"id": "x{n}", "hypothesis": ""}}\n' for n in range(7)), "7 ids are of no row .*'x4' and 2 more"),
        ('{"id": "de0", "hypothesis": "a"}\n\n{"id": "de0", "hypothesis": "b"}\n', "line 3: the id 'de0' occurs twice"),
        ('{"id": "de0", "hypothesis": "a"}\nde1 b\n', "line 2: not a JSON object"),
        ('["de0", "a"]\n', 'line 1: not a JSON object with "id" and "hypothesis"'),
        ('{"id": "de0", "hypothesis": null}\n', 'line 1: "hypothesis" must be a string, empty for no text'),
        ('{"hypothesis": "a"}\n', 'line 1: "id" must be a string'),
    ],
)
def test_objects_that_do_not_fit(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(HypothesesError, match=message):
        score_external(manifest(tmp_path), [tmp_path / "a.jsonl"], "theirs", tmp_path / "out")


def test_other_wrong_input(tmp_path: Path) -> None:
    path, good = manifest(tmp_path), lines(tmp_path / "a.txt", SAID)
    (tmp_path / "latin.txt").write_bytes("a\nb\näpfel\n".encode("latin-1"))
    with pytest.raises(HypothesesError, match="latin.txt, line 3: not UTF-8"):
        score_external(path, [tmp_path / "latin.txt"], "theirs", tmp_path / "out")
    with pytest.raises(HypothesesError, match="absent.txt: cannot be read"):
        score_external(path, [tmp_path / "absent.txt"], "theirs", tmp_path / "out")
    with pytest.raises(UsageError, match="do not go together"):
        score_external(path, [good, entries(tmp_path / "b.jsonl", [])], "theirs", tmp_path / "out")
    for name in ("", " ", "lookup", "a\nb"):
        with pytest.raises(UsageError, match="cannot be called"):
            score_external(path, [good], name, tmp_path / "out")
    with pytest.raises(UsageError, match="unknown normaliser"):
        score_external(path, [good], "theirs", tmp_path / "out", normaliser="fancy")


def test_another_evaluation_is_not_overwritten(tmp_path: Path) -> None:
    path, texts = manifest(tmp_path), [lines(tmp_path / "a.txt", SAID)]
    score_external(path, texts, "direct", tmp_path / "out", show=False)
    with pytest.raises(UsageError, match="holds an evaluation of direct: name another folder"):
        score_external(path, texts, "theirs", tmp_path / "out")
    better = [lines(tmp_path / "b.txt", EN)]
    assert score_external(path, better, "direct", tmp_path / "out", show=False).records[1]["hypothesis"] == EN[1]


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train = manifest(tmp_path, "ca")
    rows = [json.loads(line) | {"source_language": "de"} for line in train.read_text(encoding="utf-8").splitlines()]
    write_manifest(rows[:1], train)
    words = ["score", "--manifest", manifest(tmp_path), "--hypotheses", lines(tmp_path / "a.txt", SAID)]
    words += ["--system", "theirs", "--out", tmp_path / "out", "--train-manifest", train]
    assert cli.main([str(word) for word in words]) == 0
    out = capfd.readouterr().out
    assert str(tmp_path / "out" / "table.md") in out
    scores = read_scores(tmp_path / "out")
    assert list(scores["systems"]) == ["theirs", "lookup"]
    assert scores["systems"]["theirs"]["unseen"]["pairs"]["de-en"]["rows"] == 3
    assert scores["training"] == {"de-en": {"rows": 1, "seconds": 1.0, "rows_without_duration": 0}}
    words = ["compare", tmp_path / "out", tmp_path / "out", "--system", "theirs", "--system-b", "lookup"]
    assert cli.main([str(word) for word in words]) == 0
    lines(tmp_path / "a.txt", SAID[:1])
    words = ["score", "--manifest", tmp_path / "de.jsonl", "--hypotheses", tmp_path / "a.txt", "--system", "theirs"]
    assert cli.main([str(word) for word in [*words, "--out", tmp_path / "out"]]) == 1
    assert "comsl: " in (error := capfd.readouterr().err)
    assert "1 lines for the 4 rows" in error
    assert read_scores(tmp_path / "out") == scores, "what was there is as it was"
