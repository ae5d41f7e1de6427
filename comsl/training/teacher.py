"""The frozen text model that MT is held near: live, or written down once so that no step needs it."""

from __future__ import annotations

import copy
import hashlib
import json
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from comsl.data.collate import Collator
from comsl.data.constants import IGNORED_LABEL
from comsl.data.dataset import Example, SpeechTranslationDataset
from comsl.data.sampler import BucketBatchSampler
from comsl.data.teacher import RECORD, TeacherCache, TeacherCacheWriter
from comsl.errors import UsageError
from comsl.files import sha256_of_files
from comsl.inference.decode import evaluating
from comsl.model import ComSLProcessor
from comsl.model.loading import load_text_part
from comsl.model.lora import sharing_copy
from comsl.objectives import ObjectiveSet, Reads, Target
from comsl.objectives.frozen import TopDistribution, live_distribution
from comsl.objectives.mt import PAIR
from comsl.objectives.views import compute_views
from comsl.objectives.vocabulary import CHUNK_BYTES
from comsl.progress import console, track
from comsl.training.configuration import TrainConfiguration
from comsl.training.distributed import all_objects, barrier, fsdp_is_asked_for, rank, world_size

FOLDER = "teacher"
"""Below the run directory, where no other folder is named."""
FIELDS = ("transcript", "translation")
FIXED_ROWS = 16
"""Rows of the batch that the live and the cached teacher are compared on: the first ones."""
_VERSION = 1
"""Part of the key: raise it whenever other numbers would be written."""


def load_teacher(
    configuration: TrainConfiguration, objectives: ObjectiveSet, model: Any, processor: ComSLProcessor
) -> Any:
    """The frozen text model that MT is compared with; None if no objective asks for it."""
    if not objectives.needs_teacher:
        return None
    if configuration.teacher is not None:
        teacher, tokenizer = load_text_part(configuration.teacher, torch.float32)
        check_teacher_vocabulary(configuration.teacher, tokenizer, processor.tokenizer)
        return teacher.eval()
    if configuration.reinitialize in (True, "text"):
        raise UsageError(
            "teacher: missing; a model from random weights has no text model worth comparing with: "
            "name a fine-tuned one, or set objectives.mt.teacher_share to 0"
        )
    # FSDP divides every weight where it finds it, and refuses one that it finds twice.
    if configuration.lora is not None and "text_model" in configuration.lora.parts and not fsdp_is_asked_for():
        return sharing_copy(model.text_model).eval()
    return copy.deepcopy(model.text_model).eval()


def check_teacher_vocabulary(path: str, teacher: Any, student: Any) -> None:
    """Whether the tokens of two tokenizers have the same numbers: the teacher is fed, and compared by, numbers alone.

    The mask may be missing, which the teacher never reads: M2M-100 and NLLB get theirs when a model is composed.

    Raises:
        UsageError: naming the first token that the teacher lacks or has elsewhere.
    """
    vocabulary = student.get_vocab()
    tokens = sorted((token for token in vocabulary if token != student.mask_token), key=vocabulary.__getitem__)
    # Looked up, not taken from its get_vocab(): M2M-100's leaves its languages out where the files do not list them.
    for token, number in zip(tokens, teacher.convert_tokens_to_ids(tokens), strict=True):
        if number != vocabulary[token]:
            where = "does not have" if number in (None, teacher.unk_token_id) else f"has as token {number}"
            raise UsageError(
                f"teacher: {path} has another vocabulary than the model: token {vocabulary[token]} of the model is "
                f"{token!r}, which the teacher {where}; name one that was fine-tuned from the text part of this model"
            )


