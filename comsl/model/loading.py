"""Loading pretrained parts and composed models, with every missing weight an error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub.utils
import torch
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import logging

from comsl.errors import ComSLError

from .configuration import ComSLConfig
from .extraction import ComSLFeatureExtractor
from .modeling import TEXT_MODELS, ComSLForConditionalGeneration
from .processing import ComSLProcessor
from .speech import SUPPORTED_MODELS
from .vocabulary import language_tokens


class ModelLoadError(ComSLError):
    """A checkpoint that is not there, of the wrong kind, or incomplete."""


def load_model(
    path: str | Path, dtype: torch.dtype | None = None
) -> tuple[ComSLForConditionalGeneration, ComSLProcessor]:
    """Load a composed model and its processor, in evaluation mode.

    Args:
        path: hub id or directory, as `save_pretrained` writes it.
        dtype: floating type of the weights; None: the one they are saved in.

    Raises:
        ModelLoadError: nothing there, not a ComSL model, or weights missing.
    """
    config = load_config(path)
    if not isinstance(config, ComSLConfig):
        raise ModelLoadError(f"{path} is a {config.model_type} model, not a ComSL model; compose one with it first")
    model = load_weights(ComSLForConditionalGeneration.from_pretrained, path, config=config, dtype=dtype or "auto")
    processor = _read(path, "processor", ComSLProcessor.from_pretrained)
    processor.max_positions = model.max_positions
    return model.eval(), processor


def load_config(path: str | Path) -> Any:
    """Configuration of any checkpoint."""
    return _read(path, "config.json", AutoConfig.from_pretrained)


def load_weights(
    load: Callable[..., Any], path: str | Path, ignore: Callable[[str], bool] = lambda name: False, **kwargs: Any
) -> Any:
    """Call a `from_pretrained` and check that the checkpoint held every weight, but those `ignore` accepts.

    Raises:
        ModelLoadError: naming the weights that are missing or of another shape.
    """
    model, report = _read(path, "weights", load, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs)
    mismatched = {entry[0] for entry in report["mismatched_keys"]}
    missing = sorted(name for name in set(report["missing_keys"]) | mismatched if not ignore(name))
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise ModelLoadError(
            f"{path}: {len(missing)} weights are missing or of another shape than config.json says: "
            f"{', '.join(missing[:5])}{more}"
        )
    return model


def load_speech_part(
    path: str | Path, dtype: torch.dtype, ctc_vocabulary: Sequence[str] | None = None
) -> tuple[Any, ComSLFeatureExtractor, Any]:
    """Speech encoder, feature extractor and the CTC head of a ComSL model with that vocabulary (else None)."""
    config = load_config(path)
    _check_kind(path, config.model_type, SUPPORTED_MODELS, "speech")
    extractor = _read(path, "preprocessor_config.json", AutoFeatureExtractor.from_pretrained)
    wrapped = ComSLFeatureExtractor.from_extractor(extractor)
    if isinstance(config, ComSLConfig):
        model, _ = load_model(path, dtype)
        same = ctc_vocabulary is not None and list(ctc_vocabulary) == config.ctc_vocabulary
        return model.speech_encoder.encoder, wrapped, model.ctc_head if same else None
    if config.model_type == "whisper":
        model = load_weights(
            AutoModel.from_pretrained, path, lambda name: not name.startswith("encoder."), config=config, dtype=dtype
        )
        return model.encoder, wrapped, None
    # Masking of features is a setting of the training data here; without it the parts need no embedding of masks,
    # which fine-tuned checkpoints often lack.
    config.mask_time_prob = config.mask_feature_prob = 0.0
    config.apply_spec_augment = False
    return load_weights(AutoModel.from_pretrained, path, config=config, dtype=dtype), wrapped, None


def load_text_part(path: str | Path, dtype: torch.dtype | None) -> tuple[Any, Any]:
    """Text model and tokenizer; ``dtype`` None: the one that the weights are saved in."""
    config = load_config(path)
    _check_kind(path, config.model_type, TEXT_MODELS, "text")
    tokenizer = _read(path, "tokenizer", AutoTokenizer.from_pretrained)
    if isinstance(config, ComSLConfig):
        return load_model(path, dtype)[0].text_model, tokenizer
    # Without its vocabulary file a tokenizer class may silently start with a handful of tokens of its own.
    rows, known = config.vocab_size, max(len(tokenizer), 1 + max(language_tokens(tokenizer).values()))
    if not rows - min(256, rows // 5) <= known <= rows:
        raise ModelLoadError(
            f"{path}: the tokenizer knows {known} tokens, the model {rows}; is a file of the tokenizer missing?"
        )
    model = load_weights(AutoModelForSeq2SeqLM.from_pretrained, path, config=config, dtype=dtype or "auto")
    return model, tokenizer


def _check_kind(path: str | Path, kind: str, supported: Sequence[str], part: str) -> None:
    if kind not in (*supported, ComSLConfig.model_type):
        raise ModelLoadError(f"{path}: a {kind} model cannot be the {part} part; use one of {', '.join(supported)}")


def _read(path: str | Path, what: str, load: Callable[..., Any], **kwargs: Any) -> Any:
    """Run a `from_pretrained`; what goes wrong in it becomes one line that names the checkpoint."""
    # A hub id is at most organisation/name; anything else can only be a directory, and so can a name in one of ours.
    place = Path(path)
    written_as_path = str(path).startswith((".", "~")) or str(path).endswith("/")
    local = written_as_path or place.is_absolute() or len(place.parts) != 2 or place.parent.is_dir()
    if local and not place.exists():
        raise ModelLoadError(f"{path}: no such directory")
    if place.is_dir() and what == "config.json" and not (place / what).is_file():
        raise ModelLoadError(f"{path}: no {what}, so no model; a training leaves its model there when it is finished")
    try:
        with quiet():
            return load(path, **kwargs)
    except ComSLError:
        raise
    except Exception as error:  # transformers raises whatever the file format's library raises
        reason = str(error).strip().splitlines() or [type(error).__name__]
        first = reason[0].split(". If you were trying to load")[0]
        raise ModelLoadError(f"{path}: cannot load its {what}: {first}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No report of weights that a part does not use, and no bars but those of downloads, on a terminal."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub_bars = not huggingface_hub.utils.are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()  # the hub's as well
    if hub_bars and sys.stderr.isatty():
        huggingface_hub.utils.enable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if hub_bars:
            huggingface_hub.utils.enable_progress_bars()
        else:
            huggingface_hub.utils.disable_progress_bars()
