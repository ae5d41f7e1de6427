"""``comsl prepare``: corpora into manifests."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from comsl.commands.common import Command, check_folder, complain, positive

if TYPE_CHECKING:
    from comsl.data.corpora.audit import Limits


def add_prepare(command: Command) -> None:
    parser = command(
        "prepare",
        "turn a corpus into manifests",
        "comsl prepare mboshi --root mboshi-french-parallel-corpus --out data/mboshi",
        "comsl prepare multi30k-speech --root multi30k-dataset --out data/multi30k-speech",
        "comsl prepare covost2 --covost covost2 --common-voice cv-corpus-4-2019-12-10 --out data/covost2",
        "comsl prepare covost2 --covost covost2 --common-voice downloads --languages fr de --out data/covost2",
        "comsl prepare pairs fra.txt --source-language en --target-language fr --held-out data/mboshi/test.jsonl \\",
        "      --out data/en_fr",
        "comsl prepare dataset fixie-ai/covost2 --config fr_en --source-language fr --target-language en \\",
        "      --columns audio=audio,transcript=sentence,translation=translation --out data/hub/fr_en",
    )
    corpora = parser.add_subparsers(dest="corpus", metavar="CORPUS", required=True)

    def corpus(name: str, text: str) -> argparse.ArgumentParser:
        added = corpora.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        added.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        added.set_defaults(parser=added)
        added.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the manifests go")
        return added

    mboshi = corpus("mboshi", "Mboshi speech, French translations (4.4 hours)")
    mboshi.add_argument("--root", required=True, type=Path, metavar="DIR", help="where the corpus lies")
    mboshi.add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="N",
        help="also fold-1 to fold-N, for cross-validation in the corpus's train part; the same French is never in "
        "training and test of a fold (default none)",
    )
    _add_pairs(corpus("pairs", "sentence pairs without speech, one a line with a tab between, for the text part"))
    _add_covost2(corpus("covost2", "CoVoST 2 over Common Voice: 21 languages into English, English into 15"))
    _add_dataset(corpus("dataset", "any data set of the datasets library, on the hub or on disk, by a column mapping"))
    _add_multi30k_speech(
        corpus("multi30k-speech", "Multi30k spoken by espeak-ng: German, French and Czech into English")
    )


def _add_multi30k_speech(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, type=Path, metavar="DIR", help="where multi30k/dataset lies")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of sentences and voices (default 0)")
    parser.add_argument(
        "--hours-limit",
        type=float,
        default=14.0,
        metavar="X",
        help="of training speech: what 12,000 triples (about 12 hours) leave of it goes to further transcribed clips "
        "(default 14)",
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="X", help="share of everything, to try things out (default 1)"
    )
    parser.add_argument("--workers", type=positive, default=2, metavar="N", help="processes that speak (default 2)")


def _add_pairs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="UTF-8; more columns than two are fine")
    parser.add_argument("--source-language", required=True, metavar="LANG", help="of the first sentence of a pair")
    parser.add_argument("--target-language", required=True, metavar="LANG", help="of the second")
    parser.add_argument(
        "--columns",
        nargs=2,
        type=positive,
        default=(1, 2),
        metavar="N",
        help="places of the two in a line (default 1 2)",
    )
    parser.add_argument(
        "--held-out",
        nargs="+",
        type=Path,
        default=(),
        metavar="MANIFEST",
        help="leave out pairs that have a sentence of these, whatever its case and punctuation",
    )


def _add_covost2(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--covost", required=True, type=Path, metavar="DIR", help="where covost_v2.<source>_<target>.tsv[.tar.gz] lie"
    )
    parser.add_argument(
        "--common-voice",
        required=True,
        type=Path,
        metavar="DIR",
        help="a Common Voice release, unpacked or as archives (a language each)",
    )
    parser.add_argument("--languages", nargs="+", metavar="LANG", help="those that are not English; all is the default")
    parser.add_argument(
        "--direction", choices=("xx-en", "en-xx"), default="xx-en", help="into or from English (default xx-en)"
    )
    parser.add_argument(
        "--partial", action="store_true", help="a part or a look-alike: do not expect the published numbers of rows"
    )
    parser.add_argument(
        "--no-others",
        action="store_true",
        help="refuse a DIR with manifests of other languages, which a pattern such as DIR/*_en/train.jsonl would take",
    )
    _add_clip_limits(parser)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME_OR_DIR", help="hub id, or a folder (of files, or of save_to_disk)")
    parser.add_argument(
        "--columns",
        required=True,
        metavar="FIELD=COLUMN,...",
        help="audio, and any of transcript, translation, id, speaker, source_language, target_language; COLUMN.KEY is "
        "a key of a column of objects",
    )
    parser.add_argument("--source-language", metavar="LANG", help="of all rows, where no column says it")
    parser.add_argument("--target-language", metavar="LANG", help="of all translations, where no column says it")
    parser.add_argument("--config", metavar="NAME", help="configuration of the data set")
    parser.add_argument("--split", nargs="+", metavar="NAME", help="splits to prepare (default: all)")
    parser.add_argument("--revision", metavar="NAME", help="branch, tag or commit on the hub")
    _add_clip_limits(parser)


def _add_clip_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="fail (exit code 1) if any row is lost or fails")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes that decode (default: all cores)")
    limits = (
        ("--min-duration", 0.1, "seconds of the shortest clip to use"),
        ("--max-duration", 30.0, "seconds of the longest clip to use"),
        ("--outlier-score", 6.0, "robust standard deviations beyond which a clip's length is reported"),
    )
    for name, default, text in limits:
        parser.add_argument(name, type=float, default=default, metavar="X", help=f"{text} (default {default:g})")


# --------------------------------------------------------------------------------------------------------- handlers


def prepare(arguments: argparse.Namespace) -> int:
    """Run ``comsl prepare CORPUS`` and return its exit code."""
    return PREPARERS[arguments.corpus](arguments)


def _prepare_mboshi(arguments: argparse.Namespace) -> int:
    from comsl.data.corpora import mboshi

    summary = mboshi.prepare(arguments.root, arguments.out, arguments.folds)
    dropped = sum(map(len, summary.dropped.values()))
    if dropped:
        complain(f"{dropped} utterances were left out; {arguments.out / 'prepare.json'} says why, one by one")
    return 1 if dropped else 0


def _prepare_pairs(arguments: argparse.Namespace) -> int:
    from comsl.data.corpora.pairs import prepare

    check_folder(arguments.out)
    languages = arguments.source_language, arguments.target_language
    prepare(arguments.files, arguments.out, languages, tuple(arguments.columns), arguments.held_out)
    return 0


def _limits(arguments: argparse.Namespace) -> Limits:
    from comsl.data.corpora.audit import Limits

    return Limits(arguments.min_duration, arguments.max_duration, arguments.outlier_score)


def _prepare_covost2(arguments: argparse.Namespace) -> int:
    from comsl.data.corpora.covost2.prepare import prepare

    check_folder(arguments.out)
    result = prepare(
        arguments.covost,
        arguments.common_voice,
        arguments.out,
        arguments.languages,
        arguments.direction,
        _limits(arguments),
        arguments.workers,
        arguments.partial,
        arguments.no_others,
    )
    for line in result.errors:
        complain(line)
    if result.losses:
        strict = "--strict: " if arguments.strict else ""
        short = "" if arguments.partial else ", or are short of the published sizes"
        complain(f"{strict}{result.losses:,} rows are lost or fail{short}; {result.page} says which")
    print(result.page)
    return 1 if result.errors or (result.losses and arguments.strict) else 0


def _prepare_dataset(arguments: argparse.Namespace) -> int:
    from comsl.data.corpora.hub import Columns, Location, prepare

    columns = Columns.parse(arguments.columns, arguments.source_language, arguments.target_language)
    check_folder(arguments.out)
    audit = prepare(
        Location(arguments.name, arguments.config, arguments.split, arguments.revision),
        columns,
        arguments.out,
        _limits(arguments),
        arguments.workers,
    )
    for name in audit["manifests"].values():
        print(arguments.out / name)
    losses = sum(sum(split["losses"].values()) for split in audit["splits"].values())
    if losses:
        strict = "--strict: " if arguments.strict else ""
        complain(f"{strict}{losses} rows are lost or fail; {arguments.out / 'failed.jsonl'} says why, one by one")
    return 1 if losses and arguments.strict else 0


def _prepare_multi30k_speech(arguments: argparse.Namespace) -> int:
    from comsl.demo.multi30k_speech import prepare

    check_folder(arguments.out)
    prepare(
        arguments.root,
        arguments.out,
        hours_limit=arguments.hours_limit,
        scale=arguments.scale,
        seed=arguments.seed,
        workers=arguments.workers,
    )
    return 0


PREPARERS: dict[str, Callable[[argparse.Namespace], int]] = {
    "mboshi": _prepare_mboshi,
    "covost2": _prepare_covost2,
    "pairs": _prepare_pairs,
    "dataset": _prepare_dataset,
    "multi30k-speech": _prepare_multi30k_speech,
}