@dataclass
class CachedTeacher:
    """Makes, or finds, the caches of a run's manifests.

    A cache belongs to the teacher's weights, the tokenizer, the texts and ``top_k``: its folder is named after a digest
    of them, so that runs may share a folder and nothing is taken for what it is not. Each run writes under a name of
    its own, so that none reads, or writes to, what another one is still writing.

    Args:
        load: the teacher; only called where a cache has to be written, or no file has its weights.
        model: the starting model, whose loss against the live teacher is compared with that against the cache.
        device: that the teacher computes on.
    """

    configuration: TrainConfiguration
    load: Callable[[], Any]
    model: Any
    processor: ComSLProcessor
    device: torch.device

    def __post_init__(self) -> None:
        settings = self.configuration.teacher_cache
        assert settings is not None
        self.top_k = min(settings.top_k, self.model.output_weight.shape[0])
        self.folder = Path(settings.folder or Path(self.configuration.output_dir) / FOLDER)
        self._teacher: Any = None
        self._weights: str | None = None

    def of(self, manifest: datasets.Dataset, name: str) -> TeacherCache:
        """The cache of a manifest's rows, written by all processes if there is none. Every process calls this.

        Args:
            name: of the manifest, for the line that says what the cache is like.
        """
        folder = self.folder / self._key(manifest)
        # The same at every start: what a run that was killed leaves, its next start overwrites or removes.
        run = f"{platform.node()} {Path(self.configuration.output_dir).absolute()}"
        draft = all_objects(folder.with_name(f".{folder.name}.{_digest([run])[:8]}"))[0]
        if not all_objects((folder / RECORD).exists())[0]:
            self._write(manifest, draft, folder, name)
        if rank() == 0:
            shutil.rmtree(draft, ignore_errors=True)
        cache = TeacherCache(folder)
        if rank() == 0:
            console.print(f"teacher, {name}: {describe(cache.record)}", soft_wrap=True, markup=False)
        return cache

    def _loaded(self) -> Any:
        if self._teacher is None:
            self._teacher = self.load()
        return self._teacher

    # ---------------------------------------------------------------------------------------------------------- key

    def _key(self, manifest: datasets.Dataset) -> str:
        if self._weights is None:
            self._weights = self._weights_digest()
        vocabulary = sorted(self.processor.tokenizer.get_vocab().items())
        facts = {
            "version": _VERSION,
            "teacher": self._weights,
            "tokenizer": _digest([json.dumps([vocabulary, self.processor.languages], sort_keys=True)]),
            "texts": _digest(_texts(manifest)),
            "top_k": self.top_k,
            "precision": self.configuration.training.precision,
        }
        return _digest([json.dumps(facts, sort_keys=True)])[:16]

    def _weights_digest(self) -> str:
        path = Path(self.configuration.teacher or "")
        if self.configuration.teacher is not None and path.is_dir():
            digest = sha256_of_files(sorted(path.glob("*.safetensors")))
            if digest is not None:
                return digest
        copied = self.configuration.teacher is None and self.configuration.reinitialize in (False, "speech")
        found = hashlib.sha256()
        for name, value in (self.model.text_model if copied else self._loaded()).state_dict().items():
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return found.hexdigest()

    # ------------------------------------------------------------------------------------------------------ writing

    def _write(self, manifest: datasets.Dataset, draft: Path, folder: Path, name: str) -> None:
        dataset = SpeechTranslationDataset(manifest, self.processor, None, 0, FIELDS)
        collate = Collator(self.processor, FIELDS)
        positions = [len(self.processor.token_ids(text)) + 1 for text in manifest["translation"]]
        if rank() == 0:
            TeacherCacheWriter(draft, positions, self.top_k, create=True)
        barrier()
        writer = TeacherCacheWriter(draft, positions, self.top_k, create=False)
        teacher = self._loaded()
        fixed = [dataset[row] for row in range(min(FIXED_ROWS, len(dataset)))]
        live = teacher_loss(self.model, teacher, collate(fixed)) if rank() == 0 else float("nan")
        teacher.to(self.device)
        for rows, batch in self._batches(dataset, collate, f"teacher, {name}"):
            top = self._top(teacher, batch)
            writer.write(rows, top.tokens.cpu().numpy(), top.probabilities.cpu().numpy())
        writer.flush()
        teacher.to("cpu")
        barrier()
        if rank() == 0:
            cache = TeacherCache(draft)
            examples = [replace(example, teacher=cache[example.index]) for example in fixed]
            cached = teacher_loss(self.model, None, collate(examples))
            compared = {"rows": len(fixed), "live": live, "cached": cached}
            record = {"top_k": self.top_k, "rows": len(dataset), "fixed_batch": compared, **writer.facts()}
            writer.finish(record, folder)
        barrier()

    def _batches(
        self, dataset: SpeechTranslationDataset, collate: Collator, description: str
    ) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        """This process's share of the rows, by length."""
        data = self.configuration.data
        sampler = BucketBatchSampler(
            dataset.costs(),
            float(data.max_batch_characters),
            data.max_batch_size,
            shuffle=False,
            rank=rank(),
            world_size=world_size(),
        )
        typed: Dataset[Example] = dataset
        loader = DataLoader(
            typed,
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=data.num_workers,
            generator=torch.Generator().manual_seed(0),  # of its own, as in training: the global one is not moved
        )
        together = zip(sampler, loader, strict=True)
        for rows, batch in track(together, total=len(sampler), description=description, unit="batch"):
            yield rows, {key: value.to(self.device) for key, value in batch.items()}

    @torch.no_grad()
    def _top(self, teacher: Any, batch: dict[str, Tensor]) -> TopDistribution:
        """At the scored positions of the batch, in the precision that the live teacher would compute in."""
        half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.configuration.training.precision)
        with torch.autocast(self.device.type, half, enabled=half is not None):
            distribution = live_distribution(teacher, batch)
        distribution = distribution if half is None else distribution.to(half)
        return distribution.top(self.top_k, max(1, CHUNK_BYTES // (4 * len(distribution.weight))))


def teacher_loss(model: Any, teacher: Any, batch: dict[str, Tensor]) -> float:
    """Mean cross-entropy of a target token to the teacher, without dropout; the teacher is live, or in the batch."""
    reads = Reads(frozen_matches=frozenset([PAIR]))
    with evaluating(model):
        views = compute_views(model, batch, reads, teacher)
    scored = (batch[Target.TRANSLATION.labels] != IGNORED_LABEL).sum()
    return float(views.frozen_match[PAIR] / scored)


def describe(record: dict[str, Any]) -> str:
    """One line about a cache."""
    fixed = record["fixed_batch"]
    return (
        f"the {record['top_k']} likeliest tokens of {record['positions']} positions, {record['bytes'] / 1e6:.1f} MB, "
        f"hold {record['kept']:.2%} of the probability; loss of {fixed['rows']} rows, when it was written: live "
        f"{fixed['live']:.4f}, cached {fixed['cached']:.4f} (difference {fixed['live'] - fixed['cached']:.2g})"
    )


def _texts(manifest: datasets.Dataset) -> Iterator[str]:
    """All that the teacher's distributions depend on, row by row."""
    columns = [
        manifest.data.column(name) for name in ("source_language", "transcript", "target_language", "translation")
    ]
    for start in range(0, len(manifest), 4096):
        for row in zip(*(column.slice(start, 4096).to_pylist() for column in columns), strict=True):
            yield json.dumps(row)


def _digest(parts: Iterable[str]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.encode())
        found.update(b"\n")
    return found.hexdigest()
