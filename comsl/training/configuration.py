"""What a training stage is: the settings of a recipe, documented, checked, and saved beside the result.

A recipe is a YAML file with the keys below; every key can be overridden on the command line
(``--optimizer.learning_rate 3e-4``). Nothing is ignored: an unknown key is an error that names the nearest one, a wrong
value an error that names the key. Relative paths in a recipe are relative to the current directory, not to the recipe,
so that a recipe reads the same wherever it is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from comsl.data.augment import AugmentSettings
from comsl.data.constants import TooLong
from comsl.errors import UsageError
from comsl.training.recipe import (
    Tree,
    check_keys,
    flatten,
    merge,
    parse_overrides,
    read_yaml,
)


class ConfigurationError(UsageError):
    """A recipe or an override that makes no sense; the message names the key."""


def setting(default: Any, text: str) -> Any:
    """A documented field; mutable defaults are copied for every instance."""
    if isinstance(default, (dict, list)):
        return field(default_factory=default.copy, metadata={"help": text})
    return field(default=default, metadata={"help": text})


def section(kind: type, text: str) -> Any:
    """A documented group of settings."""
    return field(default_factory=kind, metadata={"help": text})


@dataclass
class NewPartConfiguration:
    """Size of a random part, for languages that no public checkpoint suits."""

    kind: Literal["whisper", "conformer"] = setting(
        "whisper", "speech part: a Whisper encoder, or a conformer (wav2vec2-BERT)"
    )
    stack: int = setting(4, "frames of 10 ms that one of a conformer is made of: 4 gives 25 a second")
    width: int = setting(192, "width of the part; its feed-forward layers are four times as wide")
    encoder_layers: int = setting(3, "layers of the encoder")
    decoder_layers: int = setting(3, "layers of the decoder (text part)")
    heads: int = setting(4, "attention heads")
    dropout: float = setting(0.1, "dropout")
    init_std: float = setting(0.02, "standard deviation of the random weights; a narrow part learns sooner with more")
    vocabulary: int = setting(500, "sentencepiece pieces learnt from the training texts (text part)")


@dataclass
class ComposeConfiguration:
    """Makes the model out of two pretrained parts; leave out when `model` names a ComSL model."""

    speech: str | None = setting(None, "speech encoder: hub id or directory (Whisper, wav2vec2, HuBERT, ...), or new")
    text: str | None = setting(None, "text model: hub id or directory (mBART-50, M2M-100, NLLB-200), or new")
    new_speech: NewPartConfiguration = section(NewPartConfiguration, "the random part of `speech: new`")
    new_text: NewPartConfiguration = section(NewPartConfiguration, "the random mBART of `text: new`")
    new_languages: dict[str, str | None] | list[str] = setting(
        {}, "language to add -> related language its token starts from; a list: those of the language table"
    )
    languages: list[str] | None = setting(None, "languages the model shall know; null: all that the text model knows")
    ctc_vocabulary: list[str] | str | None = setting(
        None, "symbols of a CTC head (the blank first), a manifest or text to take them from, or auto; null: no head"
    )
    ctc_units: Literal["characters", "pieces"] = setting(
        "characters", "what those symbols are: characters, or the text part's pieces in that manifest or text"
    )
    adapter: Literal["convolution", "ctc"] = setting(
        "convolution", "from speech to text: the paper's convolutions, or the pieces that CTC hears, a vector each"
    )
    adapter_strides: list[int] = setting([2, 2], "stride of each convolution of the length adapter")
    fixed_duration: float | None = setting(None, "pad every clip to so many seconds (Whisper's regime); null: do not")

    def check_ctc(self) -> None:
        """Raise ConfigurationError for an adapter and symbols that do not go together."""
        if self.adapter == "ctc" and self.ctc_units != "pieces":
            raise ConfigurationError("compose.adapter: ctc reads pieces of text: set compose.ctc_units to pieces")
        if self.ctc_units == "pieces" and not isinstance(self.ctc_vocabulary, str):
            raise ConfigurationError(
                "compose.ctc_vocabulary: pieces are taken from texts; say auto, or name a manifest or a text"
            )


@dataclass
class LoraConfiguration:
    """Low-rank matrices beside the linear layers of pretrained parts, which stay as they are; needs the package peft.

    What else there is (length adapter, CTC head, a part not named) learns as without it. The finished model is merged.
    """

    rank: int = setting(16, "rank of the matrices")
    alpha: float = setting(32.0, "their product is scaled by alpha / rank")
    dropout: float = setting(0.0, "dropout of what they read")
    parts: list[Literal["speech_encoder", "text_model"]] = setting(
        ["speech_encoder", "text_model"], "which parts get them"
    )
    layers: list[str] = setting(
        ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"], "names of the linear layers that get them"
    )


@dataclass
class DataConfiguration:
    """What to train on and how to batch it."""

    train: str | list[str] | None = setting(None, "training manifest(s), JSONL or Parquet")
    dev: str | list[str] | None = setting(None, "development manifest(s); null: no evaluation during training")
    max_batch_seconds: float = setting(120.0, "padded seconds of speech in a batch, per device")
    max_batch_characters: int = setting(8000, "padded characters in a batch, per device, for stages without speech")
    max_batch_size: int | None = setting(None, "utterances in a batch at most; null: no limit")
    temperature: float | None = setting(None, "languages are sampled by size ** (1 / temperature); null: as they come")
    num_workers: int = setting(2, "processes that load data, per device; the result does not depend on it")
    mask_probability: float = setting(0.15, "share of the transcript's tokens masked for masked token prediction")
    too_long: TooLong = setting("error", "training clips that are longer than the model reads: error, or leave_out")
    augment: AugmentSettings = section(AugmentSettings, "what is done to training clips")


@dataclass
class OptimizerConfiguration:
    """AdamW and its learning rate."""

    learning_rate: float = setting(2e-5, "highest learning rate, reached after the warm-up")
    end_learning_rate: float = setting(1e-7, "last learning rate of the polynomial schedule, lowest of the cosine one")
    schedule: Literal["polynomial", "linear", "cosine", "inverse_sqrt", "constant"] = setting(
        "polynomial", "how the learning rate falls after the warm-up"
    )
    power: float = setting(2.0, "exponent of the polynomial schedule")
    warmup_steps: int | None = setting(
        None, "steps over which the learning rate rises from zero; null: a tenth of the training, 5000 at most"
    )
    weight_decay: float = setting(0.1, "not applied to biases and layer norms")
    betas: tuple[float, float] = setting((0.9, 0.98), "decay of the two moments")
    eps: float = setting(1e-6, "added to the root of the second moment")
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm; 0 switches clipping off")


@dataclass
class TrainingConfiguration:
    """How long, how often, how precisely."""

    max_steps: int | None = setting(None, "optimiser steps; null: `epochs` decides")
    epochs: float = setting(15, "passes over the training data, where max_steps is null")
    eval_steps: int = setting(1000, "steps between two evaluations on the development set")
    save_steps: int | None = setting(None, "steps between two checkpoints; null: eval_steps")
    logging_steps: int = setting(50, "steps between two log lines")
    precision: Literal["no", "bf16", "fp16"] = setting("no", "mixed precision; fp16 needs a GPU")
    gradient_accumulation_steps: int = setting(1, "batches whose gradients are added up before a step")
    gradient_checkpointing: bool = setting(False, "recompute activations in the backward pass: less memory, more time")
    early_stopping_patience: int | None = setting(None, "evaluations without improvement after which to stop")
    average_last: int = setting(1, "final model: 1 = best checkpoint, N > 1 = average of N checkpoints")
    average_by: Literal["last", "best"] = setting(
        "last", "which N checkpoints are averaged; best: by the score on the development set"
    )
    wandb: bool = setting(False, "also log to Weights & Biases (needs the wandb package)")
    use_cpu: bool = setting(False, "train on the CPU even if there is a GPU")


@dataclass
class EvaluationConfiguration:
    """Evaluation on the development set during training; chooses the best checkpoint."""

    task: Literal["auto", "st", "asr", "mt", "loss"] = setting(
        "auto",
        "st and mt: BLEU by generation; asr: word error rate (both: mean over the directions); loss: no generation; "
        "auto: what is trained",
    )
    beam: int = setting(1, "beams of the generation")
    max_rows: int | None = setting(
        500, "rows that are generated: the first of every direction, as many of each; null: all"
    )
    batch_size: int = setting(16, "rows generated at once, per device")
    max_new_tokens: int | None = setting(None, "tokens generated at most; null: bounded by the input's length")


@dataclass
class TeacherCacheConfiguration:
    """Writes the teacher's distributions down once, so that no step computes, or holds, the teacher."""

    top_k: int = setting(8, "likeliest tokens that are kept of each target position")
    folder: str | None = setting(None, "where they are kept, for several runs; null: in the run directory")


