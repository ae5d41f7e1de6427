"""``comsl run``: what it is called with.

``comsl.workflow`` parses the words of all commands and so stands above them: what is called is in `comsl.cli`.
"""

from __future__ import annotations

from pathlib import Path

from comsl.commands.common import Command


def add_run(command: Command) -> None:
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
