"""Studies: scores are sacreBLEU's, seeds and sentences both count, and the page says what was not run."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from comsl.errors import UsageError
from comsl.evaluation.records import FIELDS, SCORED, write_json
from comsl.study.page import render, verdict, write_page
from comsl.study.plan import Arm, Contrast, Plan, StudyError, load_study
from comsl.study.results import training_seconds
from comsl.study.statistics import Seeds, run_study
from comsl.study.student import Student

WORDS = "the old man sees a small house near river she buys three red apples at market on Monday".split()
REFERENCES = [" ".join(WORDS[(start + 5 * k) % len(WORDS)] for k in range(8)) + f" {start}" for start in range(40)]
PLAN = Plan(
    "A study",
    "About nothing.",
    ["test"],
    [Arm("good", "(1) good"), Arm("bad", "(2) bad"), Arm("alike", "(3) alike"), Arm("lost", "(4) lost")],
    [
        Contrast("(2) bad", "(1) good", "good is better"),
        Contrast("(1) good", "(3) alike", "alike is better"),
        Contrast("(1) good", "(4) lost", "nobody knows"),
    ],
)


def hypotheses(every: int, shift: int = 0) -> list[str]:
    """References, of which one in so many has a wrong third word."""
    rows = [text.split() for text in REFERENCES]
    for index in range(shift, len(rows), every):
        rows[index][2] = "wrong"
    return [" ".join(row) for row in rows]


def evaluation(
    folder: Path, texts: list[str], seconds: float = 60.0, system: str = "direct", model: Path | None = None
) -> None:
    """Of half German, half French rows, in a run that took so long."""
    records = [
        {
            **dict.fromkeys(FIELDS),
            "id": f"row{index}",
            "system": system,
            "source_language": "de" if index < 20 else "fr",
            "target_language": "en",
            "hypothesis": text,
            "reference": REFERENCES[index],
        }
        for index, text in enumerate(texts)
    ]
    (folder / "test").mkdir(parents=True, exist_ok=True)
    with (folder / "test" / "hypotheses.jsonl").open("a") as file:
        file.write("".join(json.dumps(record) + "\n" for record in records))
    write_json(
        folder / "test" / "scores.json", {**dict.fromkeys(SCORED), "lowercase": False, "model": model and str(model)}
    )
    lines = [{"step": 1, "kind": "train", "seconds": seconds / 2}, {"step": 2, "kind": "dev"}]
    lines.append({"step": 2, "kind": "train", "seconds": seconds / 2})
    (folder / "train_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed in (1, 2, 3):
        evaluation(tmp_path / "good" / str(seed), hypotheses(6 + seed))
        evaluation(tmp_path / "bad" / str(seed), hypotheses(1))
    evaluation(tmp_path / "alike" / "1", hypotheses(8, 4), seconds=90.0)
    return tmp_path


def test_scores_are_those_of_sacrebleu_and_means_are_means(runs: Path) -> None:
    study = run_study(PLAN, runs, n_samples=50)
    good = study.results[0]
    assert good.seeds == ["1", "2", "3"]
    expected = [
        BLEU().corpus_score(hypotheses(6 + seed)[part], [REFERENCES[part]]).score
        for seed in (1, 2, 3)
        for part in (slice(0, 20), slice(20, 40))
    ]
    assert good.cells["bleu"]["test de-en"] == pytest.approx(expected[0::2])
    assert good.cells["bleu"]["test fr-en"] == pytest.approx(expected[1::2])
    means = [(expected[k] + expected[k + 1]) / 2 for k in (0, 2, 4)]
    assert good.overall("bleu") == pytest.approx(means)
    mean = sum(means) / 3
    # The other arm with several seeds does not vary at all: four degrees of freedom.
    spread = math.sqrt(sum((score - mean) ** 2 for score in means) / 4)
    assert math.sqrt(study.seeds["bleu"].variance) == pytest.approx(spread)
    assert study.seeds["bleu"].degrees == 4
    assert good.rows == {"test de-en": 20, "test fr-en": 20}


def test_answers(runs: Path) -> None:
    study = run_study(PLAN, runs, n_samples=200)
    better, alike = study.answers  # the third arm that is asked about has not been run
    assert better.difference > 20
    assert better.p <= better.p_holm < 0.001
    assert alike.p_holm > 0.05
    a, b = study.results[0], study.results[2]
    sentences = float((b.resampled("bleu").mean(0) - a.resampled("bleu").mean(0)).var(ddof=1))
    seeds = study.seeds["bleu"]
    total = sentences + seeds.own * (1 / 3 + 1)
    assert alike.error == pytest.approx(math.sqrt(total))
    student = Student(seeds.degrees * (total / (seeds.variance * (1 / 3 + 1))) ** 2)
    assert alike.p == pytest.approx(student.p(alike.difference / alike.error))
    # Level 0.05 / 2 on both sides and power 0.8.
    assert alike.resolves == pytest.approx((student.quantile(0.9875) + student.quantile(0.8)) * alike.error)
    assert verdict(better.difference, better.p_holm) == "yes"
    assert verdict(alike.difference, alike.p_holm) == "not shown"
    assert verdict(-1.0, 0.01) == "no: the other way round"


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_difference_is_found_where_there_is_none(tmp_path: Path, seeds: int) -> None:
    """Two systems that are wrong equally often, at places of their own: p below 0.1 in a tenth, on both sides. With
    several seeds, which vary by nothing but that chance, less often: the seeds' own variance is estimated too, and
    never below 0."""
    rng, found = np.random.default_rng(7), []
    for trial in range(100):
        for arm, seed in itertools.product(("good", "bad"), range(seeds)):
            rows = [text.split() for text in REFERENCES]
            for index in np.flatnonzero(rng.random(len(rows)) < 0.4):
                rows[index][int(rng.integers(1, 7))] = "wrong"
            evaluation(tmp_path / str(trial) / arm / str(seed), [" ".join(row) for row in rows])
        found.append(run_study(PLAN, tmp_path / str(trial), n_samples=60).answers[0])
    differences, errors = (np.array([getattr(each, name) for each in found]) for name in ("difference", "error"))
    below = sum(answer.p < 0.1 for answer in found)
    assert (4 if seeds == 1 else 1) <= below <= 18
    assert 0.8 <= math.sqrt(np.mean(errors**2)) / differences.std() <= 1.25
    assert {answer.difference > 0 for answer in found if answer.p < 0.1} == {True, False}


def test_systems_of_the_same_runs_share_their_seeds(tmp_path: Path) -> None:
    """What varies is their difference, seed by seed; both together have as many degrees of freedom as their runs."""
    for seed, every in ((1, 3), (2, 5), (3, 9)):
        model = tmp_path / "joint" / str(seed)
        evaluation(model, hypotheses(every))
        evaluation(model, hypotheses(every, 1), system="mixed")
        evaluation(model, hypotheses(2), system="lookup")
        evaluation(tmp_path / "alone" / str(seed), hypotheses(every, 2), system="pooled", model=model, seconds=5.0)
    arms = [
        Arm("joint", "direct"),
        Arm("joint", "mixed", "mixed"),
        Arm("alone", "pooled", "pooled"),
        Arm("joint", "look-up", "lookup"),
    ]
    contrasts = [
        Contrast("direct", "mixed", "m"),
        Contrast("direct", "pooled", "p"),
        Contrast("look-up", "direct", "d"),
    ]
    study = run_study(Plan("t", "i", ["test"], arms, contrasts), tmp_path, n_samples=100)
    direct, mixed, pooled, lookup = study.results
    variances = [np.var(result.overall("bleu"), ddof=1) for result in (direct, mixed, pooled)]
    assert study.seeds["bleu"].variance == pytest.approx(np.mean(variances))
    assert study.seeds["bleu"].degrees == 2
    of = [
        Seeds.of(other.overall("bleu") - direct.overall("bleu"), other.resampled("bleu") - direct.resampled("bleu"))
        for other in (mixed, pooled)
    ]
    own = max(0.0, np.mean([each.variance for each in of]) - np.mean([each.shared for each in of]))
    for answer, other in zip(study.answers, (mixed, pooled), strict=False):
        sentences = float((other.resampled("bleu") - direct.resampled("bleu")).mean(0).var(ddof=1))
        assert answer.error == pytest.approx(math.sqrt(sentences + own / 3))
    sentences = float((direct.resampled("bleu").mean(0) - lookup.resampled("bleu").mean(0)).var(ddof=1))
    assert study.answers[2].error == pytest.approx(math.sqrt(sentences + study.seeds["bleu"].own / 3))
    assert (direct.seconds, pooled.seconds, lookup.seconds) == ([60.0] * 3, [60.0] * 3, [])


def test_a_single_run_is_compared_over_sentences(runs: Path) -> None:
    """However other runs vary from seed to seed: both systems are of this one."""
    evaluation(runs / "alike" / "1", hypotheses(5, 1), system="mixed")
    arms = [*PLAN.arms, Arm("alike", "mixed", "mixed")]
    plan = dataclasses.replace(PLAN, arms=arms, contrasts=[Contrast("(3) alike", "mixed", "m")])
    study = run_study(plan, runs, n_samples=100)
    (answer,) = study.answers
    assert study.seeds["bleu"].variance > 0
    draws = study.results[3].resampled("bleu") - study.results[2].resampled("bleu")
    assert answer.error == pytest.approx(float(draws.std(ddof=1)))


def test_seeds_that_differ_by_chance_in_sentences_alone() -> None:
    """Scores of 3 seeds whose spread is what the resamples say: nothing is left that is the seeds' own."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(400):
        noise = rng.normal(size=(3, 200))  # of each seed's rows
        rows = rng.integers(0, 200, size=(50, 200))
        found.append(Seeds.of(noise.mean(axis=1), noise[:, rows].mean(axis=2)))
    variance, shared = (np.mean([getattr(each, name) for each in found]) for name in ("variance", "shared"))
    assert variance == pytest.approx(1 / 200, rel=0.1)
    assert shared == pytest.approx(variance, rel=0.1)
    two = Seeds.pooled([[Seeds(4.0, 1.0, 2), Seeds(2.0, 1.0, 2)], [Seeds(9.0, 3.0, 1)]])
    assert two == Seeds(5.0, pytest.approx(5 / 3), 3)
    assert Seeds(1.0, 2.0, 2).own == 0.0


