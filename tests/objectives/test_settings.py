import pytest

from comsl.objectives import ObjectiveError, ObjectiveSet

PAPER = dict.fromkeys(["asr", "st", "mt", "ddm", "mtp", "stm", "erm"], True)


def weights(objectives: ObjectiveSet) -> dict[str, float]:
    class Anything(dict):
        def __missing__(self, key):
            return 0.0

    class Views:
        cross_entropy = match = frozen_match = Anything()

    skip_erm = [objective for objective in objectives if objective.name != "erm"]
    return {term.name: term.weight for objective in skip_erm for term in objective.terms(Views())}


def test_defaults_are_the_papers_total():
    assert weights(ObjectiveSet(PAPER)) == pytest.approx(
        {
            "asr": 0.35,
            "st": 0.35 * 0.2,
            "ddm_st": 0.35 * 0.8,
            "mt": 0.2 * 0.8,
            "mt_teacher": 0.2 * 0.2,
            "mtp": 0.1 / 3,
            "stm_asr": 0.1 / 3,
            "stm_st": 0.1 / 3 * 0.2,
            "ddm_stm": 0.1 / 3 * 0.8,
        }
    )
    assert ObjectiveSet(PAPER).settings()["erm"] == {"weight": 0.02, "layer": 4}


def test_without_distribution_matching_the_cross_entropy_takes_its_share():
    assert weights(ObjectiveSet({**PAPER, "ddm": None}))["st"] == pytest.approx(0.35)


def test_the_order_of_lines_changes_nothing():
    assert list(ObjectiveSet(dict(reversed(PAPER.items())))) == list(ObjectiveSet(PAPER))


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"asr": True}, {"speech", "transcript"}),
        ({"st": True}, {"speech", "translation"}),
        ({"mt": True}, {"transcript", "translation"}),
        ({"ctc": True}, {"speech", "ctc"}),
        ({"st": True, "ddm": True}, {"speech", "transcript", "translation"}),
        ({"asr": True, "erm": True}, {"speech", "transcript", "masked_transcript"}),
        (PAPER, {"speech", "transcript", "masked_transcript", "translation"}),
    ],
)
def test_fields_are_what_is_read_and_no_more(settings, fields):
    assert ObjectiveSet(settings).fields == fields


def test_only_a_share_for_the_teacher_needs_one():
    assert ObjectiveSet({"mt": True}).needs_teacher
    assert not ObjectiveSet({"mt": {"teacher_share": 0}}).needs_teacher


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sst": True}, "unknown objective 'sst'; did you mean 'st'"),
        ({"st": {"wieght": 1}}, "unknown setting of objectives.st 'wieght'; did you mean 'weight'"),
        ({"st": {"weight": "much"}}, "objectives.st.weight: expected a number"),
        ({"st": {"weight": -1}}, "objectives.st.weight: -1 is not at least 0"),
        ({"st": True, "ddm": {"share": 2}}, "objectives.ddm.share: 2 is not between 0 and 1"),
        ({"st": 3}, "objectives.st: expected its settings"),
        ({"asr": True, "erm": {"layer": 0}}, "objectives.erm.layer: 0 is not at least 1"),
        ({}, "no objective is switched on"),
        ({"ddm": True}, "no objective is switched on"),
        ({"mt": True, "ddm": True}, "objectives.ddm shares the weight of st and stm"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ObjectiveError, match=message.replace("(", r"\(")):
        ObjectiveSet(settings)
