from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sacrebleu.metrics import BLEU

from comsl.errors import ComSLError, UsageError
from comsl.evaluation import significance
from comsl.evaluation.records import SCORED, Record, write_json
from comsl.evaluation.report import show
from comsl.evaluation.significance import ComparisonError, compare, compare_rows, holm

WORDS = "the old man sees a small house near river she buys three red apples at market on Monday".split()
REFERENCES = [
    " ".join(WORDS[(start + step * 5) % len(WORDS)] for step in range(8)) + f" {start}" for start in range(60)
]


def folder(path: Path, hypotheses: list[str], system: str = "direct", lowercase: bool = False, **fields: str) -> Path:
    """An evaluation of REFERENCES: the first half from German, the second from French, unless told otherwise."""
    path.mkdir()
    records: list[Record] = [
        {
            "id": f"row{index:02d}",
            "system": system,
            "source_language": "de" if index < 30 else "fr",
            "target_language": "en",
            "source": None,
            "hypothesis": hypothesis,
            "reference": REFERENCES[index],
            "truncated": False,
            "transcript_hypothesis": None,
            "transcript_truncated": False,
            "score": None,
            "duration": 1.0,
            "segments": None,
            "error": None,
            **fields,
        }
        for index, hypothesis in enumerate(hypotheses)
    ]
    (path / "hypotheses.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_json(path / "scores.json", {**dict.fromkeys(SCORED), "lowercase": lowercase})
    return path


def worse(every: int) -> list[str]:
    """References in which the third word of every so-many-th row is wrong."""
    rows = [text.split() for text in REFERENCES]
    for index in range(0, len(rows), every):
        rows[index][2] = "wrong"
    return [" ".join(row) for row in rows]


def test_a_system_against_itself(tmp_path: Path) -> None:
    result = compare(folder(tmp_path / "a", worse(2)), folder(tmp_path / "b", worse(2)), n_samples=100)
    assert [metric.p for metric in result.overall.values()] == [1.0, 1.0]
    assert result.overall["bleu"].difference == 0


def test_clearly_better_is_significant(tmp_path: Path) -> None:
    result = compare(folder(tmp_path / "a", worse(1)), folder(tmp_path / "b", REFERENCES), n_samples=200)
    assert result.rows == {"de-en": 30, "fr-en": 30}
    for metrics in (*result.pairs.values(), result.overall):
        assert metrics["bleu"].p < 0.01
        assert metrics["bleu"].difference > 20
        assert metrics["bleu"].b == pytest.approx(100)
    assert result.overall["bleu"].a == pytest.approx(BLEU().corpus_score(worse(1), [REFERENCES]).score)
    assert "|bs:200|seed:12345|" in result.overall["bleu"].signature


def test_noise_is_not_significant(tmp_path: Path) -> None:
    a, b = worse(2), worse(2)
    a[1], b[3] = worse(1)[1], worse(1)[3]
    result = compare(folder(tmp_path / "a", a), folder(tmp_path / "b", b), n_samples=200)
    assert all(metric.p > 0.1 for metric in result.overall.values())


def test_rows_are_aligned_by_id(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", worse(3)), folder(tmp_path / "b", worse(3))
    lines = (b / "hypotheses.jsonl").read_text().splitlines(keepends=True)
    (b / "hypotheses.jsonl").write_text("".join(reversed(lines)))
    assert compare(a, b, n_samples=20).overall["bleu"].p == 1.0
    (b / "hypotheses.jsonl").write_text("".join(lines[3:]))
    with pytest.raises(ComparisonError, match="3 rows of .*a are missing in .*b: row00, row01, row02"):
        compare(a, b)


def test_other_references_or_case_are_an_error(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", REFERENCES)
    with pytest.raises(ComparisonError, match=r"reference of 59 rows: .*row01.* and 54 more"):
        compare(a, folder(tmp_path / "b", REFERENCES, reference=REFERENCES[0]))
    with pytest.raises(ComparisonError, match="target_language"):
        compare(a, folder(tmp_path / "c", REFERENCES, target_language="ca"))
    with pytest.raises(ComparisonError, match="case"):
        compare(a, folder(tmp_path / "d", REFERENCES, lowercase=True))


def test_two_systems_of_two_folders(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", worse(1)), folder(tmp_path / "b", REFERENCES, system="cascade")
    assert compare(a, b, "direct", "cascade", n_samples=50).overall["bleu"].p < 0.05
    with pytest.raises(UsageError, match="'direct': it has cascade"):
        compare(a, b)
    with pytest.raises(UsageError, match="no finished evaluation"):
        compare(a, tmp_path / "nothing")


def test_render_and_json(tmp_path: Path) -> None:
    result = compare(folder(tmp_path / "a", worse(1)), folder(tmp_path / "b", REFERENCES), n_samples=50)
    output = io.StringIO()
    Console(width=140, file=output).print(result.render())
    text = output.getvalue()
    assert all(word in text for word in ("de-en", "fr-en", "all rows", "100.0", "tok:13a", "bs:50"))
    result.write(tmp_path / "new" / "comparison.json")
    read = json.loads((tmp_path / "new" / "comparison.json").read_text())
    assert read["rows"] == {"de-en": 30, "fr-en": 30}
    assert read["pairs"]["de-en"]["bleu"]["b"] == pytest.approx(100)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    result = compare(folder(tmp_path / "a", worse(1)), tmp_path / "a", n_samples=20)
    with pytest.raises(ComSLError, match=r"scores.json.*cannot be written"):
        result.write(tmp_path / "a" / "scores.json" / "comparison.json")


def test_signatures_stay_in_one_piece_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = compare(folder(tmp_path / ("long" * 30), worse(1)), tmp_path / ("long" * 30), n_samples=20)
    show(result.render())
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert {metric.signature for metric in result.overall.values()} <= set(lines)
    assert f"a: {result.a}" in lines


def test_anothers_scores(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", REFERENCES)
    for content in ('{"bleu": 12.5}', "[1]"):
        (a / "scores.json").write_text(content)
        with pytest.raises(ComSLError, match="not written by comsl evaluate .*lowercase"):
            compare(a, a)
    (a / "scores.json").write_text("BLEU = 12.5")
    with pytest.raises(ComSLError, match="is not JSON"):
        compare(a, a)


def test_progress_goes_by_direction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def track(jobs: list[str], **_: Any) -> list[str]:
        seen.extend(jobs)
        return jobs

    monkeypatch.setattr(significance, "track", track)
    compare(folder(tmp_path / "a", worse(1)), tmp_path / "a", n_samples=20)
    assert seen == ["de-en", "fr-en"]


def test_a_handful_of_rows_proves_nothing(tmp_path: Path) -> None:
    result = compare(folder(tmp_path / "a", worse(1)[:5]), folder(tmp_path / "b", REFERENCES[:5]), n_samples=50)
    assert result.overall["bleu"].p is None
    output = io.StringIO()
    Console(width=80, file=output).print(result.render())
    assert "too few" in output.getvalue()
    assert "…" not in output.getvalue()


def test_different_tokenisers_are_not_pooled(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", worse(1))
    lines = (a / "hypotheses.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records[30:]:
        record["target_language"] = "zh"
    (a / "hypotheses.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    result = compare(a, a, n_samples=20)
    assert result.overall is None
    assert "tok:char" in result.pairs["fr-zh"]["bleu"].signature


def test_holm_by_hand() -> None:
    # In order: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 1 x 0.04, which must not be less than the one before it.
    assert holm({"de": 0.01, "fr": 0.04, "ca": 0.03, "es": 0.005}) == pytest.approx(
        {"de": 0.03, "fr": 0.06, "ca": 0.06, "es": 0.02}
    )
    assert holm({"de": 0.6, "fr": 0.7}) == {"de": 1.0, "fr": 1.0}
    assert holm({"de": 0.02}) == {"de": 0.02}
    assert holm({}) == {}


def rows_of(
    hypotheses: list[str], sources: str = "de fr", targets: str = "en en", heard: bool = False
) -> dict[str, Record]:
    """REFERENCES in equal parts, one a direction."""
    pairs = list(zip(sources.split(), targets.split(), strict=True))
    part = len(REFERENCES) // len(pairs)
    return {
        f"r{n}": {
            "id": f"r{n}",
            "source_language": pairs[n // part][0],
            "target_language": pairs[n // part][1],
            "source": f"sentence {n % part}" if heard else None,
            "hypothesis": hypothesis,
            "reference": REFERENCES[n],
        }
        for n, hypothesis in enumerate(hypotheses)
    }


def test_p_is_corrected_for_the_number_of_directions() -> None:
    half = worse(1)[:30] + worse(4)[30:]
    result = compare_rows(rows_of(half), rows_of(worse(5)), "a", "b", n_samples=200)
    for metric in ("bleu", "chrf"):
        raw = {name: result.pairs[name][metric].p for name in ("de-en", "fr-en")}
        smaller, larger = sorted(raw, key=lambda name: raw[name])
        corrected = {name: result.pairs[name][metric].p_holm for name in raw}
        assert corrected[smaller] == pytest.approx(min(1, 2 * raw[smaller]))
        assert corrected[larger] == pytest.approx(max(raw[larger], corrected[smaller]))
    assert result.overall["bleu"].p_holm is None
    text = io.StringIO()
    Console(width=160, file=text).print(result.render())
    assert "p (Holm)" in text.getvalue()
    assert result.to_dict()["pairs"]["de-en"]["bleu"]["p_holm"] == result.pairs["de-en"]["bleu"].p_holm
    one = compare_rows(rows_of(half, "de", "en"), rows_of(worse(5), "de", "en"), "a", "b", n_samples=20)
    assert (one.pairs["de-en"]["bleu"].p_holm, one.macro) == (None, None), "nothing to correct for"


def test_the_mean_of_directions() -> None:
    a, b = rows_of(worse(1)), rows_of(worse(3))
    result = compare_rows(a, b, "a", "b", n_samples=300)
    for metric in ("bleu", "chrf"):
        of = [metrics[metric] for metrics in result.pairs.values()]
        macro = result.macro[metric]
        assert macro.a == pytest.approx((of[0].a + of[1].a) / 2)
        assert macro.b == pytest.approx((of[0].b + of[1].b) / 2)
        assert macro.p < 0.01
        # The mean of two independent scores of equal spread spreads less, by the root of two.
        assert macro.b_ci == pytest.approx((of[0].b_ci ** 2 + of[1].b_ci ** 2) ** 0.5 / 2, rel=0.25)
    assert compare_rows(a, a, "a", "a", n_samples=50).macro["bleu"].p == 1.0
    few = compare_rows(
        rows_of(worse(1), "de fr it es", "en en en en"), rows_of(worse(3), "de fr it es", "en en en en"), "a", "b"
    )
    assert few.macro["bleu"].p is None, "15 rows of each are too few"
    assert few.macro["bleu"].a == pytest.approx(sum(found["bleu"].a for found in few.pairs.values()) / 4)
    assert {found["bleu"].p_holm for found in few.pairs.values()} == {None}
    assert few.overall is not None


def test_directions_that_share_their_sentences_are_drawn_together() -> None:
    """The same clips into two languages, or the same sentences from two languages into one: the scores of both rise
    and fall together, so their mean spreads as each does."""

    def spreads(heard: bool, one_reference: bool) -> tuple[float, float]:
        """Of a direction and of the mean."""

        def rows(texts: list[str]) -> dict[str, Record]:
            found = rows_of(texts, sources="en en", targets="de ca", heard=heard)
            for key, row in found.items():
                row["reference"] = REFERENCES[int(key[1:]) % 30 if one_reference else int(key[1:])]
            return found

        other = REFERENCES[:30] * 2 if one_reference else REFERENCES
        wrong = worse(3)[:30] * 2 if one_reference else worse(3)
        result = compare_rows(rows(other), rows(wrong), "a", "b")
        return result.pairs["en-de"]["bleu"].b_ci, result.macro["bleu"].b_ci

    for shared in ((True, True), (True, False), (False, True)):
        alone, mean = spreads(*shared)
        assert mean == pytest.approx(alone, rel=0.15)
    alone, mean = spreads(False, False)
    assert mean == pytest.approx(alone / 2**0.5, rel=0.2)


def test_folders_of_one_direction_each(tmp_path: Path) -> None:
    whole = [folder(tmp_path / name, texts) for name, texts in (("a", worse(1)), ("b", worse(3)))]
    for name in ("a", "b"):
        lines = (tmp_path / name / "hypotheses.jsonl").read_text().splitlines(keepends=True)
        for part, chosen in (("de_en", lines[:30]), ("fr_en", lines[30:])):
            place = tmp_path / "parts" / name / part
            place.mkdir(parents=True)
            (place / "hypotheses.jsonl").write_text("".join(chosen))
            (place / "scores.json").write_text((tmp_path / name / "scores.json").read_text())
    parts = compare(tmp_path / "parts" / "a", tmp_path / "parts" / "b", n_samples=50)
    together = compare(*whole, n_samples=50)
    assert (parts.pairs, parts.macro, parts.overall) == (together.pairs, together.macro, together.overall)
    again = tmp_path / "parts" / "a" / "again"
    again.mkdir()
    for name in ("hypotheses.jsonl", "scores.json"):
        (again / name).write_text((tmp_path / "parts" / "a" / "de_en" / name).read_text())
    with pytest.raises(ComparisonError, match="30 rows occur in more than one"):
        compare(tmp_path / "parts" / "a", tmp_path / "parts" / "b")
    with pytest.raises(UsageError, match="no finished evaluation"):
        compare(tmp_path / "parts", tmp_path / "parts")
