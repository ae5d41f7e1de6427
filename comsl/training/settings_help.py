"""All settings of a recipe with their defaults, as ``comsl train --help`` shows them."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import yaml

from comsl.training.configuration import TrainConfiguration, plain
from comsl.training.recipe import dataclass_in


def describe() -> str:
    """All settings with their defaults, one a line, for --help."""
    from comsl.objectives.settings import OBJECTIVES  # brings in torch, which reading a recipe does not need

    def lines(kind: type, prefix: str) -> list[str]:
        found, types = [], get_type_hints(kind)
        for item in fields(kind):
            name, text = prefix + item.name, item.metadata.get("help") or _attribute_docs(kind).get(item.name)
            inner = dataclass_in(types[item.name])
            if inner is not None:
                found += lines(inner, name + ".")
            else:
                default = item.default_factory() if callable(item.default_factory) else item.default
                shown = yaml.safe_dump(plain(default), default_flow_style=True).splitlines()[0]
                choices = get_args(types[item.name]) if get_origin(types[item.name]) is Literal else ()
                text = "; ".join(filter(None, [text, " | ".join(choices)]))
                found.append(f"  --{name} (default: {shown})" + (f"\n      {text}" if text else ""))
                if name == "objectives":
                    found += [
                        line for key, objective in OBJECTIVES.items() for line in lines(objective, f"{name}.{key}.")
                    ]
        return found

    return "\n".join(lines(TrainConfiguration, ""))


def _attribute_docs(kind: type) -> dict[str, str]:
    """Name -> the string below it, of the fields of a class; what most objectives have is said here for all."""
    import docstring_parser

    found = docstring_parser.parse_from_object(kind).params
    common = {"weight": "of the objective in the loss", "label_smoothing": "of its cross-entropy"}
    return common | {item.arg_name: " ".join(item.description.split()) for item in found if item.description}
