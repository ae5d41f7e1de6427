"""The development set during training: losses of all objectives, and BLEU or word error rate by generation.

What is generated is scored by direction ("de-en"; for speech recognition by language), and the mean over the directions
chooses the best checkpoint: a corpus score over all of them together would follow the direction with the most text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch.utils.data import DataLoader

from comsl.data.dataset import SpeechTranslationDataset
from comsl.errors import UsageError
from comsl.evaluation.metrics import pair_name, score, word_error_rate
from comsl.inference.clips import Clip
from comsl.inference.decode import DecodingOptions, decode_speech, decode_text
from comsl.training.configuration import EvaluationConfiguration
from comsl.training.distributed import all_objects, rank, world_size

if TYPE_CHECKING:
    from comsl.training.trainer import JointTrainer, TrainingData

Task = Literal["st", "asr", "mt", "loss"]
METRICS: dict[str, tuple[str, bool]] = {
    "st": ("bleu", True),
    "mt": ("bleu", True),
    "asr": ("wer", False),
    "loss": ("loss", False),
}
"""Task -> the metric that chooses the best checkpoint, and whether more of it is better."""
NEEDS = {
    "st": ("audio", "translation", "target_language"),
    "asr": ("audio", "transcript"),
    "mt": ("transcript", "translation", "target_language"),
}


def choose_task(asked: str, objectives: Sequence[str]) -> Task:
    """What "auto" means: the task nearest to what is trained."""
    if asked != "auto":
        return cast(Task, asked)
    candidates: tuple[Task, ...] = ("st", "mt", "asr")
    return next((task for task in candidates if task in objectives), "loss")


def by_direction(
    task: Task, rows: Iterable[int], sources: Sequence[str], targets: Sequence[str | None]
) -> dict[str, list[int]]:
    """What is scored by itself: numbers of rows by direction ("de-en"; "de" for speech recognition)."""
    grouped: dict[str, list[int]] = {}
    for row in rows:
        target = targets[row]
        name = sources[row] if task == "asr" or target is None else pair_name(sources[row], target)
        grouped.setdefault(name, []).append(row)
    return grouped


def choose_rows(manifest: Any, task: Task, most: int | None) -> list[int]:
    """Numbers of the rows that are generated, ascending: the first ones of every direction, as many as of any other.

    A direction that has fewer leaves its places to the others. There is nothing random in it, and of one direction
    these are the first ``most`` rows that have what the task needs.

    Raises:
        UsageError: no row has it, or ``most`` is less than a row of every direction.
    """
    needed, columns = NEEDS[task], manifest.data
    usable = np.logical_and.reduce([columns.column(name).is_valid().to_numpy() for name in needed])
    sources, targets = (columns.column(f"{side}_language").to_pylist() for side in ("source", "target"))
    directions = by_direction(task, np.flatnonzero(usable).tolist(), sources, targets)
    if not directions:
        raise UsageError(
            f"data.dev: no row has {' and '.join(needed)}, which evaluation.task {task} needs; "
            "use other rows or another task"
        )
    if most is not None and most < len(directions):
        raise UsageError(
            f"evaluation.max_rows: {most} rows cannot cover the {len(directions)} directions of data.dev; "
            "use more, or null"
        )
    # The first row of every direction, then the second of every one that has a second, and so on.
    in_turn = sorted((place, row) for rows in directions.values() for place, row in enumerate(rows))
    return sorted(row for _, row in in_turn[:most])


def score_rows(task: Task, hypotheses: list[str], rows: list[dict[str, Any]]) -> tuple[float, str]:
    """Corpus BLEU or word error rate of one direction on raw references, and how it was computed."""
    if task == "asr":
        rates = word_error_rate(hypotheses, [row["transcript"] for row in rows], rows[0]["source_language"])
        return rates.wer, f"normaliser:{rates.normaliser}"
    references = [row["translation"] for row in rows]
    bleu = score(hypotheses, references, rows[0]["target_language"], n_bootstrap=0).bleu
    return bleu.score, bleu.signature


class DevelopmentSet:
    """Called with the trainer, gives the metrics, the same on every rank.

    Args:
        data: batches of this rank for the losses, neither shuffled nor augmented.
        manifest: all rows; those of ``choose_rows`` are generated.
        task: what is generated.
        max_duration: seconds of the longest clip that can be generated from.

    Raises:
        UsageError: as ``choose_rows``.
        DataError: a clip that is known to be too long or too short.
    """

    def __init__(
        self,
        data: TrainingData,
        manifest: Any,
        processor: Any,
        settings: EvaluationConfiguration,
        task: Task,
        max_duration: float | None,
    ) -> None:
        self.data, self.processor, self.settings, self.task = data, processor, settings, task
        self.chosen = [] if task == "loss" else choose_rows(manifest, task, settings.max_rows)
        self.rows = [manifest[row] for row in self.chosen]
        self.speech: SpeechTranslationDataset | None = None
        if task in ("st", "asr"):
            # The losses may read less of these rows than generating from them does, and so may the checks of ``data``.
            self.speech = SpeechTranslationDataset(manifest, processor, max_duration=max_duration)
            self.speech.check_durations(self.chosen)
        sources, targets = ([row[f"{side}_language"] for row in self.rows] for side in ("source", "target"))
        self.directions = by_direction(task, range(len(self.rows)), sources, targets)
        self._clips: list[Clip] | None = None
        self._counts: dict[str, float] | None = None

    def __call__(self, trainer: JointTrainer) -> dict[str, float]:
        joint = trainer.joint
        joint.eval()
        with torch.no_grad():
            metrics = self._losses(trainer)
            if self.task != "loss":
                self._make_clips()  # in full precision, so before autocast
                with trainer.full_parameters(), trainer.accelerator.autocast():
                    metrics |= self._generate(joint.model)
        return metrics

    # ------------------------------------------------------------------------------------------------------ losses

    def _losses(self, trainer: JointTrainer) -> dict[str, float]:
        """The loss as in training, over the whole set as one batch, and each term by itself."""
        joint, device = trainer.joint, trainer.args.device
        workers = trainer.configuration.data.num_workers
        if self._counts is None:
            self._counts = self._count(joint, workers)
        counts = {name: torch.tensor(value, device=device) for name, value in self._counts.items()}
        # FSDP gathers parameters in the forward of what it wraps; DDP only reduces gradients, of which there are none.
        module = trainer.model_wrapped if trainer.is_fsdp_enabled else joint
        loss, terms = 0.0, dict[str, tuple[float, float]]()
        for batch in self._loader(workers):
            output = module({name: value.to(device) for name, value in batch.items()}, counts=counts)
            loss += float(output.loss)
            for name, (total, count) in output.terms.items():
                before = terms.get(name, (0.0, 0.0))
                terms[name] = (before[0] + float(total), before[1] + float(count))
        everywhere = all_objects((loss, terms))
        metrics = {"loss": sum(part for part, _ in everywhere)}
        for name in {name: None for _, part in everywhere for name in part}:
            total = sum(part[name][0] for _, part in everywhere if name in part)
            metrics[name] = total / max(sum(part[name][1] for _, part in everywhere if name in part), 1.0)
        return metrics

    def _count(self, joint: Any, workers: int) -> dict[str, float]:
        """Counts of the whole set, which never change: one pass over the data before the first evaluation."""
        counts: dict[str, float] = {}
        for batch in self._loader(workers):
            for name, count in joint.counts(batch).items():
                counts[name] = counts.get(name, 0.0) + float(count)
        everywhere = all_objects(counts)
        return {name: sum(part.get(name, 0.0) for part in everywhere) for name in everywhere[0]}

    def _loader(self, workers: int) -> DataLoader[Any]:
        self.data.set_epoch(0)
        return self.data.loader(workers)

    # -------------------------------------------------------------------------------------------------- generation

    def _my_places(self) -> list[int]:
        return list(range(rank(), len(self.rows), world_size()))

    def _make_clips(self) -> None:
        """Once: the rows are the same every time."""
        if self._clips is None and self.speech is not None:
            self._clips = []
            for place in self._my_places():
                example = self.speech[self.chosen[place]]
                assert example.features is not None
                assert example.duration is not None
                padded = self.processor.fixed_duration or example.duration
                self._clips.append(Clip(example.features, example.duration, padded))

    def _generate(self, model: Any) -> dict[str, float]:
        mine = self._my_places()
        hypotheses: dict[int, str] = {}
        if mine:
            hypotheses = dict(zip(mine, self._decode(model, [self.rows[place] for place in mine]), strict=True))
        together = {place: text for part in all_objects(hypotheses) for place, text in part.items()}
        return self._score([together[place] for place in range(len(self.rows))])

    def _decode(self, model: Any, rows: list[dict[str, Any]]) -> list[str]:
        settings = self.settings
        options = DecodingOptions(
            beam=settings.beam, batch_size=settings.batch_size, max_new_tokens=settings.max_new_tokens, scores=False
        )
        sources = [row["source_language"] for row in rows]
        targets = [row["target_language"] or row["source_language"] for row in rows]
        if self.task == "mt":
            texts = [row["transcript"] for row in rows]
            found = decode_text(model, self.processor, texts, sources, targets, options)
        else:
            assert self._clips is not None
            task = "translate" if self.task == "st" else "transcribe"
            found = decode_speech(model, self.processor, self._clips, sources, targets, task, options)
        return [hypothesis.text for hypothesis in found]

    # ------------------------------------------------------------------------------------------------------ scores

    def _score(self, hypotheses: list[str]) -> dict[str, float]:
        """The mean over the directions, and where there are several the score of each."""
        name = METRICS[self.task][0]
        scores = {
            direction: score_rows(
                self.task, [hypotheses[place] for place in places], [self.rows[place] for place in places]
            )[0]
            for direction, places in sorted(self.directions.items())
        }
        metrics = {name: sum(scores.values()) / len(scores)}
        return metrics | ({f"{name}_{code}": value for code, value in scores.items()} if len(scores) > 1 else {})

    def facts(self) -> dict[str, Any]:
        """What the deciding number is computed on, and how: for the run's record."""
        facts: dict[str, Any] = {"metric": METRICS[self.task][0], "rows": len(self.rows), "directions": {}}
        for direction, places in sorted(self.directions.items()):
            signature = score_rows(self.task, [""] * len(places), [self.rows[place] for place in places])[1]
            facts["directions"][direction] = {"rows": len(places), "signature": signature}
        return facts if self.rows else {"metric": facts["metric"]}

    def __str__(self) -> str:
        facts = self.facts()
        if not self.rows:
            return f"development set: {facts['metric']}"
        directions = facts["directions"]
        rows = ", ".join(f"{name} {values['rows']}" for name, values in directions.items())
        over = f", mean over {len(directions)} directions" if len(directions) > 1 else ""
        signatures = " or ".join({values["signature"]: None for values in directions.values()})
        return f"development set: {facts['metric']} of {facts['rows']} rows ({rows}){over}; {signatures}"
