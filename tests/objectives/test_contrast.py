"""Word-level contrast: the alignment against every path there is, the loss by hand, the words' places."""

from itertools import product

import pytest
import torch

from comsl.objectives import ObjectiveError, ObjectiveSet
from comsl.objectives.alignment import align
from comsl.objectives.contrast import contrast
from comsl.objectives.views import compute_views
from comsl.objectives.words import Words
from tests.objectives.test_joint import PIECES, UTTERANCES, collate, joint_model

CONTRAST = {"ctc": True, "contrast": True}


def spelling(path):
    """What CTC makes of a path: repeats once, blanks not at all."""
    return [symbol for place, symbol in enumerate(path) if symbol and (place == 0 or path[place - 1] != symbol)]


@pytest.mark.parametrize("labels", [[1], [1, 2], [2, 2], [1, 2, 1]])
@pytest.mark.parametrize("seed", range(3))
def test_alignment_is_the_best_of_all_paths(labels, seed):
    frames = 5
    log_probs = torch.randn(1, frames, 3, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    paths = [path for path in product(range(3), repeat=frames) if spelling(path) == labels]
    best = max(paths, key=lambda path: sum(float(log_probs[0, t, s]) for t, s in enumerate(path)))
    begins = [t for t, s in enumerate(best) if s and (t == 0 or best[t - 1] != s)]
    ends = [t for t, s in enumerate(best) if s and (t == frames - 1 or best[t + 1] != s)]
    # In a batch with a longer clip and longer labels, so that padding is there and must not matter.
    other = torch.randn(1, frames + 3, 3, generator=torch.Generator().manual_seed(9)).log_softmax(-1)
    padded = torch.cat([torch.nn.functional.pad(log_probs, (0, 0, 0, 3), value=7.0), other])
    texts = torch.full((2, 4), -100)
    texts[0, : len(labels)] = torch.tensor(labels)
    texts[1] = torch.tensor([1, 2, 1, 2])
    found = align(padded, torch.tensor([frames, frames + 3]), texts, torch.tensor([len(labels), 4]))
    assert found.first[0, : len(labels)].tolist() == begins
    assert found.last[0, : len(labels)].tolist() == ends
    assert found.aligned.tolist() == [True, True]


def test_what_cannot_be_aligned_says_so():
    log_probs = torch.zeros(3, 4, 3).log_softmax(-1)
    labels = torch.tensor([[1, 1, 2, -100], [1, 1, 1, -100], [-100, -100, -100, -100]])
    found = align(log_probs, torch.tensor([4, 4, 4]), labels, torch.tensor([3, 3, 0]))
    assert found.aligned.tolist() == [True, False, False]  # a blank between equals: five frames for the second


def test_loss_by_hand():
    speech = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    text = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 0.0]], dtype=torch.float64)
    spelling = torch.tensor([[7, 8], [7, -1], [7, 8]])  # the first and last alike
    half = 0.5**0.5
    wanted = sum(
        -torch.tensor(row, dtype=torch.float64).div(0.5).log_softmax(0)[place]
        for row, place in (([1.0, 0.0], 0), ([0.0, 1.0, 0.0], 1), ([half, half], 1))
    )
    torch.testing.assert_close(contrast(Words(speech, text, spelling, torch.tensor(0)), 0.5), wanted)


def worded(*utterances):
    """The first two tokens and symbols are the first word, all others the second."""
    batch = collate(list(utterances))
    for name, source, start in (("transcript_words", "transcript_ids", 1), ("ctc_words", "ctc_labels", 0)):
        batch[name] = torch.full_like(batch[source], -1)
        for row, utterance in enumerate(utterances):
            length = len(utterance["ctc_labels"])
            batch[name][row, start : start + length] = torch.tensor([0, 0] + [1] * (length - 2))
    return batch


def words_of(joint, *utterances):
    (words,) = compute_views(joint.model, worded(*utterances), joint.objectives.reads).words
    return words


@torch.no_grad()
def test_words_are_the_means_of_their_positions_whatever_is_beside_them():
    joint = joint_model(CONTRAST)
    batch = worded(*UTTERANCES[:2])
    together = words_of(joint, *UTTERANCES[:2])
    alone = [words_of(joint, utterance) for utterance in UTTERANCES[:2]]
    for side in ("speech", "text"):
        torch.testing.assert_close(getattr(together, side), torch.cat([getattr(words, side) for words in alone]))
    assert together.speech.shape == (4, 16)
    assert together.spelling[0].tolist() == [*batch["transcript_ids"][0, 1:3].tolist(), *[-1] * 7]
    assert together.spelling[3].tolist() == batch["transcript_ids"][1, 3:12].tolist()
    torch.testing.assert_close(together.text[0], joint.model.embed_text(batch["transcript_ids"][0, 1:3]).mean(0))
    frames, lengths = joint.model.encode_speech(batch["input_features"], batch["attention_mask"])
    labels = batch["ctc_labels"]
    found = align(joint.model.ctc_head(frames).log_softmax(-1), lengths, labels, (labels >= 0).sum(1))
    embeds, _ = joint.model.embed_speech(frames, lengths, batch["source_language_ids"])
    starts = found.first // 4  # two layers of stride 2
    for row, words in enumerate((together.speech[:2], together.speech[2:])):
        # The first lasts until the second begins, the second until its last symbol ends.
        first = embeds[row, 1 + starts[row, 0] : 2 + (found.first[row, 2] - 1) // 4]
        second = embeds[row, 1 + starts[row, 2] : 2 + found.last[row, (labels[row] >= 0).sum() - 1] // 4]
        torch.testing.assert_close(words, torch.stack([first.mean(0), second.mean(0)]))


def test_utterances_that_cannot_be_placed_are_counted():
    joint = joint_model(CONTRAST)
    batch = worded(*UTTERANCES)
    whole = joint(batch).terms
    assert whole["contrast_unaligned"] == (0, 5)
    few = worded(*UTTERANCES)
    few["attention_mask"][2, 2:] = 0  # one frame for two symbols
    output = joint(few)
    assert output.terms["contrast_unaligned"] == (1, 5)
    output.loss.backward()
    assert torch.isfinite(joint.model.adapter.layers[0].conv.weight.grad).all()
    silent = worded(*UTTERANCES)
    silent["ctc_words"][0].clamp_(max=0)  # the second word has no symbol
    assert joint(silent).terms["contrast_unaligned"] == (2, 5)
    more = worded(*UTTERANCES)
    more["ctc_words"][1, 3:11] += 1  # three words by its symbols, two by its tokens
    assert joint(more).terms["contrast_unaligned"] == (2, 5)


def test_the_words_of_two_passes_do_not_compete():
    batch = worded(*UTTERANCES)
    settings = {**CONTRAST, "st": True}
    once = joint_model(settings)(batch).terms["contrast"]
    twice = joint_model({**settings, "rdrop": True})(batch).terms["contrast"]  # without dropout: the same twice
    torch.testing.assert_close(twice[0] / twice[1], once[0] / once[1])


def test_it_trains_the_embeddings_whatever_is_beside_it():
    for beside in ({}, {"ot": True}):
        joint = joint_model({**CONTRAST, **beside})
        assert joint.model.text_encoder.embed_tokens.weight.requires_grad


def test_contrast_needs_ctc_and_an_adapter_to_draw_to_the_text():
    with pytest.raises(ObjectiveError, match=r"switch objectives\.ctc on"):
        ObjectiveSet({"contrast": True, "st": True})
    with pytest.raises(ObjectiveError, match="adapter convolution"):
        joint_model(CONTRAST, ctc_tokens=PIECES)