def test_cells_of_the_same_sentences_are_resampled_together(tmp_path: Path) -> None:
    """Two directions that translate the same 20 sentences vary like one, not like two independent ones."""
    evaluation(tmp_path / "good" / "1", hypotheses(3))
    path = tmp_path / "good" / "1" / "test" / "hypotheses.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    twice = [*records[:20], *({**record, "id": record["id"] + "b", "source_language": "fr"} for record in records[:20])]
    path.write_text("".join(json.dumps(record) + "\n" for record in twice))
    (result,) = run_study(Plan("t", "i", ["test"], [Arm("good", "a")]), tmp_path, n_samples=50).results
    german, french = result.draws["bleu"].values()
    assert german[0].tolist() == french[0].tolist()
    assert result.resampled("bleu")[0].tolist() == pytest.approx(german[0].tolist())


def test_the_distribution_of_student() -> None:
    for degrees, quantile in ((1, 12.7062), (2, 4.30265), (10, 2.22814), (30, 2.04227), (math.inf, 1.95996)):
        assert Student(degrees).quantile(0.975) == pytest.approx(quantile, rel=2e-4)
        assert Student(degrees).p(quantile) == pytest.approx(0.05, rel=1e-3)
        assert Student(degrees).p(-quantile) == pytest.approx(0.05, rel=1e-3)
    assert Student(2.5).quantile(0.8) == pytest.approx(1.0101639, rel=1e-5)


