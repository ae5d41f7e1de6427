"""What a cached teacher loses, for several numbers of tokens kept: the lines that ``comsl train`` says about its cache.

    python -m benchmarks.teacher_cache --rows 2000 --top-k 1 4 8 64

Sentences of the demo's grammar in its four languages; model and teacher are the text part of the model that ships.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import yaml

from comsl import cli
from comsl.data.manifest import write_manifest
from comsl.demo.grammar import generate
from comsl.demo.pretrain import MODELS

LANGUAGES = ("de", "fr", "es", "cy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, metavar="N", help="sentences (default 2000)")
    parser.add_argument("--top-k", type=int, nargs="+", default=[1, 4, 8, 64], metavar="K", help="(default 1 4 8 64)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        manifest, recipe = Path(folder, "train.jsonl"), Path(folder, "recipe.yaml")
        said = [(code, pair) for code in LANGUAGES for pair in generate(code, arguments.rows // len(LANGUAGES), 1)]
        write_manifest(
            (
                {
                    "id": f"row-{number}",
                    "source_language": code,
                    "target_language": "en",
                    "transcript": pair.source,
                    "translation": pair.english,
                }
                for number, (code, pair) in enumerate(said)
            ),
            manifest,
        )
        settings = {
            "model": str(MODELS / "composite"),
            "objectives": {"mt": {}},
            "data": {"train": str(manifest), "num_workers": 0},
            "training": {"max_steps": 1, "use_cpu": True},
            "evaluation": {"task": "loss"},
        }
        recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")
        for top_k in arguments.top_k:
            words = ["--teacher_cache.top_k", str(top_k), "--output_dir", str(Path(folder, f"top-{top_k}"))]
            if cli.main(["train", str(recipe), *words]) != 0:
                raise SystemExit(1)


if __name__ == "__main__":
    main()
