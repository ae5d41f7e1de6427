"""``comsl compare``: whether one system is better than another."""

from __future__ import annotations

import argparse
from pathlib import Path

from comsl.commands.common import Command


def add_compare(command: Command) -> None:
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


def compare(arguments: argparse.Namespace) -> int:
    from comsl.evaluation.report import show
    from comsl.evaluation.significance import compare

    comparison = compare(arguments.first, arguments.second, arguments.system, arguments.system_b)
    show(comparison.render())
    if arguments.out is not None:
        comparison.write(arguments.out)
    return 0