def test_the_page(runs: Path, tmp_path: Path) -> None:
    study = write_page(PLAN, runs, tmp_path / "docs" / "page.md")
    text = (tmp_path / "docs" / "page.md").read_text()
    assert text == render(study, "page/scores.png")
    assert (tmp_path / "docs" / "page" / "scores.png").read_bytes().startswith(b"\x89PNG")
    lines = text.splitlines()
    (row,) = [line for line in lines if line.startswith("| (3) alike")]
    assert row.endswith("| 1.5 |")
    assert "| (4) lost | 0 | not run |" in text
    assert "nrefs:1|case:mixed" in text
    assert "tok:13a" in text
    tables = [line.count("|") for line in lines if line.startswith("|")]
    assert set(tables) == {7, 8, 10}  # every row as wide as its table
    assert "| (1) good<br>(2) bad<br>(3) alike | - | - | - | unknown | - |" in text


def test_the_same_outputs_are_no_difference(tmp_path: Path) -> None:
    for arm in ("good", "bad"):
        evaluation(tmp_path / arm / "1", hypotheses(8))
    (answer,) = run_study(PLAN, tmp_path, n_samples=20).answers
    assert (answer.difference, answer.p, answer.p_holm) == (0.0, 1.0, 1.0)
    assert verdict(answer.difference, answer.p_holm) == "not shown"


