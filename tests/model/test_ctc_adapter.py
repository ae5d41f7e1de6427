"""Speech as the pieces that CTC hears: compression, soft embeddings, and what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from comsl.errors import UsageError
from comsl.inference.ctc import greedy_transcript
from comsl.model import ComposeError, ComSLConfig, CTCAdapter, compose, load_model
from comsl.model.coverage import Texts
from comsl.model.trim import trim
from tests import tiny

CONFIG = ComSLConfig(
    speech_config={"model_type": "whisper", "d_model": 6},
    text_config={"model_type": "mbart", "vocab_size": 10, "d_model": 8},
)
PIECES, END = torch.randn(3, 8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
SENTENCE = "guten morgen"


def adapter(gate: float = 0.0) -> CTCAdapter:
    made = CTCAdapter(CONFIG, 6).double()
    torch.nn.init.constant_(made.gate, gate)
    return made


def certain(path: list[int], symbols: int = 4) -> torch.Tensor:
    """Logits [F, C] of a head that has no doubt."""
    return 1000.0 * torch.nn.functional.one_hot(torch.tensor(path), symbols).double()


def heard(made: CTCAdapter, logits: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
    """Vectors [S+1, d] of one clip."""
    hidden = torch.randn(len(logits), 6, dtype=torch.float64) if hidden is None else hidden
    vectors, lengths = made(hidden[None], torch.tensor([len(logits)]), logits[None], PIECES, END)
    assert lengths.tolist() == [vectors.shape[1]]
    return vectors[0]


@pytest.mark.parametrize(
    ("path", "pieces"),
    [
        ([0, 2, 2, 0, 0, 2, 3, 0], [2, 2, 3]),
        ([1], [1]),
        ([3, 1, 1], [3, 1]),
    ],
)
def test_a_clear_path_is_the_embeddings_of_its_pieces_and_the_end(path: list[int], pieces: list[int]) -> None:
    expected = torch.stack([*(PIECES[symbol - 1] for symbol in pieces), END])
    torch.testing.assert_close(heard(adapter(), certain(path)), expected)


def test_nothing_heard_is_one_doubtful_piece() -> None:
    logits = torch.tensor([[9.0, 1.0, 0.0, 0.0], [9.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).softmax(0)
    torch.testing.assert_close(heard(adapter(), logits), torch.stack([weights @ PIECES, END]))


def test_doubts_are_averaged_by_probability() -> None:
    """Two frames of one piece: (0.5 | 0.3, 0.2, 0) is a blank whose rest counts, (0.2 | 0.6, 0, 0.2) begins it."""
    probabilities = torch.tensor([[0.2, 0.6, 1e-300, 0.2], [0.5, 0.3, 0.2, 1e-300]], dtype=torch.float64)
    expected = (0.9 * PIECES[0] + 0.2 * PIECES[1] + 0.2 * PIECES[2]) / 1.3
    torch.testing.assert_close(heard(adapter(), probabilities.log())[0], expected)


def test_a_blank_of_any_certainty_leaves_the_pieces_comparable() -> None:
    """In the lowest precision that a decoder has, too."""
    logits = torch.tensor([[40.0, 1.0, 0.0, 0.0]])
    vectors, _ = adapter().half()(
        torch.randn(1, 1, 6).half(), torch.tensor([1]), logits[None].half(), PIECES.half(), END.half()
    )
    expected = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64).softmax(0) @ PIECES
    torch.testing.assert_close(vectors[0, 0].double(), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_has_finite_gradients(dtype: torch.dtype) -> None:
    made = adapter(gate=0.5).float()
    hidden = torch.randn(2, 20, 6, requires_grad=True)
    logits = (10 * torch.randn(2, 20, 4)).requires_grad_()
    pieces = PIECES.float().requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        vectors, _ = made(hidden, torch.tensor([20, 9]), logits.to(dtype), pieces, END.float())
    vectors.float().square().sum().backward()
    for tensor in (hidden, logits, pieces):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.any()


def test_how_it_sounded_is_added_behind_the_gate() -> None:
    made, hidden = adapter(gate=2.0), torch.randn(3, 6, dtype=torch.float64)
    first, second, end = heard(made, certain([0, 1, 2]), hidden)
    for vector, piece, sound in ((first, PIECES[0], hidden[:2].mean(0)), (second, PIECES[1], hidden[2])):
        torch.testing.assert_close(vector, piece + 2.0 * made.projection(made.layer_norm(sound)))
    assert torch.equal(end, END)


def test_padding_changes_nothing() -> None:
    made = adapter(gate=0.5)
    lengths = torch.arange(1, 12)
    hidden, logits = torch.randn(11, 11, 6).double(), 3 * torch.randn(11, 11, 4).double()
    together, found = made(hidden, lengths, logits, PIECES, END)
    assert bool((found <= made.output_lengths(lengths)).all())
    for row, length in enumerate(lengths.tolist()):
        alone = heard(made, logits[row, :length], hidden[row, :length])
        torch.testing.assert_close(together[row, : int(found[row])], alone)
        assert not together[row, int(found[row]) :].any()


# ------------------------------------------------------------------------------------------------------- the composite


@pytest.fixture
def composite(tmp_path: Path) -> tuple[Any, Any]:
    return tiny.tiny_comsl(tmp_path / "model", ctc_texts=[SENTENCE, "bonjour"], adapter="ctc")


class Scripted(torch.nn.Module):
    """A CTC head that hears what it is told, two frames a symbol with a blank between."""

    def __init__(self, symbols: list[int], size: int) -> None:
        super().__init__()
        self.path, self.size = [frame for symbol in symbols for frame in (symbol, symbol, 0)], size

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        path = (self.path + [0] * hidden.shape[1])[: hidden.shape[1]]
        return certain(path, self.size).to(hidden.dtype).expand(len(hidden), -1, -1)


def test_untrained_speech_reads_as_its_transcript(composite: tuple[Any, Any]) -> None:
    model, processor = composite
    symbols, unknown = processor.ctc_ids(SENTENCE)
    assert symbols
    assert not unknown
    model.ctc_head = Scripted(symbols, len(model.config.ctc_vocabulary))
    speech = processor(tiny.waveform(2.0), source_language="de")
    text = processor(text=SENTENCE, source_language="de")
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode(**speech).last_hidden_state, model.encode(**text).last_hidden_state, atol=1e-5, rtol=1e-5
        )


def test_symbols_spell_the_text(composite: tuple[Any, Any]) -> None:
    model, processor = composite
    symbols, unknown = processor.ctc_ids(SENTENCE)
    assert unknown == 0
    vocabulary = model.config.ctc_vocabulary
    assert vocabulary == processor.ctc_vocabulary
    assert vocabulary[0] == "<blank>"
    path = [frame for symbol in symbols for frame in (symbol, 0)]
    assert greedy_transcript(certain(path, len(vocabulary)), vocabulary).text == SENTENCE
    assert processor.ctc_ids("guten xyz")[1] > 0, "pieces that no text had are counted"


def test_saved_and_loaded_it_is_the_same(composite: tuple[Any, Any], tmp_path: Path) -> None:
    model, processor = composite
    loaded, its_processor = load_model(tmp_path / "model")
    assert isinstance(loaded.adapter, CTCAdapter)
    assert its_processor.ctc_ids(SENTENCE) == processor.ctc_ids(SENTENCE)
    speech = processor(tiny.waveform(1.5), source_language="de")
    with torch.no_grad():
        before, after = (each.eval().encode(**speech).last_hidden_state for each in (model, loaded))
    torch.testing.assert_close(before, after, atol=0, rtol=0)


def test_a_speech_stage_lends_its_head(composite: tuple[Any, Any], tmp_path: Path) -> None:
    parts = tmp_path / "model-parts"
    again, _ = compose(tmp_path / "model", parts / "text", {"cy": "en"}, ctc_texts=["bonjour", SENTENCE], seed=5)
    assert torch.equal(again.ctc_head.weight, composite[0].ctc_head.weight)
    other, _ = compose(tmp_path / "model", parts / "text", {"cy": "en"}, ctc_texts=["bonjour"], seed=5)
    assert len(other.ctc_head.weight) < len(again.ctc_head.weight)
    with pytest.raises(ComposeError, match=r"its CTC head hears \d+ pieces, and \d+ were asked for"):
        compose(tmp_path / "model", parts / "text", {"cy": "en"}, ctc_texts=["bonjour"], adapter="ctc")


def test_trimming_keeps_what_is_heard(composite: tuple[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("bonjour\n")
    trim(tmp_path / "model", tmp_path / "small", Texts(files=[str(tmp_path / "corpus.txt")]), languages=["fr", "de"])
    small, its_processor = load_model(tmp_path / "small")
    model, processor = composite
    assert small.config.vocab_size < model.config.vocab_size
    assert its_processor.ctc_ids(SENTENCE) == processor.ctc_ids(SENTENCE)
    clip = tiny.waveform(1.5)
    with torch.no_grad():
        found = [
            each.eval().encode(**own(clip, source_language="de")).last_hidden_state
            for each, own in ((model, processor), (small, its_processor))
        ]
    torch.testing.assert_close(*found)


def test_contradictions_are_named(tmp_path: Path) -> None:
    speech, text = tiny.tiny_whisper(tmp_path / "speech"), tiny.tiny_mbart50(tmp_path / "text")
    with pytest.raises(UsageError, match="ctc_vocabulary and ctc_texts: give one of them"):
        compose(speech, text, ctc_vocabulary=["<blank>", "a"], ctc_texts=["a"])
    with pytest.raises(UsageError, match="ctc_texts: no piece"):
        compose(speech, text, ctc_texts=[])
    with pytest.raises(UsageError, match="the adapter ctc reads a CTC head over pieces"):
        compose(speech, text, adapter="ctc", ctc_vocabulary=["<blank>", "a"])
