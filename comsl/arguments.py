"""The command line of ``comsl``: what each command is called with. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from comsl import __version__
from comsl.commands.calibrate import add_calibrate
from comsl.commands.common import Command
from comsl.commands.common import positive as _positive
from comsl.commands.decoding import add_decoding, add_modes
from comsl.commands.prepare import add_prepare
from comsl.commands.study import add_heard, add_study
from comsl.commands.translate import add_translate
from comsl.demo import PARTS
from comsl.evaluation import SYSTEMS
from comsl.inference import TASKS


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` in the namespace names the one that was given."""
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser = argparse.ArgumentParser(
        prog="comsl",
        description="Speech translation composed of a pretrained speech model and a pretrained text model.",
        epilog="comsl COMMAND --help explains a command and shows an example.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=16),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"comsl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, *examples: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            parents=[common],
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog="example:\n  " + "\n  ".join(examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    add_translate(command)
    _add_compose(command)
    _add_trim(command)
    add_prepare(command)
    _add_train(command)
    _add_evaluate(command)
    _add_score(command)
    _add_compare(command)
    _add_demo(command)
    _add_run(command)
    _add_pseudo_label(command)
    add_heard(command)
    add_study(command)
    add_calibrate(command)
    return parser


def parse(words: list[str]) -> argparse.Namespace:
    """The command line's arguments; of ``comsl train``, ``overrides`` holds the words for the recipe's keys."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(words)
    if arguments.command == "train":
        arguments.overrides = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """The words of ``comsl train`` that are for the recipe's keys."""
    named = [] if arguments.output_dir is None else ["--output_dir", arguments.output_dir]
    return [*arguments.overrides, *named]


class _ListKeys(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from comsl.training.configuration import describe

        print(describe())
        parser.exit()


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--train-manifest",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="training rows, for their hours, the look-up floor and the scores of what is not in them",
    )
    parser.add_argument(
        "--no-lookup",
        dest="lookup",
        action="store_false",
        help="leave out the look-up floor (of large training sets it takes long)",
    )
    parser.add_argument("--lowercase", action="store_true", help="score translations without case")
    parser.add_argument("--normaliser", default="basic", metavar="NAME", help="of transcripts (default basic)")


def _add_compose(command: Command) -> None:
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
    parser.add_argument(
        "--ctc-characters",
        type=Path,
        metavar="FILE",
        help="give the speech encoder a CTC layer over the characters of this manifest or text file",
    )
    parser.add_argument(
        "--fixed-duration",
        type=float,
        metavar="SECONDS",
        help="pad every clip so far (Whisper's own regime: 30; default: true lengths)",
    )
    parser.add_argument(
        "--adapter-strides", type=_positive, nargs="+", default=[2, 2], metavar="N", help="of the adapter (default 2 2)"
    )


def _add_trim(command: Command) -> None:
    parser = command(
        "trim",
        "keep only that part of a model's text vocabulary that a corpus needs",
        "comsl trim --model parts/medium --manifest train.jsonl --check dev.jsonl test.jsonl --out parts/medium-de-en",
        "comsl trim --model runs/mt --like parts/medium-de-en --out runs/mt-de-en",
    )
    parser.add_argument("--model", required=True, metavar="MODEL", help="a ComSL model, or a text model alone")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where to save the trimmed model")
    parser.add_argument(
        "--manifest", nargs="+", default=[], type=Path, metavar="FILE", help="what the model is for, both sides"
    )
    parser.add_argument("--text", nargs="+", default=[], type=Path, metavar="FILE", help="the same as lines of text")
    parser.add_argument(
        "--check", nargs="+", default=[], type=Path, metavar="FILE", help="held-out manifests to report coverage of"
    )
    parser.add_argument(
        "--languages", nargs="+", metavar="LANG", help="languages in use (default: all that the manifests have)"
    )
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument("--min-count", type=_positive, metavar="N", help="keep pieces that occur N times (default 1)")
    rule.add_argument("--keep", type=_positive, metavar="N", help="keep the N most frequent pieces")
    rule.add_argument(
        "--coverage", type=float, metavar="SHARE", help="keep the most frequent pieces, up to this share of all tokens"
    )
    rule.add_argument("--like", type=Path, metavar="DIR", help="keep exactly the tokens of this trimmed model")


def _add_train(command: Command) -> None:
    parser = command(
        "train",
        "train as a recipe says; the same command again goes on where the last one stopped",
        "comsl train recipes/mboshi/comsl.yaml --output_dir runs/mboshi",
        "comsl train recipes/mboshi/comsl.yaml --output_dir runs/no-erm --objectives.erm null --seed 2",
        "torchrun --nproc_per_node 8 -m comsl train recipe.yaml --output_dir runs/eight",
    )
    parser.usage = "comsl train RECIPE [RECIPE ...] --output_dir DIR [--any.key VALUE ...]"
    parser.add_argument(
        "recipe", type=Path, nargs="+", metavar="RECIPE", help="YAML file; of several, later ones change earlier ones"
    )
    parser.add_argument("--output_dir", metavar="DIR", help="run directory (default: what the recipe says)")
    parser.add_argument("--keys", action=_ListKeys, nargs=0, help="list all keys of a recipe and exit")


def _add_evaluate(command: Command) -> None:
    parser = command(
        "evaluate",
        "translate manifests and score the hypotheses",
        "comsl evaluate --model runs/mboshi --manifest data/mboshi/test.jsonl --out runs/mboshi/test",
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="a ComSL model or a run directory")
    parser.add_argument("--manifest", required=True, nargs="+", type=Path, metavar="FILE", help="JSONL or Parquet")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where scores, hypotheses and page go")
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=SYSTEMS,
        help="direct: speech to translation; cascade: transcript, then its translation; mixed: from the transcript and "
        "the speech together; pooled: the best of these three, told by how they agree; text: translation of the "
        "reference transcript, the upper bound (default: direct, cascade and text, if the task has work for them)",
    )
    parser.add_argument("--cascade-asr", metavar="DIR", help="model that transcribes in the cascade (default: --model)")
    parser.add_argument("--cascade-mt", metavar="DIR", help="model that translates in the cascade (default: --model)")
    parser.add_argument("--task", choices=TASKS, default="both", help="what to score (default both)")
    parser.add_argument(
        "--allow-failed-rows",
        action="store_true",
        help="exit code 0 although rows could not be done; they are listed and count as empty all the same",
    )
    _add_scoring(parser)
    add_decoding(parser, "as saved")
    add_modes(parser)


def _add_score(command: Command) -> None:
    parser = command(
        "score",
        "score what another system made of manifests, by the same code and into the same folder",
        "comsl score --manifest test.jsonl --hypotheses theirs.txt --system theirs --out runs/theirs/test",
        "comsl score --manifest data/fr_en/test.jsonl data/de_en/test.jsonl --system theirs --out runs/theirs/test \\",
        "      --hypotheses fr.txt de.txt --transcripts heard.fr.txt heard.de.txt",
    )
    parser.add_argument("--manifest", required=True, nargs="+", type=Path, metavar="FILE", help="JSONL or Parquet")
    parser.add_argument(
        "--hypotheses",
        required=True,
        nargs="+",
        type=Path,
        metavar="FILE",
        help="the translations: a file of text a manifest, one line a row; or .jsonl with id and hypothesis",
    )
    parser.add_argument("--system", required=True, metavar="NAME", help="what to call it in tables and comparisons")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where scores, hypotheses and page go")
    parser.add_argument(
        "--transcripts",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="what it heard, in the same form (.jsonl: id and transcript), for word error rates",
    )
    _add_scoring(parser)


def _add_compare(command: Command) -> None:
    parser = command(
        "compare",
        "tell whether one system is better than another (paired bootstrap over the same rows)",
        "comsl compare runs/a/test runs/b/test",
        "comsl compare runs/a/test runs/a/test --system direct --system-b cascade --out runs/a/cascade.json",
    )
    parser.add_argument(
        "first",
        type=Path,
        metavar="A",
        help="directory that comsl evaluate or comsl score wrote, or one of several of these",
    )
    parser.add_argument("second", type=Path, metavar="B", help="another one, over the same manifest")
    parser.add_argument("--system", default="direct", metavar="NAME", help="system to compare (default direct)")
    parser.add_argument("--system-b", metavar="NAME", help="system of B, where it is another one")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the comparison as JSON too")


def _add_demo(command: Command) -> None:
    parser = command(
        "demo",
        "show the whole path on a small world: build, compose, train, compare, translate (some minutes on 2 cores)",
        "comsl demo --out demo-out",
        "comsl demo --pretrain speech --out my-parts",
        "comsl demo --covost data/miniature",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="(default demo-out; of --pretrain: the package)")
    parser.add_argument(
        "--pretrain",
        nargs="*",
        choices=PARTS,
        metavar="PART",
        help="instead make anew the three models that ship with the package, or the named ones: DIR/speech and "
        "DIR/text, the pretrained parts, and DIR/composite, made of both, the model of comsl translate (one and three "
        "quarter hours with one thread; speech and text can run side by side; what is only needed on the way goes to "
        "./demo-out/pretrain)",
    )
    parser.add_argument(
        "--covost",
        type=Path,
        metavar="DIR",
        help="instead write a miniature of Common Voice and CoVoST 2: their file names and columns, mp3 clips of "
        "synthetic voices, faults listed in DIR/planted.json (about 6,600 clips, two minutes on 2 cores)",
    )
    parser.add_argument(
        "--languages",
        nargs="+",
        metavar="LANG",
        help="source languages of the miniature; en: English into the others (default: the 21)",
    )
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="of its number of clips (default 1)")
    parser.add_argument(
        "--archives", action="store_true", help="one .tar.gz a language and table, as one downloads them"
    )