def test_one_seed_says_so(tmp_path: Path) -> None:
    evaluation(tmp_path / "alike" / "1", hypotheses(8, 4))
    study = run_study(PLAN, tmp_path, n_samples=20)
    assert study.seeds == {"bleu": None, "chrf": None}
    assert "No arm has more than one seed" in render(study, "p.png")
    assert "None could be answered" in render(study, "p.png")


def test_the_time_of_every_model_that_was_needed_counts(tmp_path: Path) -> None:
    speech, text = tmp_path / "speech", tmp_path / "text"
    evaluation(speech, hypotheses(8))
    evaluation(text, hypotheses(8), seconds=30.0)
    evaluation(tmp_path / "arms" / "cascade" / "1", hypotheses(8), model=speech)
    path = tmp_path / "arms" / "cascade" / "1" / "test" / "scores.json"
    write_json(path, {**json.loads(path.read_text()), "cascade_mt": str(text)})
    plan = Plan("t", "i", ["test"], [Arm("cascade", "cascade")])
    assert run_study(plan, tmp_path / "arms", n_samples=20).results[0].seconds == [90.0]
    assert training_seconds(tmp_path / "nothing") == 0.0


def test_other_forms_of_the_texts(runs: Path) -> None:
    plan = dataclasses.replace(PLAN, forms=["lc", "lc.rm"])
    study = run_study(plan, runs, n_samples=20)
    expected = BLEU(lowercase=True).corpus_score(hypotheses(7)[:20], [REFERENCES[:20]]).score
    assert study.results[0].forms["lc"]["test de-en"][0] == pytest.approx(expected)
    page = render(study, "p.png")
    assert "| arm | test de-en: lc | test fr-en: lc | test de-en: lc.rm | test fr-en: lc.rm |" in page
    assert "*lc.rm*: lower-cased, without punctuation but for apostrophes." in page