@dataclass
class TrainConfiguration:
    """A training stage."""

    output_dir: str = setting("", "the run directory: logs, checkpoints and, at the end, the model")
    seed: int = setting(0, "of everything random")
    model: str | None = setting(None, "ComSL model to start from: hub id or directory")
    compose: ComposeConfiguration | None = setting(None, "or: the pretrained parts to compose a model from")
    lora: LoraConfiguration | None = setting(None, "train low-rank matrices instead of whole parts")
    reinitialize: bool | Literal["speech", "text"] = setting(
        False, "same architecture, random weights: of everything (the from-scratch baseline), or of one part"
    )
    teacher: str | None = setting(
        None,
        "fine-tuned text model (or ComSL model) of the same vocabulary that MT is regularised by; null: the starting "
        "text model (a copy, or with LoRA its own weights without the matrices)",
    )
    teacher_cache: TeacherCacheConfiguration | None = setting(
        None, "the teacher's likeliest tokens, written once before the training; null: the teacher computes every step"
    )
    reduction: Literal["mean", "paper"] = setting(
        "mean", "each objective divided by its count over the global batch, or the published sums"
    )
    dropout: float | None = setting(None, "dropout of the text model; null: as its checkpoint says")
    adapter_dropout: float | None = setting(None, "dropout of the length adapter; null: as the model says (new: none)")
    objectives: dict[str, Any] = setting({}, "objective -> its settings; docs/objectives.md describes them")
    freeze_speech_encoder: float = setting(
        0.0, "share of training for which the speech encoder stays as it is (0 to 1)"
    )
    data: DataConfiguration = section(DataConfiguration, "what to train on")
    optimizer: OptimizerConfiguration = section(OptimizerConfiguration, "AdamW and its learning rate")
    training: TrainingConfiguration = section(TrainingConfiguration, "how long, how often, how precisely")
    evaluation: EvaluationConfiguration = section(EvaluationConfiguration, "evaluation during training")

    @property
    def save_steps(self) -> int:
        return self.training.save_steps or self.training.eval_steps

    def validate(self) -> None:
        """Checks what types alone do not. Raises ConfigurationError naming the key."""
        for name, wrong, wish in self._range_checks():
            if wrong:
                raise ConfigurationError(f"{name}: {wish}, got {flatten(self.to_dict()).get(name)!r}")
        if not self.output_dir:
            raise ConfigurationError("output_dir: missing; name the run directory with --output_dir runs/NAME")
        if not self.data.train:
            raise ConfigurationError("data.train: missing; name a training manifest")
        if not any(value is not None for value in self.objectives.values()):
            raise ConfigurationError("objectives: none is switched on; name at least one, as in `objectives: {st: {}}`")
        if (self.model is None) == (self.compose is None):
            raise ConfigurationError(
                "name either `model` (a ComSL model) or `compose` (its two parts), not both or none"
            )
        if self.compose is not None and not (self.compose.speech and self.compose.text):
            missing = "text" if self.compose.speech else "speech"
            raise ConfigurationError(f"compose.{missing}: missing; a model is composed from `speech` and `text`")
        if self.compose is not None:
            self.compose.check_ctc()
        if self.lora is not None and self.reinitialize:
            raise ConfigurationError("lora: keeps weights that `reinitialize` makes random; leave one of them out")
        if self.lora is not None and not (self.lora.parts and self.lora.layers):
            missing = "layers" if self.lora.parts else "parts"
            raise ConfigurationError(f"lora.{missing}: empty; name some, or leave lora out")
        if self.training.early_stopping_patience is not None and not self.data.dev:
            raise ConfigurationError("training.early_stopping_patience: needs a development set (data.dev)")
        if self.training.average_last > 1 and self.training.average_by == "best" and not self.data.dev:
            raise ConfigurationError(
                "training.average_by: without a development set (data.dev) there is no best checkpoint to average; "
                "name one, or average the last ones (training.average_by: last)"
            )

    def _range_checks(self) -> list[tuple[str, bool, str]]:
        optimizer, training, data, evaluation = self.optimizer, self.training, self.data, self.evaluation
        lora = self.lora or LoraConfiguration()
        at_least_one = "must be at least 1"

        def below_one(value: float | None) -> bool:
            return value is not None and value < 1

        def no_share(value: float | None) -> bool:
            return value is not None and not 0 <= value < 1

        cache = self.teacher_cache
        return [
            ("teacher_cache.top_k", below_one(None if cache is None else cache.top_k), at_least_one),
            ("dropout", no_share(self.dropout), "must be at least 0 and below 1"),
            ("adapter_dropout", no_share(self.adapter_dropout), "must be at least 0 and below 1"),
            ("freeze_speech_encoder", not 0 <= self.freeze_speech_encoder <= 1, "must be between 0 and 1"),
            ("lora.rank", lora.rank < 1, at_least_one),
            ("lora.alpha", lora.alpha <= 0, "must be above 0"),
            ("lora.dropout", no_share(lora.dropout), "must be at least 0 and below 1"),
            ("optimizer.learning_rate", optimizer.learning_rate <= 0, "must be above 0"),
            (
                "optimizer.end_learning_rate",
                not 0 <= optimizer.end_learning_rate
                or (optimizer.schedule == "polynomial" and optimizer.end_learning_rate >= optimizer.learning_rate),
                "must be at least 0 and below learning_rate",
            ),
            ("optimizer.warmup_steps", (optimizer.warmup_steps or 0) < 0, "must be at least 0"),
            ("optimizer.weight_decay", optimizer.weight_decay < 0, "must be at least 0"),
            ("optimizer.betas", not all(0 <= beta < 1 for beta in optimizer.betas), "must be in [0, 1)"),
            ("optimizer.eps", optimizer.eps <= 0, "must be above 0"),
            ("optimizer.max_grad_norm", optimizer.max_grad_norm < 0, "must be at least 0"),
            ("training.max_steps", below_one(training.max_steps), at_least_one),
            ("training.epochs", training.epochs <= 0, "must be above 0"),
            ("training.eval_steps", below_one(training.eval_steps), at_least_one),
            ("training.save_steps", below_one(training.save_steps), at_least_one),
            ("training.logging_steps", below_one(training.logging_steps), at_least_one),
            (
                "training.gradient_accumulation_steps",
                below_one(training.gradient_accumulation_steps),
                at_least_one,
            ),
            ("training.early_stopping_patience", below_one(training.early_stopping_patience), at_least_one),
            ("training.average_last", below_one(training.average_last), at_least_one),
            ("data.max_batch_seconds", data.max_batch_seconds <= 0, "must be above 0"),
            ("data.max_batch_characters", below_one(data.max_batch_characters), at_least_one),
            ("data.max_batch_size", below_one(data.max_batch_size), at_least_one),
            ("data.temperature", below_one(data.temperature), at_least_one),
            ("data.num_workers", data.num_workers < 0, "must be at least 0"),
            ("data.mask_probability", not 0 <= data.mask_probability <= 1, "must be between 0 and 1"),
            ("evaluation.beam", below_one(evaluation.beam), at_least_one),
            ("evaluation.max_rows", below_one(evaluation.max_rows), at_least_one),
            ("evaluation.batch_size", below_one(evaluation.batch_size), at_least_one),
            ("evaluation.max_new_tokens", below_one(evaluation.max_new_tokens), at_least_one),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as YAML holds them."""
        return plain(asdict(self))

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def load_configuration(
    path: str | Path | Sequence[str | Path], overrides: list[str] | None = None
) -> TrainConfiguration:
    """Read a recipe.

    Args:
        path: YAML file; or several, of which a later one changes what those before it say, key by key.
        overrides: command-line words, ``["--optimizer.learning_rate", "3e-4", "--seed=1"]``; values are read as YAML.

    Raises:
        ConfigurationError: no such file, malformed YAML (with file and line), an unknown key (with the nearest known
            one), a wrong type or value (with the key). Settings of objectives are checked by comsl.objectives.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    tree: Tree = {}
    for one in paths:
        read = read_yaml(one, ConfigurationError)
        check_keys(read, TrainConfiguration, str(one), ConfigurationError)
        for key, value in flatten(read).items():
            tree = merge(tree, key, value)
    for words, key, value in parse_overrides(overrides or [], ConfigurationError):
        check_keys(merge({}, key, value), TrainConfiguration, words, ConfigurationError)
        tree = merge(tree, key, value)
    return configuration_from(tree, " + ".join(map(str, paths)))


def configuration_from(tree: Tree, origin: str = "configuration") -> TrainConfiguration:
    """Typed and checked settings out of plain nested ones."""
    import jsonargparse

    check_keys(tree, TrainConfiguration, origin, ConfigurationError)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TrainConfiguration, None)
    try:
        values = vars(parser.instantiate(parser.parse_object(tree)))
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{origin}: {_readable(str(error))}") from error
    configuration = TrainConfiguration(**values)
    try:
        configuration.validate()
    except ConfigurationError as error:
        raise ConfigurationError(f"{origin}: {error}") from error
    return configuration


def _readable(message: str) -> str:
    """The parser's complaint in the words of a recipe's author."""
    message = re.sub(r'Parser key "([^"]+)":', r"\1:", " ".join(message.split()))
    message = re.sub(r"Expected a <class '(\w+)'>", r"expected a value of type \1", message)
    message = re.sub(r"Expected a typing\.Literal\[([^\]]*)\]", r"expected one of \1", message)
    return message.replace(". Got value:", ", got")


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
