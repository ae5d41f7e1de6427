"""The translation memory: recalled by what CTC heard, answered with, and weighed among the other ways."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from comsl.data.manifest import write_manifest
from comsl.errors import UsageError
from comsl.inference.clips import prepare_clip
from comsl.inference.ctc import ctc_scores, sampled_transcripts
from comsl.inference.decode import DecodingOptions, Hypothesis, check_memory, decode_modes
from comsl.inference.lookup import Lookup
from comsl.inference.mbr import least_risk
from comsl.inference.memory import Recalled, Rule, TranslationMemory, read_memory
from tests.tiny import tiny_comsl, waveform

SENTENCES = [
    ("der alte mann", "the old man"),
    ("die alte frau", "the old woman"),
    ("der mann liest", "the man reads"),
    ("wo ist der bahnhof", "where is the station"),
]
SYMBOLS = ["<blank>", *" abcdefghijklmnopqrstuvwxyz"]
OPTIONS = DecodingOptions(beam=2, tokens_per_second=4.0, extra_tokens=3, tokens_per_token=1.0)


class Spelling(torch.nn.Module):
    """A CTC head that hears a text, two frames a letter with a blank between, each letter with some doubt."""

    def __init__(self, text: str, doubt: float = 4.0) -> None:
        super().__init__()
        self.text, self.doubt = text, doubt

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        path = [frame for letter in self.text for frame in (SYMBOLS.index(letter), 0)]
        path = (path + [0] * hidden.shape[1])[: hidden.shape[1]]
        logits = self.doubt * torch.nn.functional.one_hot(torch.tensor(path), len(SYMBOLS))
        return logits.to(hidden.dtype).expand(len(hidden), -1, -1)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return tiny_comsl(tmp_path_factory.mktemp("memory") / "model", ctc_vocabulary=SYMBOLS)


def rows_of(sentences):
    return [("de", "en", said, meant) for said, meant in sentences]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rows = [
        {"id": str(number), "source_language": "de", "target_language": "en", "transcript": said, "translation": meant}
        for number, (said, meant) in enumerate(SENTENCES)
    ]
    rows.append({"id": "x", "source_language": "de", "target_language": "en", "transcript": "der mann"})
    write_manifest(rows, tmp_path / "memory.jsonl")
    return tmp_path / "memory.jsonl"


def hearing(model, text, doubt=4.0):
    model.ctc_head = Spelling(text, doubt)
    return model.ctc_head(torch.zeros(1, 60, 1))[0].log_softmax(-1)


def test_the_sentence_that_was_misheard_is_recalled(parts, manifest):
    model, processor = parts
    heard = hearing(model, "ter alde man")
    found = read_memory([manifest]).recall(heard, processor, "de", "en")
    assert found[0].translation == "the old man"
    own, score = ctc_scores(heard, ["ter alde man", "der alte mann"], processor)
    assert found[0].gap == pytest.approx((own - score) / ((12 + 13) / 2))
    assert found[0].gap < 1 < found[1].gap
    drawn = sampled_transcripts(heard, processor.ctc_vocabulary, 64)
    assert found[0].likeness == Lookup([said for said, _ in SENTENCES], [""] * 4).similarities(*drawn)[0]
    # As it stands in the memory it is no less likely than itself.
    assert read_memory([manifest]).recall(hearing(model, "wo ist der bahnhof"), processor, "deu", "eng")[0].gap == 0


@pytest.mark.parametrize(
    ("likeness", "sharpness", "first"), [(10.0, 1.0, "alike"), (0.0, 1.0, "likely"), (10.0, 0.0, "alike")]
)
def test_how_it_is_spelled_counts_beside_how_likely_it_is(parts, likeness, sharpness, first):
    """Of a sentence with all letters right but others before them, and one with some wrong."""
    model, processor = parts
    heard = hearing(model, "der bahnhof")
    rows = rows_of([("ich suche der bahnhof", "alike"), ("dex bxhnxof", "likely")])
    found = TranslationMemory(rows, rule=Rule(likeness=likeness, sharpness=sharpness)).recall(
        heard, processor, "de", "en"
    )
    alike, likely = sorted(found, key=lambda each: each.translation)
    assert alike.likeness > likely.likeness
    assert alike.gap > likely.gap
    assert alike.score == pytest.approx(likeness * alike.likeness - sharpness * alike.gap / likely.gap)
    assert likely.score == pytest.approx(likeness * likely.likeness - sharpness)
    assert [found[0].translation, found[0].score] == [first, max(alike.score, likely.score)]


def test_a_gap_of_next_to_nothing_is_none(parts):
    """Else the ratio to it would rule out a sentence that differs in one letter which was hardly heard."""
    model, processor = parts
    memory = TranslationMemory(rows_of([("der mann", "the man"), ("der rabe", "the raven")]))
    found = memory.recall(hearing(model, "der mann"), processor, "de", "en")
    assert found[0].gap == 0.0
    assert found[0].score == pytest.approx(10 * found[0].likeness - 1)
    assert found[1].score == pytest.approx(10 * found[1].likeness - found[1].gap / 0.05)


def test_only_the_sentences_spelled_most_like_it_are_asked_about(parts):
    model, processor = parts
    heard = hearing(model, "der alte mann")
    (found,) = TranslationMemory(rows_of(SENTENCES), rule=Rule(candidates=1)).recall(heard, processor, "de", "en")
    assert found.translation == "the old man"
    (whole,) = Lookup(["der alte mann"], [""]).similarities("der alte mann")
    greedy = TranslationMemory(rows_of(SENTENCES[:1]), rule=Rule(hearings=0)).recall(heard, processor, "de", "en")
    assert greedy[0].likeness == whole == pytest.approx(1.0)
    assert found.likeness < whole


def test_a_doubtful_head_is_answered_all_the_same(parts):
    """Of what it may have heard something is in the memory; the gap says how little that means."""
    model, processor = parts
    found = TranslationMemory(rows_of(SENTENCES)).recall(hearing(model, "qq", doubt=4.0), processor, "de", "en")
    assert found
    assert min(each.gap for each in found) > 3


def test_spelling_does_not_matter(parts):
    model, processor = parts
    memory = TranslationMemory(rows_of([("  Der  ALTE Mann ", "the old man"), ("die frau", "the woman")]))
    (first, *_) = memory.recall(hearing(model, "der alte mann"), processor, "de", "en")
    assert (first.translation, first.gap) == ("the old man", 0.0)


def test_what_the_head_cannot_spell_was_not_said(parts):
    model, processor = parts
    memory = TranslationMemory(rows_of([("der 1234567890 1234567890 mm", "nonsense"), ("der mann", "the man")]))
    assert [each.translation for each in memory.recall(hearing(model, "der mann"), processor, "de", "en")] == [
        "the man"
    ]


def test_a_sentence_that_stands_there_often_hides_no_other(parts):
    model, processor = parts
    often = [("der alte mann schlief", "he slept")] * 300 + [("der alte mann schlief", "he was asleep")] * 301
    memory = TranslationMemory(rows_of([*often, ("der alte mann", "the old man")]))
    found = memory.recall(hearing(model, "der alte mann"), processor, "de", "en")
    assert [each.translation for each in found] == ["the old man", "he was asleep"]  # the translation it has most often


def test_nothing_is_recalled_in_another_direction_or_of_silence(parts, manifest, capfd):
    model, processor = parts
    memory = read_memory([manifest])
    for _ in range(2):
        assert memory.recall(hearing(model, "der alte mann"), processor, "de", "fr") == []
    assert capfd.readouterr().err.count("nothing of de-fr in it, only of de-en") == 1
    assert memory.recall(hearing(model, ""), processor, "de", "en") == []
    assert memory.recall(hearing(model, "qq", doubt=50.0), processor, "de", "en") == []
    # Four frames spell no sentence.
    assert memory.recall(hearing(model, "der alte mann")[:4], processor, "de", "en") == []


def test_memory_answers_and_pooled_believes_what_was_said_again(parts, manifest):
    model, processor = parts
    clips = [prepare_clip(waveform(seconds), processor) for seconds in (2.0, 1.6)]
    memory = read_memory([manifest])
    hearing(model, "ter alde man")
    found = decode_modes(model, processor, clips, "de", "en", ["memory", "pooled"], OPTIONS, memory=memory)
    alone = decode_modes(model, processor, clips[1:], "de", "en", ["memory", "pooled"], OPTIONS, memory=memory)
    for row in (*found, *alone):
        assert row.translations["memory"].text == row.translations["pooled"].text == "the old man"
        assert math.isnan(row.translations["memory"].score)
    (only,) = decode_modes(model, processor, clips[:1], "de", "en", ["memory"], OPTIONS, memory=memory)
    assert only.transcript is None  # none was asked for, and none is made
    # Nothing recalled: as without a memory.
    hearing(model, "qq", doubt=50.0)
    (row,) = decode_modes(model, processor, clips[:1], "de", "en", ["memory", "pooled"], OPTIONS, memory=memory)
    (without,) = decode_modes(model, processor, clips[:1], "de", "en", ["pooled"], OPTIONS)
    assert row.translations["memory"].text == ""
    assert row.translations["pooled"].text == without.translations["pooled"].text


def test_what_several_recalled_sentences_nearly_share_is_safer_than_the_first(parts, monkeypatch):
    memory = TranslationMemory(rows_of([("ja", "yes")]), gap=2.5)
    scores = {"he went": 5.0, "the old man sleeps": 4.75, "the old man slept": 4.5}
    near = [Recalled(text, text, 2.0, 0.5, score) for text, score in scores.items()]
    recalled = [*near, Recalled("he went", "d", 2.3, 0.4, 4.4), Recalled("far off", "e", 4.0, 0.1, 0.0)]
    voices = memory.voices(recalled)
    # The second "he went" adds nothing.
    shares = [1, math.exp(-0.25), math.exp(-0.5)]
    assert [voice.text for voice, _ in voices][:3] == list(scores)
    assert [weight for _, weight in voices][:3] == pytest.approx(
        [share / (sum(shares) + math.exp(-5)) for share in shares]
    )
    assert memory.trust(near[0]) == pytest.approx(math.e)
    many = [Recalled(f"number {number}", "", 2.0, 0.5, 2 - number / 100) for number in range(40)]
    assert [voice.text for voice, _ in memory.voices(many)] == [f"number {number}" for number in range(16)]
    # As the mode answers.
    model, processor = parts
    hearing(model, "ja")
    monkeypatch.setattr(memory, "recall", lambda *_: recalled)
    (row,) = decode_modes(
        model, processor, [prepare_clip(waveform(1.0), processor)], "de", "en", ["memory"], OPTIONS, memory=memory
    )
    assert row.translations["memory"].text == "the old man sleeps"


def test_what_was_said_again_is_not_outvoted(parts, monkeypatch):
    """However many sentences are spelled nearly like it and translated alike."""
    model, processor = parts
    meant = "how do i get to the train please"
    places = ["hafen", "laden", "garten", "wagen", "hammer", "kater", "gang", "hahn", "mann", "rahmen", "halter"]
    others = [(f"wo ist der {place}", f"where is the {place}") for place in places]
    rows = rows_of([("wo ist der bahnhof", meant), *others])
    hearing(model, "wo ist der bahnhof")
    monkeypatch.setattr(
        "comsl.inference.decode.nbest",
        lambda m, p, memory, targets, *_: [[Hypothesis(meant, -0.1, [1])] for _ in targets],
    )
    (row,) = decode_modes(
        model, processor, [prepare_clip(waveform(2.0), processor)], "de", "en", ["memory", "pooled"],
        replace(OPTIONS, transcript="ctc"), memory=TranslationMemory(rows, 2.0),
    )  # fmt: skip
    assert {mode: found.text for mode, found in row.translations.items()} == {"memory": meant, "pooled": meant}


def test_pooled_listens_less_the_less_a_sentence_is_like_what_was_said(parts, monkeypatch):
    model, processor = parts
    clip = prepare_clip(waveform(2.0), processor)
    texts = iter(["the man reads a book", "the man reads the book", "a man reads the book"] * 2)

    def searched(model, processor, memory, targets, limits, options, count):
        return [[Hypothesis(next(texts), -0.1, [1])] for _ in targets]

    monkeypatch.setattr("comsl.inference.decode.nbest", searched)
    options = replace(OPTIONS, transcript="ctc")
    hearing(model, "der mann las ein buch")
    rows = rows_of([("der mann las mein buch", "the man was reading my book")])
    for gap, doubt, wanted in ((0.1, 1.0, "the man was reading my book"), (0.1, 12.0, "the man reads the book")):
        hearing(model, "der mann las ein buch", doubt)
        memory = TranslationMemory(rows, gap)
        (row,) = decode_modes(model, processor, [clip], "de", "en", ["pooled"], options, memory=memory)
        assert row.translations["pooled"].text == wanted


def test_recalled_candidates_have_the_weights_they_are_given():
    lists = [[Hypothesis("ab", -0.1, [1])], [Hypothesis("ab", -0.1, [1])]]
    xy, xz = Hypothesis("xy", math.nan), Hypothesis("xz", math.nan)
    assert least_risk(*lists, recalled=[(xy, 1.4), (xz, 0.5)]).text == "ab"  # "xy": 1.4 + 0.25 x 0.5 against 2
    assert least_risk(*lists, recalled=[(xy, 2.0), (xz, 0.5)]).text == "xy"


def test_what_cannot_be_is_said(parts, manifest, tmp_path):
    model, processor = parts
    clip = prepare_clip(waveform(0.5), processor)
    with pytest.raises(UsageError, match="name its manifest"):
        decode_modes(model, processor, [clip], "de", "en", ["memory"], OPTIONS)
    with pytest.raises(UsageError, match="only memory and pooled use it"):
        check_memory(model, ["direct"], read_memory([manifest]))
    write_manifest(
        [{"id": "1", "source_language": "de", "target_language": "en", "transcript": "ja"}], tmp_path / "none.jsonl"
    )
    with pytest.raises(UsageError, match=r"none\.jsonl: no row has both"):
        read_memory([tmp_path / "none.jsonl"])
    with pytest.raises(UsageError, match="from 0 to 100"):
        read_memory([manifest], math.nan)
    deaf = tiny_comsl(tmp_path / "deaf")
    with pytest.raises(UsageError, match="no CTC head to search it with"):
        decode_modes(*deaf, [clip], "de", "en", ["pooled"], OPTIONS, memory=read_memory([manifest]))


def test_what_is_in_it():
    memory = TranslationMemory([("de_DE", "en_XX", "Ja.", "yes")])
    assert memory.has(("de", "en", "ja.", "yes"))
    assert not memory.has(("de", "en", "ja.", "no"))
    assert not memory.has(("de", "fr", "ja.", "yes"))