def test_what_does_not_fit_together(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no evaluation of any arm"):
        run_study(PLAN, tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"holds no rows of the system 'text' \(arm a\)"):
        run_study(Plan("t", "i", ["test"], [Arm("good", "a", "text")]), runs)
    (runs / "bad" / "2" / "test" / "scores.json").unlink()
    with pytest.raises(UsageError, match=r"bad/2/test holds no finished evaluation"):
        run_study(PLAN, runs)


def test_study_files(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    text = "title: t\nintro: i\ntests: [x]\narms: [{arm: a, label: A}, {arm: b, label: B}]\n"
    path.write_text(text + "contrasts: [{a: A, b: B, claim: c}]\n")
    assert load_study(path) == Plan("t", "i", ["x"], [Arm("a", "A"), Arm("b", "B")], [Contrast("A", "B", "c")])
    for wrong, message in (
        (text + "contrasts: [{a: A, b: C, claim: c}]\n", "contrasts: no arm 'C'; did you mean"),
        (text.replace("label: B", "label: A"), "two arms are called 'A'"),
        (text.replace("label: B", "lable: B"), "arms: unknown key `lable`; did you mean `label`"),
        (text.replace("title: t\n", ""), "title: missing"),
        (text.replace("[x]", "x"), r"tests: expected a list, got 'x'"),
        (text.replace("[x]", "[1]"), r"tests: expected a list of texts, got \[1\]"),
        (text.replace("title: t", "title: [t]"), r"title: expected text, got \['t'\]"),
        (text.replace("label: B", "label: 5"), "arms: label: expected text, got 5"),
        (text + "forms: [rm]\n", "forms: no form 'rm'; there are lc, lc.rm"),
        (text + "beside: [x]\n", "tests, beside: 'x' stands there twice"),
        (text + "contrasts: [{a: A, b: B, claim: c, tests: [y]}]\n", "contrasts: no test 'y'; did you mean 'x'"),
    ):
        path.write_text(wrong)
        with pytest.raises(StudyError, match=message):
            load_study(path)


def test_the_page_is_markdown(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"table: the page is Markdown"):
        write_page(PLAN, runs, tmp_path / "table")
    assert not (tmp_path / "table").exists()


def test_transcripts_and_confidences_are_shown(runs: Path) -> None:
    for seed, (wer, distance, correlation) in enumerate(
        [(40.0, 0.1, 0.5), (50.0, 0.2, None), (60.0, 0.3, 0.7)], start=1
    ):
        path = runs / "good" / str(seed) / "test" / "scores.json"
        scores = json.loads(path.read_text())
        pairs = {language: {"wer": wer, "cer": wer / 2} for language in ("de", "fr")}
        scores["transcription"] = {"direct": {"pairs": pairs}}
        scores["confidence"] = {"direct": {"error": distance, "correlation": correlation}}
        write_json(path, scores)
    page = render(run_study(PLAN, runs, n_samples=20), "p.png")
    assert "| arm | test de-en, WER | test de-en, CER | test fr-en, WER | test fr-en, CER |" in page
    assert "| (1) good | 50.0 ± 10.0 | 25.0 ± 5.0 | 50.0 ± 10.0 | 25.0 ± 5.0 |" in page
    assert "| (1) good | test | 0.200 | 0.60 |" in page
    assert "| (2) bad | test |" not in page


def test_a_test_beside_is_shown_and_counted_nowhere(runs: Path) -> None:
    alone = run_study(PLAN, runs, n_samples=50)
    for folder in runs.glob("*/*/test"):
        (folder.parent / "part").mkdir()
        records = (folder / "hypotheses.jsonl").read_text().splitlines()[:30]
        (folder.parent / "part" / "hypotheses.jsonl").write_text("".join(record + "\n" for record in records))
        (folder.parent / "part" / "scores.json").write_text((folder / "scores.json").read_text())
    study = run_study(dataclasses.replace(PLAN, beside=["part"]), runs, n_samples=50)
    assert study.results[0].rows == {"test de-en": 20, "test fr-en": 20, "part de-en": 20, "part fr-en": 10}
    assert [answer.difference for answer in study.answers] == [answer.difference for answer in alone.answers]
    for result, other in zip(study.results, alone.results, strict=True):
        assert result.overall("bleu").tolist() == other.overall("bleu").tolist()
        assert study.interval(result, "bleu") == alone.interval(other, "bleu")
    page = render(study, "p.png")
    assert "| part fr-en |" in page
    assert "The means over the columns of test stand" in page
    asked = dataclasses.replace(PLAN.contrasts[1], tests=["part"])
    only = dataclasses.replace(PLAN, beside=["part"], contrasts=[asked])
    (answer,) = run_study(only, runs, n_samples=50).answers
    good, _, alike = study.results
    scores = [float(np.mean(result.overall("bleu", ["part"]))) for result in (good, alike)]
    assert answer.difference == pytest.approx(scores[1] - scores[0])
    assert answer.difference != pytest.approx(alone.answers[1].difference)
    assert "alike is better (part)" in render(run_study(only, runs, n_samples=50), "p.png")
