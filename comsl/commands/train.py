"""``comsl train``: what a recipe says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from comsl.allocator import limit_kernel_caches
from comsl.commands.common import Command


def add_train(command: Command) -> None:
    parser = command(
        "train",
        "train as a recipe says; the same command again goes on where the last one stopped",
        "comsl train recipe.yaml --data.train train.jsonl --data.dev dev.jsonl --output_dir runs/mine",
        "comsl train recipe.yaml --output_dir runs/no-erm --objectives.erm null --seed 2",
        "torchrun --nproc_per_node 8 -m comsl train recipe.yaml --output_dir runs/eight",
    )
    parser.usage = "comsl train RECIPE [RECIPE ...] --output_dir DIR [--any.key VALUE ...]"
    parser.add_argument(
        "recipe", type=Path, nargs="+", metavar="RECIPE", help="YAML file; of several, later ones change earlier ones"
    )
    parser.add_argument("--output_dir", metavar="DIR", help="run directory (default: what the recipe says)")
    parser.add_argument("--keys", action=_ListKeys, nargs=0, help="list all keys of a recipe and exit")


class _ListKeys(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from comsl.training.settings_help import describe

        print(describe())
        parser.exit()


def overrides_of(arguments: argparse.Namespace) -> list[str]:
    """The words of ``comsl train`` that are for the recipe's keys."""
    named = [] if arguments.output_dir is None else ["--output_dir", arguments.output_dir]
    return [*arguments.overrides, *named]


def train(arguments: argparse.Namespace) -> int:
    limit_kernel_caches()
    from comsl.training.configuration import load_configuration
    from comsl.training.distributed import leave
    from comsl.training.run import train

    train(load_configuration(arguments.recipe, overrides_of(arguments)))
    leave()
    return 0
