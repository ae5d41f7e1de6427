"""What commands that decode are called with, and what they make of it. Nothing heavy is imported before that."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from comsl.commands.common import positive
from comsl.errors import UsageError
from comsl.inference import MEMORY_GAP, MIXED_MEMORIES, PRECISIONS, TRANSCRIPT_SOURCES

if TYPE_CHECKING:
    from comsl.inference.decode import DecodingOptions
    from comsl.inference.memory import TranslationMemory


def add_decoding(parser: argparse.ArgumentParser, on_a_gpu: str) -> None:
    parser.add_argument("--beam", type=positive, default=5, metavar="N", help="beam size; 1 is greedy (default 5)")
    parser.add_argument("--batch-size", type=positive, default=8, metavar="N", help="utterances at once (default 8)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="what to compute in; int8 and bfloat16 are faster, smaller and less exact (default: float32 on the CPU, "
        f"{on_a_gpu} on a GPU)",
    )


def add_modes(parser: argparse.ArgumentParser) -> None:
    """Settings of the commands that translate in several modes; ``decoding_options`` reads them."""
    parser.add_argument(
        "--mbr",
        type=positive,
        metavar="N",
        help="minimum Bayes risk: of the N best of the search, write the translation that is expected to have the best "
        "chrF (at most the beam)",
    )
    parser.add_argument(
        "--transcript",
        choices=TRANSCRIPT_SOURCES,
        default="decoder",
        help="what transcribes: the decoder, or the CTC head of a model that has one (default decoder)",
    )
    parser.add_argument(
        "--ctc-weight",
        type=float,
        default=0.0,
        metavar="W",
        help="share of the CTC head's score, 0 to 1, in choosing among the decoder's best transcripts (default 0)",
    )
    parser.add_argument(
        "--mixed-memory",
        choices=MIXED_MEMORIES,
        default="speech",
        help="what the decoder reads of [transcript ; speech] in the mode mixed (default speech, as in training)",
    )
    parser.add_argument(
        "--memory",
        nargs="+",
        default=(),
        metavar="MANIFEST",
        help="translation memory, of transcribed and translated sentences such as the training set's: what memory "
        "answers from, and pooled listens to (needs a CTC head)",
    )
    parser.add_argument(
        "--memory-gap",
        type=float,
        default=MEMORY_GAP,
        metavar="X",
        help="the gap (nats a character by which CTC finds the memory's best sentence less likely than its own "
        f"transcript) where pooled trusts the memory as much as its other ways together (default {MEMORY_GAP:g})",
    )


def decoding_options(arguments: argparse.Namespace) -> DecodingOptions:
    """Of a command with ``add_decoding`` and ``add_modes``."""
    from comsl.inference.decode import DecodingOptions

    return DecodingOptions(
        beam=arguments.beam,
        batch_size=arguments.batch_size,
        mbr=arguments.mbr or 0,
        transcript=arguments.transcript,
        ctc_weight=arguments.ctc_weight,
        mixed_memory=arguments.mixed_memory,
    )


def memory(arguments: argparse.Namespace) -> TranslationMemory | None:
    """What --memory names, read before anything is decoded."""
    if not arguments.memory:
        return None
    from comsl.inference.memory import read_memory

    return read_memory(arguments.memory, arguments.memory_gap)


def device(arguments: argparse.Namespace) -> str | None:
    """The device that was asked for, tried out: a model half way to a device that is not there helps nobody."""
    if arguments.device is not None:
        import torch

        try:
            torch.empty(0, device=arguments.device)
        except (RuntimeError, AssertionError) as error:
            raise UsageError(f"--device {arguments.device}: {str(error).splitlines()[0]}") from error
    named: str | None = arguments.device
    return named
