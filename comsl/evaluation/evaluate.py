"""Manifests in; hypotheses, scores and a report out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from comsl.errors import ComSLError, UsageError
from comsl.evaluation import LOOKUP, SYSTEMS, USUAL_SYSTEMS
from comsl.evaluation.calibration import reliability
from comsl.evaluation.curves import read_curves
from comsl.evaluation.metrics import BOOTSTRAP_SAMPLES, NORMALISERS
from comsl.evaluation.outcome import Evaluation, ScoringOptions, add_floor, write_evaluation
from comsl.evaluation.records import ATTENTION, Record, RecordLog
from comsl.evaluation.rows import Manifest, ManifestRows, TrainingRows, manifest_paths
from comsl.evaluation.settings import decoding_settings, model_name
from comsl.evaluation.systems import (
    LISTENERS,
    ROLES,
    Decoder,
    Heard,
    ModelDecoder,
    SystemRunner,
    load_decoder,
)
from comsl.inference import MEMORY_GAP, TASKS, Precision
from comsl.inference.confidence import load_calibration
from comsl.inference.decode import DecodingOptions, Hypothesis, check_recall
from comsl.inference.memory import TranslationMemory, read_memory
from comsl.progress import console, track

TRANSLATORS = ("mixed", "pooled", "memory", "text")
"""Systems that have nothing to do where nothing is translated."""


def evaluate(
    model: str | Path | Decoder,
    manifest: Manifest,
    out: str | Path,
    systems: Sequence[str] | None = None,
    *,
    cascade_asr: str | Path | Decoder | None = None,
    cascade_mt: str | Path | Decoder | None = None,
    train_manifest: Manifest | None = None,
    lookup: bool = True,
    task: str = "both",
    beam: int = 5,
    batch_size: int = 8,
    max_new_tokens: int | None = None,
    options: DecodingOptions | None = None,
    memory: Manifest | None = None,
    memory_gap: float = MEMORY_GAP,
    lowercase: bool = False,
    normaliser: str = "basic",
    n_bootstrap: int = BOOTSTRAP_SAMPLES,
    device: str | None = None,
    precision: Precision | None = None,
    show: bool = True,
) -> Evaluation:
    """Decode manifests with each system, score the hypotheses, write hypotheses.jsonl, scores.json, table.md and
    report.html.

    Interrupted, the same call goes on where it stopped and gives the same result; a finished one is only scored again.

    Args:
        model: directory or hub id of a ComSL model, or a ``Decoder``.
        manifest: one or several; every row counts, in their order.
        out: folder; what an evaluation with other settings left there is overwritten.
        systems: of "direct", "cascade", "mixed", "pooled", "memory", "text" (see ``systems``); None: "direct",
            "cascade" and "text", as far as the task has work for them.
        cascade_asr, cascade_mt: models of the cascade's two sides (``cascade_mt`` also makes "text"); None: ``model``.
        train_manifest: adds its hours to the table, the look-up floor, and for every system the scores over the rows
            whose reference does not occur in it.
        lookup: False leaves the floor out.
        task: "translate" (BLEU, chrF++), "transcribe" (WER, CER), or "both".
        beam, batch_size, max_new_tokens: of the decoding; ``options`` replaces the three.
        memory, memory_gap: what the system "memory" answers from, and "pooled" listens to
            (``comsl.inference.memory``); rows that are in it, word for word, are counted.
        lowercase: score translations without case (stated in the signature).
        normaliser: of transcripts, key of ``metrics.NORMALISERS``.
        n_bootstrap: resamples for confidence intervals; 0 leaves them out.
        device: "cpu", "cuda", "cuda:1"...; None: a GPU if there is one.
        precision: what to compute in (``comsl.inference.precision``); None: float32 on the CPU, as saved on a GPU.
        show: print the tables to stdout.

    Raises:
        UsageError: an unknown system, task or normaliser, or a system that the task or every row leaves nothing to do.
        ComSLError: a manifest or model that cannot be read. Single rows never raise: they are listed in ``failed``.
    """
    done = _systems(systems, task, normaliser)
    out = Path(out)
    options = options or DecodingOptions(beam=beam, batch_size=batch_size, max_new_tokens=max_new_tokens)
    rows = ManifestRows(manifest)
    rows.check(done, task)
    if LISTENERS.keys() & set(done):
        rows.read_durations()
    remembered = _memory(memory, memory_gap, done)
    models = {"model": model, "cascade_asr": cascade_asr, "cascade_mt": cascade_mt}
    settings = decoding_settings(models, manifest, train_manifest, task, options, precision, memory, remembered)
    log = RecordLog(out, settings)
    decoders = _Decoders(models, options, device, precision, remembered)
    for system in done:
        _decode(system, rows, decoders, task, log, options.batch_size)
    training = None if train_manifest is None else TrainingRows(train_manifest)
    if training is not None and lookup and task != "transcribe":
        add_floor(rows.rows, training, log)
        done.append(LOOKUP)
    records = log.finish([row["id"] for row in rows.rows], done)
    caption = _draw_attention(decoders, records, rows, out) if "direct" in done else None
    facts = {
        **{name: model_name(value) for name, value in models.items()},
        "seconds": {system: round(log.seconds.get(system, 0.0), 3) for system in done},
        "decoding": {**asdict(options), "device": decoders.device(), "precision": precision},
        **_about_memory(memory, remembered, rows),
        "segmentation": _segmentation(records, {s: log.longest_whole[s] for s in done if s in LISTENERS}),
        "attention": caption,
        "confidence": _confidence(model, options, remembered, records)
        if decoders.same("cascade_asr", "cascade_mt")
        else {},
        "curves": read_curves(model) if isinstance(model, str | Path) else {},
    }
    scoring = ScoringOptions(task, lowercase, normaliser, n_bootstrap)
    same_ears = [
        system for system in done if system in LISTENERS and system != "memory" and decoders.same(LISTENERS[system])
    ]
    heard = same_ears[1:]
    return write_evaluation(out, records, done, rows, training, scoring, facts, heard_by_another=heard, show=show)


def _memory(manifests: Manifest | None, gap: float, systems: Sequence[str]) -> TranslationMemory | None:
    """Read before anything is decoded."""
    check_recall(systems, bool(manifests))
    return read_memory(manifest_paths(manifests), gap) if manifests else None


def _about_memory(
    manifests: Manifest | None, memory: TranslationMemory | None, rows: ManifestRows
) -> dict[str, dict[str, Any]]:
    if memory is None:
        return {}
    whole = [row for row in rows.rows if None not in (row["target_language"], row["transcript"], row["translation"])]
    names = ("source_language", "target_language", "transcript", "translation")
    known = sum(memory.has((row[names[0]], row[names[1]], row[names[2]], row[names[3]])) for row in whole)
    if known:
        console.print(f"--memory: {known} of the {len(rows.rows)} rows are in it, word for word", markup=False)
    paths = [str(path) for path in manifest_paths(manifests)]
    return {"memory": {"manifests": paths, "settings": memory.settings, "rows_in_it": known}}


class _Decoders:
    """Models, loaded when first needed and once each."""

    def __init__(
        self,
        models: dict[str, str | Path | Decoder | None],
        options: DecodingOptions,
        device: str | None,
        precision: Precision | None,
        memory: TranslationMemory | None,
    ) -> None:
        self._models, self._options, self._device, self._precision = models, options, device, precision
        self._memory = memory
        self._loaded: dict[str, Decoder] = {}

    def get(self, role: str) -> Decoder:
        model = self._models["model"] if self.same(role) else self._models[role]
        if model is None or not isinstance(model, str | Path):
            assert model is not None
            return model
        if str(model) not in self._loaded:
            self._loaded[str(model)] = load_decoder(model, self._options, self._device, self._precision, self._memory)
        return self._loaded[str(model)]

    def same(self, *roles: str) -> bool:
        """Whether the roles are played by the model under evaluation."""
        main = self._models["model"]
        models = [self._models[role] for role in roles]
        return all(
            model is None or model is main or (isinstance(model, str | Path) and str(model) == str(main))
            for model in models
        )

    def device(self) -> str | None:
        devices = {str(model.model.device) for model in self._loaded.values() if hasattr(model, "model")}
        return ", ".join(sorted(devices)) or None


def _decode(system: str, rows: ManifestRows, decoders: _Decoders, task: str, log: RecordLog, batch_size: int) -> None:
    """All rows of one system that the log does not hold yet, longest first (memory runs out at once or not at all)."""
    pending = [row for row in rows.rows if (row["id"], system) not in log.records]
    if not pending:
        return
    pending.sort(key=lambda row: -(row["duration"] or 0.0))
    heard = _heard_by_direct(log) if decoders.same("cascade_asr") else lambda row_id: None
    # Loaded before any row is touched: a model that cannot be read is no fault of the rows.
    roles = {role: decoders.get(role) for role in ROLES[system]}
    if system in LISTENERS:
        roles[LISTENERS[system]].check_hearing(system)
        log.longest_whole[system] = roles[LISTENERS[system]].longest_whole
    runner = SystemRunner(roles, rows.waveform, task, heard)
    batches = [pending[start : start + batch_size] for start in range(0, len(pending), batch_size)]
    for batch in track(batches, description=f"decoding, {system}", unit="batch"):
        started = time.perf_counter()
        log.append(runner.run(system, batch), system, time.perf_counter() - started)


def _heard_by_direct(log: RecordLog) -> Callable[[str], Heard | None]:
    """What the direct system heard: the same model, so the cascade need not listen again."""

    def heard(row_id: str) -> Heard | None:
        made = log.records.get((row_id, "direct"))
        if made is None or made["error"] is not None or made["transcript_hypothesis"] is None:
            return None
        transcript = Hypothesis(made["transcript_hypothesis"], math.nan, truncated=made["transcript_truncated"])
        return Heard(transcript, made["segments"])

    return heard


def _segmentation(records: Sequence[Record], longest_whole: dict[str, float]) -> dict[str, dict[str, float]]:
    """Of the systems that hear clips: up to how many seconds they are decoded whole, how many were cut into segments,
    and in how many of these there was no speech (their hypotheses are empty)."""
    found: dict[str, dict[str, float]] = {}
    for system, seconds in longest_whole.items():
        cut = [row["segments"] for row in records if row["system"] == system and row["segments"] is not None]
        found[system] = {
            "longest_whole_seconds": round(seconds, 3),
            "clips_cut": len(cut),
            "clips_without_speech": cut.count(0),
        }
    return found


def _confidence(
    model: str | Path | Decoder, options: DecodingOptions, memory: TranslationMemory | None, records: Sequence[Record]
) -> dict[str, Any]:
    """How reliable the confidences of a calibrated model are on these rows; nothing where none can be told."""
    calibration = load_calibration(model) if isinstance(model, str | Path) else None
    if calibration is None:
        return {}
    try:
        calibration.check(options)
    except UsageError as error:
        console.print(f"no table of confidences: {error}", markup=False)
        return {}
    listened = None if memory is None else memory.settings
    if any(record["system"] == "pooled" for record in records) and "pooled" in calibration.weights:
        try:
            calibration.check(options, "pooled", listened)
        except UsageError as error:
            console.print(f"no table of confidences of pooled: {error}", markup=False)
    return reliability(records, calibration, listened)


def _draw_attention(decoders: _Decoders, records: Sequence[Record], rows: ManifestRows, out: Path) -> str | None:
    """A picture of one direct translation (decoded whole, of moderate length); its caption, or None for no picture."""
    (out / ATTENTION).unlink(missing_ok=True)
    usable = [row for row in records if row["system"] == "direct" and row["hypothesis"] and row["segments"] is None]
    decoder = decoders.get("model") if usable else None
    if not isinstance(decoder, ModelDecoder):
        return None
    from comsl.evaluation.attention import cross_attention
    from comsl.evaluation.plots import attention_png

    chosen = min(usable, key=lambda row: (abs((row["duration"] or 0.0) - 4.0), row["id"]))
    try:
        (clip,) = decoder.prepare(rows.waveform(chosen)).parts
        languages = chosen["source_language"], chosen["target_language"]
        attention = cross_attention(decoder.model, decoder.processor, clip, *languages, chosen["hypothesis"])
    except ComSLError as error:
        console.print(f"no attention picture: {error}", markup=False)
        return None
    (out / ATTENTION).write_bytes(attention_png(attention))
    return f"{chosen['id']}: {chosen['hypothesis']} Mean over layers and heads; the language embedding is left out."


def _systems(systems: Sequence[str] | None, task: str, normaliser: str) -> list[str]:
    """The systems to run, in their order; UsageError for names that are unknown or a system without work."""
    for kind, given, known in (
        ("system", systems or (), SYSTEMS),
        ("task", [task], TASKS),
        ("normaliser", [normaliser], tuple(NORMALISERS)),
    ):
        for name in given:
            if name not in known:
                raise UsageError(f"unknown {kind} {name!r}: known are {', '.join(known)}")
    possible = [system for system in SYSTEMS if task != "transcribe" or system not in TRANSLATORS]
    if systems is None:
        return [system for system in possible if system in USUAL_SYSTEMS]
    if not systems:
        raise UsageError(f"no system to evaluate: choose of {', '.join(possible)}")
    if not set(systems) <= set(possible):
        named = " and ".join(system for system in TRANSLATORS if system in systems)
        raise UsageError(f"the system {named} only translates: leave it out, or evaluate the task translate or both")
    return [system for system in possible if system in systems]