def _add_run(command: Command) -> None:
    parser = command(
        "run",
        "run the steps that a folder's run.yaml names; the same command again goes on where the last one stopped",
        "comsl run recipes/covost2 --set covost=CoVoST2 --set common_voice=cv-corpus-4-2019-12-10",
        "comsl run recipes/covost2 --set covost=CoVoST2 --set common_voice=cv-corpus-4-2019-12-10 --list",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder with a run.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a variable of run.yaml; may be repeated"
    )
    parser.add_argument("--list", action="store_true", help="show the steps and what is finished, and run nothing")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--from", dest="first", metavar="STEP", help="leave out the steps before this one")
    some.add_argument("--only", metavar="STEP", help="leave out all steps but this one")
    parser.add_argument("--again", action="store_true", help="run steps even if they are finished")


def _add_pseudo_label(command: Command) -> None:
    parser = command(
        "pseudo-label",
        "translate transcribed clips that nobody has translated, for training",
        "comsl pseudo-label --model runs/1-text --common-voice cv-corpus-4-2019-12-10 \\",
        "      --covost-manifests data/covost2 --languages fr de --out data/pseudo",
        "comsl pseudo-label --model runs/mt --manifest transcribed.jsonl --held-out dev.jsonl test.jsonl --out pseudo",
        "torchrun --nproc_per_node 8 -m comsl pseudo-label --model runs/1-text --common-voice cv \\",
        "      --covost-manifests data/covost2 --out data/pseudo",
    )
    parser.add_argument("--model", required=True, metavar="MODEL", help="a ComSL model whose text part translates")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the manifests go")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--common-voice", type=Path, metavar="DIR", help="a release: its validated clips")
    source.add_argument(
        "--manifest", type=Path, nargs="+", metavar="FILE", help="the rows without translation in these"
    )
    parser.add_argument(
        "--covost-manifests",
        type=Path,
        metavar="DIR",
        help="what comsl prepare covost2 wrote: clips that have a translation, and all of dev and test, are left out",
    )
    parser.add_argument(
        "--held-out", type=Path, nargs="+", default=[], metavar="FILE", help="further dev and test manifests"
    )
    parser.add_argument("--languages", nargs="+", metavar="LANG", help="source languages (default: all that there are)")
    parser.add_argument("--target", default="en", metavar="LANG", help="language to translate into (default en)")
    bounds = parser.add_argument_group("what is kept")
    bounds.add_argument(
        "--max-length-ratio", type=float, default=3.0, metavar="X", help="of the sides, in tokens (default 3; 0: any)"
    )
    bounds.add_argument(
        "--max-repeats", type=int, default=3, metavar="N", help="of an n-gram in succession (default 3; 0: any)"
    )
    bounds.add_argument(
        "--min-score",
        type=float,
        default=-1.5,
        metavar="X",
        help="mean log-probability of a token (default -1.5; -inf: any)",
    )
    bounds.add_argument("--max-seconds", type=float, default=30.0, metavar="X", help="of a clip (default 30)")
    bounds.add_argument(
        "--identify-language",
        action="store_true",
        help="only what a language identifier takes for the target language (pip install lingua-language-detector)",
    )
    add_decoding(parser, "as saved")
