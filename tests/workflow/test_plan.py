"""What a run.yaml says, and how it may be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from comsl.workflow.plan import PlanError, Step, load_plan

RECIPE = """
model: parts
objectives: {st: {}}
data: {train: train.jsonl}
"""
PLAN = """
needs: {corpus: the folder of the corpus}
variables:
  out: runs
  data: ${out}/data
  languages: [fr, de]
  more: [--ctc-characters, "${out}/characters", --seed, 1]
  launch: null
  gpus: 1
records: ${out}/run
steps:
  - name: prepare
    comsl: prepare mboshi --root ${corpus} --out ${data}
  - name: compose
    comsl: compose --speech s --text t --languages ${languages} ${more} --out '${out}/the parts'
  - name: train
    comsl: [train, "${recipe}/joint.yaml", --output_dir, "${out}/joint"]
    processes: ${gpus}
    accelerate: ${launch}
    writes: ["${out}/extra"]
    reads: ["${out}/*/scores.json"]
page: ${out}/page.html
"""


def write(folder: Path, text: str = PLAN, recipe: str = RECIPE) -> Path:
    (folder / "run.yaml").write_text(text)
    (folder / "joint.yaml").write_text(recipe)
    return folder


def test_variables_are_filled_in(tmp_path: Path) -> None:
    launcher = tmp_path / "fsdp.yaml"
    launcher.write_text("distributed_type: FSDP\n")
    plan = load_plan(write(tmp_path), ["corpus=my corpus", "out=elsewhere", "gpus=8", f"launch={launcher}"])
    prepare = ("prepare", "mboshi", "--root", "my corpus", "--out", "elsewhere/data")
    more = ("--ctc-characters", "elsewhere/characters", "--seed", "1")
    parts = ("--speech", "s", "--text", "t")
    compose = ("compose", *parts, "--languages", "fr", "de", *more, "--out", "elsewhere/the parts")
    train = ("train", f"{tmp_path}/joint.yaml", "--output_dir", "elsewhere/joint")
    assert plan.steps == (
        Step("prepare", prepare),
        Step("compose", compose),
        Step("train", train, 8, str(launcher), ("elsewhere/extra",), ("elsewhere/*/scores.json",)),
    )
    assert (plan.records, plan.page) == (Path("elsewhere/run"), Path("elsewhere/page.html"))


def test_what_is_not_set_is_the_default(tmp_path: Path) -> None:
    plan = load_plan(write(tmp_path), ["corpus=c", "languages=[cy]", "more=null"])
    assert plan.steps[1].words[5:8] == ("--languages", "cy", "--out")
    assert (plan.steps[2].processes, plan.steps[2].accelerate) == (1, None)


def test_a_step_for_every_combination(tmp_path: Path) -> None:
    text = """
variables: {seeds: [1, 2]}
records: r
steps:
  - name: ${arm}-${seed}
    each: {arm: [st, all], seed: "${seeds}"}
    comsl: evaluate --model ${arm} --manifest ${seed} --out runs/${arm}-${seed}
"""
    names = [step.name for step in load_plan(write(tmp_path, text)).steps]
    assert names == ["st-1", "st-2", "all-1", "all-2"]
    last = load_plan(write(tmp_path, text), ["seeds=[7]"]).steps[-1]
    assert last.words == ("evaluate", "--model", "all", "--manifest", "7", "--out", "runs/all-7")
    with pytest.raises(PlanError, match=r"each: seed: a list is expected, or a variable that holds one, got 3"):
        load_plan(write(tmp_path, text), ["seeds=3"])
    with pytest.raises(PlanError, match="two steps are called 'st'"):
        load_plan(write(tmp_path, text.replace("name: ${arm}-${seed}", "name: ${arm}")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], r"needs corpus \(the folder of the corpus\): add --set corpus=VALUE"),
        (["corpus=null"], "needs corpus"),
        (["corpus"], "--set corpus: expected name=value"),
        (["corpus=c", "lagnuages=fr"], "has no variable 'lagnuages'; did you mean 'languages'?"),
        (["corpus=[c"], "--set corpus: '.c' is not a YAML value"),
        (["corpus=[a, b]"], r"step prepare: comsl prepare \w+: error: unrecognized arguments: b"),
        (["corpus=c", "out=[a]"], r"variables: data: \$\{out\} is \['a'\], which cannot be a part of"),
        (["corpus=c", "launch=none.yaml"], "step train: accelerate: none.yaml: no such file"),
        (["corpus=c", "gpus=many"], "step train: processes: expected a positive number, got 'many'"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: list[str], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        load_plan(write(tmp_path), settings)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("records: ${out}/run", "", "run.yaml: records: missing"),
        ("page:", "pages:", "unknown key `pages`; did you mean `page`?"),
        ("processes: ${gpus}", "process: 1", "step train: unknown key `process`; did you mean `processes`?"),
        ("name: compose", "name: prepare", "two steps are called 'prepare'"),
        ("name: compose", "name: a/b", "a step is a name"),
        ("--root ${corpus}", "--rot ${corpus}", "step prepare: comsl.*error: .*--root"),
        ("--root ${corpus}", "--root ${corpsu}", "step prepare: no variable .{corpsu} so far; did you mean .{corpus}?"),
        ("data: ${out}/data", "data: ${later}/data", "variables: data: no variable .{later} so far"),
        ("'${out}/the parts'", "'${out}", "step compose: comsl: No closing quotation"),
        ("prepare mboshi --root ${corpus} --out ${data}", "run x", "step prepare: comsl run inside comsl run"),
        ("comsl: compose --speech s", "comsl: componse --speech s", "step compose: comsl: error: .*componse"),
        ("joint.yaml", "join.yaml", "step train: .*join.yaml: cannot read this recipe: No such file"),
    ],
)
def test_wrong_plans(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in PLAN
    with pytest.raises(PlanError, match=message):
        load_plan(write(tmp_path, PLAN.replace(old, new)), ["corpus=c"])


def test_a_wrong_recipe_is_found_before_anything_runs(tmp_path: Path) -> None:
    write(tmp_path, recipe=RECIPE.replace("train:", "trian:"))
    with pytest.raises(PlanError, match="step train: .*unknown key `data.trian`; did you mean `data.train`"):
        load_plan(tmp_path, ["corpus=c"])
    write(tmp_path, recipe=RECIPE.replace("{st: {}}", "{st: {}, erm: {layr: 4}}"))
    with pytest.raises(PlanError, match="step train: .*layr.*did you mean.*layer"):
        load_plan(tmp_path, ["corpus=c"])


def test_no_plan(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="covost2/run.yaml: no such file$"):
        load_plan(tmp_path / "covost2")
    (tmp_path / "mboshi").mkdir()
    write(tmp_path / "mboshi")
    with pytest.raises(PlanError, match="mbosi/run.yaml: no such file; did you mean .*/mboshi.$"):
        load_plan(tmp_path / "mbosi")


@pytest.mark.parametrize(("recipe", "needs"), [("covost2", ["covost=a", "common_voice=b"]), ("covost2-mini", [])])
def test_the_recipes_refuse_languages_that_were_not_asked_for(recipe: str, needs: list[str]) -> None:
    """Their patterns would take every pair that an earlier run has left in the folder."""
    steps = load_plan(Path(__file__).parents[2] / "recipes" / recipe, [*needs, "languages=[fr, de]"]).steps
    (words,) = (step.words for step in steps if step.name == "prepare")
    assert {"--no-others", "fr", "de"} <= set(words)
