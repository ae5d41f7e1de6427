"""Which rows of the development set are generated, and how the number that decides is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sacrebleu.metrics.bleu import BLEU

from comsl.data.manifest import load_manifest, write_manifest
from comsl.errors import UsageError
from comsl.training.configuration import EvaluationConfiguration
from comsl.training.development import DevelopmentSet, choose_rows

FIRST, SECOND = "the old man sees a small house", "she buys three red apples at the market"


def manifest(folder: Path, *languages: str, **fields: Any) -> Any:
    """One row a pair of languages ("de-en")."""
    rows = [
        {
            "id": f"r{number}",
            "audio": f"{number}.wav",
            "source_language": pair.split("-")[0],
            "target_language": pair.split("-")[1],
            "transcript": "der alte Mann",
            "translation": FIRST if number % 2 else SECOND,
            **fields,
        }
        for number, pair in enumerate(languages)
    ]
    write_manifest(rows, folder / "m.jsonl")
    return load_manifest(folder / "m.jsonl")


PAIRS = ["de-en"] * 6 + ["fr-en"] * 2 + ["es-en"] * 5


@pytest.mark.parametrize(
    ("most", "rows"),
    [
        (3, [0, 6, 8]),
        (7, [0, 1, 2, 6, 7, 8, 9]),
        (10, [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]),  # French has no more: the others get its places
        (None, list(range(13))),
    ],
)
def test_rows_are_taken_evenly_over_the_directions(tmp_path: Path, most: int | None, rows: list[int]) -> None:
    assert choose_rows(manifest(tmp_path, *PAIRS), "st", most) == rows


def test_of_one_direction_the_first_rows_that_will_do_are_taken(tmp_path: Path) -> None:
    rows = manifest(tmp_path, *["de-en"] * 6)
    assert choose_rows(rows, "st", 2) == [0, 1]
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    lines[1] = lines[1].replace(f'"{FIRST}"', "null")
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    assert choose_rows(load_manifest(tmp_path / "m.jsonl"), "st", 2) == [0, 2]
    assert choose_rows(load_manifest(tmp_path / "m.jsonl"), "asr", 2) == [0, 1]


def test_what_a_direction_is(tmp_path: Path) -> None:
    """For translation both languages, for recognition the one that is spoken."""
    rows = manifest(tmp_path, "de-en", "de-en", "de-fr", "es-en")
    assert choose_rows(rows, "mt", 3) == [0, 2, 3]
    assert choose_rows(rows, "asr", 3) == [0, 1, 3]


def test_too_few_rows_for_the_directions(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"evaluation.max_rows: 2 rows cannot cover the 3 directions of data.dev"):
        choose_rows(manifest(tmp_path, *PAIRS), "st", 2)
    with pytest.raises(UsageError, match="data.dev: no row has audio and translation"):
        choose_rows(manifest(tmp_path, *PAIRS, translation=None), "st", 3)


def development_set(manifest: Any, task: Any, hypotheses: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """One that hears what ``hypotheses`` says of each source language."""

    def decode(self: DevelopmentSet, model: Any, rows: list[dict[str, Any]]) -> list[str]:
        return [hypotheses[row["source_language"]] for row in rows]

    monkeypatch.setattr(DevelopmentSet, "_decode", decode)
    return DevelopmentSet(None, manifest, None, EvaluationConfiguration(max_rows=None), task, None)  # type: ignore[arg-type]


def test_the_number_that_decides_is_the_mean_over_the_directions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the corpus score of all rows, of which German has three times as many."""
    rows = manifest(tmp_path, *["de-en"] * 6, *["fr-en"] * 2, translation=FIRST)
    hypotheses = {"de": FIRST, "fr": "the old man sees a large garden"}
    development = development_set(rows, "st", hypotheses, monkeypatch)
    french = BLEU().corpus_score([hypotheses["fr"]] * 2, [[FIRST] * 2]).score
    assert 20 < french < 80
    expected = {"bleu": (100 + french) / 2, "bleu_de-en": 100.0, "bleu_fr-en": french}
    assert development._generate(None) == pytest.approx(expected)
    one_direction = development_set(rows.select([6, 7]).flatten_indices(), "st", hypotheses, monkeypatch)
    assert one_direction._generate(None) == pytest.approx({"bleu": french})


def test_word_error_rates_by_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = manifest(tmp_path, "de-en", "de-fr", "es-en")
    development = development_set(rows, "asr", {"de": "der alte Mann", "es": "der Mann"}, monkeypatch)
    assert development._generate(None) == pytest.approx({"wer": 100 / 6, "wer_de": 0.0, "wer_es": 100 / 3})


def test_rows_and_signature_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    development = development_set(manifest(tmp_path, "de-en", "en-zh", "de-en"), "st", {}, monkeypatch)
    facts = development.facts()
    assert (facts["metric"], facts["rows"]) == ("bleu", 3)
    assert {name: direction["rows"] for name, direction in facts["directions"].items()} == {"de-en": 2, "en-zh": 1}
    for name, tokenizer in (("de-en", "13a"), ("en-zh", "char")):
        assert (
            f"nrefs:1|case:mixed|eff:no|tok:{tokenizer}|smooth:exp|version:" in facts["directions"][name]["signature"]
        )
    assert "bleu of 3 rows (de-en 2, en-zh 1), mean over 2 directions; nrefs:1|" in str(development)
    recognition = development_set(manifest(tmp_path, "de-en", "de-en"), "asr", {}, monkeypatch)
    assert str(recognition) == "development set: wer of 2 rows (de 2); normaliser:basic"
    losses = development_set(manifest(tmp_path, "de-en"), "loss", {}, monkeypatch)
    assert losses.facts() == {"metric": "loss"}
    assert str(losses) == "development set: loss"
