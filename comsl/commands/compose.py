"""``comsl compose``: two pretrained models into one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from comsl.commands.common import Command, check_folder, hide_library_bars, positive, say
from comsl.errors import UsageError


def add_compose(command: Command) -> None:
    parser = command(
        "compose",
        "make one model out of a pretrained speech model and a pretrained text model",
        "comsl compose --speech openai/whisper-medium --text facebook/mbart-large-50-many-to-many-mmt \\",
        "      --new-language cy=en --new-language ca=es --out parts/medium",
    )
    part = "hub id or directory of a transformers model, or of a ComSL model to take that part of"
    parser.add_argument("--speech", required=True, metavar="MODEL", help=part)
    parser.add_argument("--text", required=True, metavar="MODEL", help=part)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where to save the composite")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what starts at random (default 0)")
    parser.add_argument(
        "--languages", nargs="+", metavar="LANG", help="keep to these (default: all the text model has)"
    )
    parser.add_argument(
        "--new-language",
        action="append",
        default=[],
        metavar="NEW[=RELATED]",
        help="add a language token that starts from a related language's; may be repeated",
    )
    symbols = parser.add_mutually_exclusive_group()
    symbols.add_argument(
        "--ctc-characters",
        type=Path,
        metavar="FILE",
        help="give the speech encoder a CTC layer over the characters of this manifest or text file",
    )
    symbols.add_argument(
        "--ctc-pieces",
        type=Path,
        metavar="FILE",
        help="instead: a CTC layer over the text model's pieces in this manifest or text file",
    )
    parser.add_argument(
        "--adapter",
        choices=("convolution", "ctc"),
        default="convolution",
        help="from speech to text: the paper's convolutions (default), or the pieces that CTC hears, a vector each",
    )
    parser.add_argument(
        "--fixed-duration",
        type=float,
        metavar="SECONDS",
        help="pad every clip so far (Whisper's own regime: 30; default: true lengths)",
    )
    parser.add_argument(
        "--adapter-strides", type=positive, nargs="+", default=[2, 2], metavar="N", help="of the adapter (default 2 2)"
    )


def compose(arguments: argparse.Namespace) -> int:
    from comsl.data.characters import character_vocabulary, read_texts
    from comsl.model.compose import compose

    if arguments.adapter == "ctc" and not arguments.ctc_pieces:
        raise UsageError("--adapter ctc reads pieces of the text model: name a manifest or text with --ctc-pieces")
    related = dict(map(_new_language, arguments.new_language))
    if len(related) < len(arguments.new_language):
        raise UsageError("--new-language: a language is named twice; name it once")
    symbols = character_vocabulary(arguments.ctc_characters) if arguments.ctc_characters else None
    texts = read_texts(arguments.ctc_pieces) if arguments.ctc_pieces else None
    check_folder(arguments.out)
    if (arguments.out / "config.json").exists():
        raise UsageError(f"--out {arguments.out}: holds a model already; name another directory, or remove it")
    say(f"loading {arguments.speech} and {arguments.text}")
    hide_library_bars()
    model, _ = compose(
        arguments.speech,
        arguments.text,
        related,
        arguments.out,
        languages=arguments.languages,
        ctc_vocabulary=symbols,
        ctc_texts=texts,
        adapter=arguments.adapter,
        adapter_strides=arguments.adapter_strides,
        fixed_duration=arguments.fixed_duration,
        seed=arguments.seed,
    )
    parts = {"speech encoder": model.speech_encoder, "adapter": model.adapter, "text model": model.text_model}
    print(f"{arguments.out}: {_size(model)} parameters, languages {' '.join(model.config.languages or ())}")
    for name, part in parts.items():
        print(f"  {name}: {_size(part)}")
    return 0


def _new_language(text: str) -> tuple[str, str | None]:
    code, _, related = text.partition("=")
    return code, related or None


def _size(module: Any) -> str:
    count = sum(parameter.numel() for parameter in module.parameters())
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.1f} k"
