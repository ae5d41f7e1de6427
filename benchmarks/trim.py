"""What ``comsl trim`` saves at mBART-50's real sizes: ``python -m benchmarks.trim [PIECES ...]``.

Makes an mBART-50 text model of 250,054 tokens with random weights and made-up pieces, trims it to corpora that use some
thousands of them, and measures the output layer before and after in turns, as training spends it: logits,
cross-entropy and gradients of a batch of target positions, and AdamW's step on the embedding. Every time is the median
of several; what the machine does in a large matrix product of the same run is printed beside it.

With ``--text MODEL --manifest FILES`` a checkpoint and a corpus of one's own are measured instead.
"""

from __future__ import annotations

import argparse
import itertools
import random
import string
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import cross_entropy, linear
from transformers import MBart50Tokenizer, MBartForConditionalGeneration
from transformers.models.mbart50.tokenization_mbart50 import FAIRSEQ_LANGUAGE_CODES

from benchmarks.machine import medians_in_turns
from benchmarks.models import mbart_config
from comsl.model.coverage import Texts, TrimReport
from comsl.model.loading import quiet
from comsl.model.trim import trim

VOCABULARY = 250_054
WIDTH = 1024
POSITIONS = 256
"""Target positions that are scored at once: eight sentences of 32 tokens."""


def made_up_pieces(count: int) -> list[tuple[str, float]]:
    """Words of one to four letters, each cheaper than any two pieces, and the letters to spell any other."""
    words = itertools.chain.from_iterable(itertools.product(string.ascii_lowercase, repeat=n) for n in range(1, 5))
    pieces = ["▁", *string.ascii_lowercase, *("▁" + "".join(word) for word in words)][:count]
    return [(piece, -10.0 - rank / count) for rank, piece in enumerate(pieces)]


def save_text_model(path: Path, layers: int) -> list[str]:
    """A model of mBART-50's vocabulary and width; returns the words that are pieces."""
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    languages = [(code, 0.0) for code in FAIRSEQ_LANGUAGE_CODES]
    pieces = made_up_pieces(VOCABULARY - len(special) - len(languages) - 1)
    tokenizer = MBart50Tokenizer(vocab=[*special, *pieces, *languages, ("<mask>", 0.0)])
    config = mbart_config("medium", vocabulary=VOCABULARY)
    config.encoder_layers = config.decoder_layers = layers
    with quiet():
        MBartForConditionalGeneration(config).save_pretrained(path)
        tokenizer.save_pretrained(path)
    return [piece[1:] for piece, _ in pieces if len(piece) > 1 and piece[0] == "▁"]


def step_of(rows: int) -> Callable[[], None]:
    """Output layer and its optimizer, of so many tokens."""
    weight = torch.nn.Parameter(0.02 * torch.randn(rows, WIDTH))
    hidden = torch.randn(POSITIONS, WIDTH, requires_grad=True)
    targets = torch.randint(rows, (POSITIONS,))
    optimizer = torch.optim.AdamW([weight], lr=1e-6, fused=True)

    def step() -> None:
        cross_entropy(linear(hidden, weight), targets).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def matrix_product() -> tuple[Callable[[], None], float]:
    """A large float32 matrix product and its operations: the machine's limit."""
    size = 3072
    left, right = torch.randn(size, size), torch.randn(size, size)
    return lambda: (left @ right, None)[1], 2.0 * size**3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", nargs="*", type=int, default=[60_000, 30_000, 15_000], help="pieces in use")
    parser.add_argument("--layers", type=int, default=12, help="of encoder and decoder each (default 12)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--text", metavar="MODEL", help="a text model instead of the made-up one")
    parser.add_argument("--manifest", nargs="+", type=Path, default=[], help="the corpus that goes with it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.text:
            reports = [trim(arguments.text, folder / "small", Texts(arguments.manifest))]
        else:
            words = save_text_model(folder / "whole", arguments.layers)
            reports = [trimmed_to(folder, random.Random(0).sample(words, count)) for count in arguments.pieces]
    show(reports, arguments.repeats)


def trimmed_to(folder: Path, words: list[str]) -> TrimReport:
    corpus, out = folder / "corpus.txt", folder / str(len(words))
    corpus.write_text("\n".join(" ".join(words[i : i + 20]) for i in range(0, len(words), 20)), encoding="utf-8")
    report = trim(folder / "whole", out, Texts(files=[corpus]))
    assert report.coverage["corpus"]["text files"].cut_differently == 0
    for file in out.iterdir():
        file.unlink()
    return report


def show(reports: list[TrimReport], repeats: int) -> None:
    """Sizes of the models, and times and shares of the limit of their output layers."""
    sizes = [(reports[0].vocabulary[0], reports[0].parameters[0], reports[0].megabytes[0])]
    sizes += [(report.vocabulary[1], report.parameters[1], report.megabytes[1]) for report in reports]
    product, operations = matrix_product()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        seconds = medians_in_turns({"limit": product} | {rows: step_of(rows) for rows, _, _ in sizes}, repeats)
    limit = operations / seconds["limit"]
    table = Table()
    for head in ("tokens", "parameters", "MB", "step of the output layer", "ratio", "of the limit"):
        table.add_column(head, justify="right")
    for rows, parameters, megabytes in sizes:
        arithmetic = 6.0 * rows * WIDTH * POSITIONS  # logits, their gradient to the states, and to the weights
        table.add_row(
            f"{rows:,}",
            f"{parameters / 1e6:.1f} M",
            f"{megabytes:,.0f}",
            f"{seconds[rows]:.3f} s",
            f"{seconds[sizes[0][0]] / seconds[rows]:.2f}x",
            f"{arithmetic / seconds[rows] / limit:.0%}",
        )
    Console(width=100).print(table)
    print(f"float32, {torch.get_num_threads()} threads; {POSITIONS} positions, width {WIDTH}, AdamW's step included;")
    print(f"matrix product of the same run: {limit / 1e9:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
