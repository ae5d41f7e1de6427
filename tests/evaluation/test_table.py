"""The table of languages and the published figures beside it, against lines written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from comsl.evaluation.metrics import averages
from comsl.evaluation.published import covost_test_rows, load_published, side
from comsl.evaluation.table import Sheet, markdown, sheets
from comsl.languages import COVOST_TARGETS, LEVELS

INTO_ENGLISH = [code for codes in LEVELS.values() for code in codes]


def pair(bleu: float, rows: int, ci: float | None = 0.5, **counts: int) -> dict[str, Any]:
    metric = {"score": bleu, "ci": ci, "signature": "nrefs:1|case:mixed|tok:13a"}
    return {
        "bleu": metric,
        "chrf": {**metric, "score": bleu + 20},
        "rows": rows,
        "empty": 0,
        "failed": 0,
        "truncated": 0,
        **counts,
    }


def result(pairs: dict[str, Any]) -> dict[str, Any]:
    means = {kind: averages({name: found[kind]["score"] for name, found in pairs.items()}) for kind in ("bleu", "chrf")}
    return {"pairs": pairs, "averages": means}


def rates(values: dict[str, float], characters: tuple[str, ...] = ()) -> dict[str, Any]:
    pairs = {
        code: {"wer": wer, "cer": wer, "normaliser": "basic/characters" if code in characters else "basic", "rows": 9,
               "empty": 0, "failed": 0, "truncated": 0}
        for code, wer in values.items()
    }  # fmt: skip
    return {"pairs": pairs, "averages": {key: averages(values) for key in ("wer", "cer")}}


def scores(systems: dict[str, Any], transcription: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "model": "runs/a|b",
        "rows": 9,
        "audio_seconds": 3600.0,
        "rows_without_duration": 0,
        "manifests": ["test.jsonl"],
        "train_manifests": [],
        "training": {},
        "versions": {"comsl": "0"},
        "created": "now",
        "segmentation": {},
        "decoding": {"beam": 5, "length_penalty": 1.0, "max_new_tokens": None, "device": "cpu"},
        "lowercase": False,
        "systems": systems,
        "transcription": transcription or {},
        **more,
    }


def test_a_row_a_language() -> None:
    direct = {"zh-en": pair(10, 4, failed=1, empty=2), "fr-en": pair(30, 3, truncated=1), "de-en": pair(20, 2, ci=None)}
    text = {"fr-en": pair(41, 3), "de-en": pair(21, 2), "zh-en": pair(11, 4)}
    floor = {"fr-en": pair(5, 3)}
    (table, _) = sheets(
        scores(
            {"direct": result(direct), "text": result(text), "lookup": result(floor)},
            {"direct": rates({"fr": 12.5, "de": 13.5, "zh": 50.0}, ("zh",))},
            train_manifests=["train.jsonl"],
            training={
                "fr-en": {"rows": 9, "seconds": 5400.0, "rows_without_duration": 0},
                "zh-en": {"rows": 9, "seconds": 360.0, "rows_without_duration": 4},
                "it-en": {"rows": 9, "seconds": 3600.0, "rows_without_duration": 3},
            },
        )
    )
    assert table.title == "Translation into English, by language"
    assert [table.head, *table.lines] == [
        ("code", "language", "level", "train h", "rows", "direct BLEU", "direct chrF++", "text BLEU", "text chrF++",
         "lookup BLEU", "lookup chrF++", "WER", "failed", "empty", "truncated"),
        ("fr", "French", "high", "1.5", "3", "30.0 ± 0.5", "50.0 ± 0.5", "41.0 ± 0.5", "61.0 ± 0.5", "5.0 ± 0.5",
         "25.0 ± 0.5", "12.5", "0", "0", "1 / 0"),
        ("de", "German", "high", "0.0", "2", "20.0", "40.0", "21.0 ± 0.5", "41.0 ± 0.5", "-", "-", "13.5",
         "0", "0", "0"),
        ("zh", "Chinese", "mid", "0.1", "4", "10.0 ± 0.5", "30.0 ± 0.5", "11.0 ± 0.5", "31.0 ± 0.5", "-", "-",
         "50.0 (CER)", "1 / 0", "2 / 0", "0"),
        ("mean", "high, over 2 of 4 (without es, ca)", "", "", "", "25.0", "45.0", "31.0", "51.0", "5.0 (over 1)",
         "25.0 (over 1)", "13.0", "", "", ""),
        ("mean", "mid, over 1 of 5 (without fa, it, ru, pt)", "", "", "", "10.0", "30.0", "11.0", "31.0", "-", "-",
         "50.0", "", "", ""),
        ("mean", "all, over 3 of 21", "", "", "", "20.0", "40.0", "24.3", "44.3", "5.0 (over 1)", "25.0 (over 1)",
         "25.3", "", "", ""),
    ]  # fmt: skip
    assert "train h of zh-en: 4 rows of unknown length are not in it" in table.notes
    assert not any("it-en" in note for note in table.notes)
    assert "failed, empty, truncated: direct / text, where these differ" in table.notes


def test_the_whole_of_covost_says_no_more_than_its_size() -> None:
    table = sheets(scores({"direct": result({f"{code}-en": pair(1.0, 9) for code in reversed(INTO_ENGLISH)})}))[0]
    assert [line[0] for line in table.lines] == [*INTO_ENGLISH, "mean", "mean", "mean", "mean"]
    assert [line[1] for line in table.lines[21:]] == ["high (4)", "mid (5)", "low (12)", "all (21)"]
    table = sheets(scores({"direct": result({f"en-{code}": pair(1.0, 9) for code in COVOST_TARGETS})}))[0]
    assert table.title == "Translation from English, by language"
    note = "(Wang et al. 2020, section 4.1), on detokenised text with case, into Chinese and Japanese by character"
    assert any(text.endswith(note) for text in table.notes)
    assert "level" not in table.head
    assert [line[:2] for line in table.lines[-2:]] == [("cy", "Welsh"), ("mean", "all (15)")]


def test_other_directions_are_named_by_both_languages() -> None:
    (table,) = sheets(scores({"direct": result({"mdw-fr": pair(1, 9), "de-ca": pair(2, 9)})}))
    assert [line[:2] for line in table.lines] == [
        ("mdw-fr", "Mboshi → French"), ("de-ca", "German → Catalan"), ("mean", "all (2)")
    ]  # fmt: skip
    (one,) = sheets(scores({"direct": result({"mdw-fr": pair(1, 9)})}))
    assert [line[:2] for line in one.lines] == [("mdw", "Mboshi")], "no mean of one"


def test_transcription_alone() -> None:
    (table,) = sheets(scores({}, {"direct": rates({"de": 10.0, "fr": 20.0})}, train_manifests=["train.jsonl"]))
    assert (table.title, table.head) == (
        "Transcription, by language",
        ("code", "language", "level", "rows", "WER", "failed", "empty", "truncated"),
    )
    assert table.lines[0] == ("fr", "French", "high", "9", "20.0", "0", "0", "0")
    assert table.lines[-1][4] == "15.0"


def published_sheet(sizes: dict[str, int], bleu: float = 50.0) -> Sheet:
    return sheets(scores({"direct": result({name: pair(bleu, rows) for name, rows in sizes.items()})}))[1]


def test_published_figures_stand_beside_real_test_sets_only() -> None:
    sheet = published_sheet({"fr-en": 14760, "de-en": 100, "mn-en": 1759})
    assert sheet.head[:4] == ("code", "language", "direct", "ComSL-Large")
    assert [line[:4] for line in sheet.lines] == [("fr", "French", "50.0", "38.8"), ("mn", "Mongolian", "50.0", "2.9")]
    assert sheet.notes[0] == "not shown, being another test set: de (100 of 13511 rows)"
    assert any("2402.06894" in note for note in sheet.notes)
    sheet = published_sheet({"fr-en": 30, "de-en": 100})
    assert (sheet.lines, sheet.notes) == (
        [], ["none is comparable: not CoVoST 2's test sets, fr (30 of 14760 rows), de (100 of 13511 rows)"]
    )  # fmt: skip


def test_published_means_need_every_language() -> None:
    sizes = {f"{code}-en": covost_test_rows(f"{code}-en") or 0 for code in INTO_ENGLISH}
    sheet = published_sheet(sizes)
    whisper = sheet.head.index("Whisper large, zero-shot")
    means = {line[1]: (line[2], line[3], line[whisper]) for line in sheet.lines if line[0] == "mean"}
    assert means == {
        "high (4)": ("50.0", "-", "36.2"),
        "mid (5)": ("50.0", "-", "32.6"),
        "low (12)": ("50.0", "-", "25.2"),
        "all (21)": ("50.0", "-", "29.1"),
        "mean of GenTranslate's 15": ("50.0", "31.9", "-"),
    }
    without_welsh = published_sheet({name: rows for name, rows in sizes.items() if name != "cy-en"})
    assert [line[1] for line in without_welsh.lines if line[0] == "mean"] == [
        "high (4)", "mid (5)", "mean of GenTranslate's 15"
    ]  # fmt: skip


def test_published_figures_are_consistent() -> None:
    published = load_published()
    assert [covost_test_rows(name) for name in ("de-en", "en-de", "zh-en")] == [13511, 15531, 4898]
    assert [covost_test_rows(name) for name in ("en-sw", "sw-en", "en-fr", "de-fr", "mdw-fr")] == [None] * 5
    (group,) = published.groups.values()
    for system in published.systems:
        assert set(system.languages) <= set(INTO_ENGLISH if system.direction == "xx-en" else COVOST_TARGETS)
        if system.languages and "gentranslate15" in system.means:
            mean = sum(system.languages[code] for code in group.languages) / len(group.languages)
            assert mean == pytest.approx(system.means["gentranslate15"], abs=0.051), "the source's own mean, rounded"
    assert [side(name) for name in ("zh-en", "en-zh", "de-fr")] == [("xx-en", "zh"), ("en-xx", "zh"), ("", "")]


def test_markdown() -> None:
    page = markdown(scores({"a|b": result({"fr-en": pair(30, 3)})}))
    assert page.startswith("# Evaluation of runs/a|b\n\n9 rows, 1.00 hours of speech, from test.jsonl.")
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert table == [
        "| code | language | level | rows | a\\|b BLEU | a\\|b chrF++ | failed | empty | truncated |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| fr | French | high | 3 | 30.0 ± 0.5 | 50.0 ± 0.5 | 0 | 0 | 0 |",
    ]
    assert "- `BLEU nrefs:1|case:mixed|tok:13a`" in page.splitlines()
    assert "- decoding: beam 5, length penalty 1.0, device cpu; 9 rows" in page.splitlines()
