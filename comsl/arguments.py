"""The parser of ``comsl``, of all commands together. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from comsl import __version__
from comsl.commands.calibrate import add_calibrate
from comsl.commands.compare import add_compare
from comsl.commands.compose import add_compose
from comsl.commands.demo import add_demo
from comsl.commands.evaluate import add_evaluate
from comsl.commands.prepare import add_prepare
from comsl.commands.pseudo_label import add_pseudo_label
from comsl.commands.run import add_run
from comsl.commands.score import add_score
from comsl.commands.study import add_heard, add_study
from comsl.commands.train import add_train
from comsl.commands.translate import add_translate
from comsl.commands.trim import add_trim
from comsl.errors import nearest

CHOICE = re.compile(r"invalid choice: '(?P<given>.*)' \(choose from (?P<known>.*)\)")


class Parser(argparse.ArgumentParser):
    """argparse's, which says what else may have been meant. Its parsers of commands are of the same class."""

    def error(self, message: str) -> NoReturn:
        if found := CHOICE.search(message):
            near = nearest(found["given"], re.findall(r"[\w-]+", found["known"]))
            message += f"; did you mean {near}?" if near else ""
        super().error(message)

    def refuse(self, words: list[str]) -> NoReturn:
        """Of words that are no arguments of this command."""
        known = [option for action in self._actions for option in action.option_strings]
        given = [word.partition("=")[0] for word in words if word.startswith("--")]
        guesses = [(option, nearest(option, known)) for option in given]
        meant = "".join(f"; {option}: did you mean {near}?" for option, near in guesses if near)
        self.error(f"unrecognized arguments: {' '.join(words)}{meant}")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` in the namespace names the one that was given."""
    common = Parser(add_help=False, allow_abbrev=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of every error")
    parser = Parser(
        prog="comsl",
        description="Speech translation composed of a pretrained speech model and a pretrained text model.",
        epilog="comsl COMMAND --help explains a command and shows an example.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=16),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"comsl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, *examples: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            parents=[common],
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog="example:\n  " + "\n  ".join(examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(parser=added)
        return added

    add_translate(command)
    add_compose(command)
    add_trim(command)
    add_prepare(command)
    add_train(command)
    add_evaluate(command)
    add_score(command)
    add_compare(command)
    add_demo(command)
    add_run(command)
    add_pseudo_label(command)
    add_heard(command)
    add_study(command)
    add_calibrate(command)
    return parser


def parse(words: list[str]) -> argparse.Namespace:
    """The command line's arguments; of ``comsl train``, ``overrides`` holds the words for the recipe's keys."""
    arguments, rest = build_parser().parse_known_args(words)
    if arguments.command == "train":
        arguments.overrides = rest
    elif rest:
        arguments.parser.refuse(rest)
    return arguments
