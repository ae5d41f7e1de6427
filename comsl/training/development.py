"""The development set during training: losses of all objectives, and BLEU or word error rate by generation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch.utils.data import DataLoader

from comsl.data.audio import load_audio
from comsl.errors import UsageError
from comsl.evaluation.metrics import score, word_error_rate
from comsl.inference.clips import Clip, prepare_clip
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
NEEDS = {"st": ("audio", "translation"), "asr": ("audio", "transcript"), "mt": ("transcript", "translation")}


def choose_task(asked: str, objectives: Sequence[str]) -> Task:
    """What "auto" means: the task nearest to what is trained."""
    if asked != "auto":
        return cast(Task, asked)
    candidates: tuple[Task, ...] = ("st", "mt", "asr")
    return next((task for task in candidates if task in objectives), "loss")


class DevelopmentSet:
    """Called with the trainer, gives the metrics, the same on every rank.

    Args:
        data: batches of this rank for the losses, neither shuffled nor augmented.
        manifest: all rows; the first ``settings.max_rows`` that have what the task needs are generated.
        task: what is generated.
    """

    def __init__(
        self, data: TrainingData, manifest: Any, processor: Any, settings: EvaluationConfiguration, task: Task
    ) -> None:
        self.data, self.processor, self.settings, self.task = data, processor, settings, task
        self.rows = [] if task == "loss" else self._choose_rows(manifest, NEEDS[task], settings.max_rows)
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
        if self._clips is None and self.task != "mt":
            waveforms = (load_audio(self.rows[place]["audio"]) for place in self._my_places())
            self._clips = [prepare_clip(waveform, self.processor) for waveform in waveforms]

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

    def _score(self, hypotheses: list[str]) -> dict[str, float]:
        """Corpus BLEU or word error rate on raw references; the mean over output languages where there are several."""
        field, language = (
            ("transcript", "source_language") if self.task == "asr" else ("translation", "target_language")
        )
        by_language: dict[str, tuple[list[str], list[str]]] = {}
        for row, hypothesis in zip(self.rows, hypotheses, strict=True):
            texts = by_language.setdefault(row[language], ([], []))
            texts[0].append(hypothesis)
            texts[1].append(row[field])
        scores = {}
        for code, (found, references) in sorted(by_language.items()):
            if self.task == "asr":
                scores[code] = word_error_rate(found, references, code).wer
            else:
                scores[code] = score(found, references, code, n_bootstrap=0).bleu.score
        name = METRICS[self.task][0]
        metrics = {name: sum(scores.values()) / len(scores)}
        return metrics | ({f"{name}_{code}": value for code, value in scores.items()} if len(scores) > 1 else {})

    def _choose_rows(self, manifest: Any, needed: tuple[str, ...], most: int | None) -> list[dict[str, Any]]:
        rows = []
        for row in manifest:
            if all(row[field] for field in needed):
                rows.append(row)
            if most is not None and len(rows) == most:
                break
        if not rows:
            raise UsageError(
                f"data.dev: no row has {' and '.join(needed)}, which evaluation.task {self.task} needs; "
                "use other rows or another task"
            )
        return rows
