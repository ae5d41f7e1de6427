"""A pretrained speech model and a pretrained text model -> one ComSL model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from comsl.data.characters import BLANK
from comsl.errors import ComSLError, UsageError

from .configuration import ComSLConfig
from .extraction import ComSLFeatureExtractor
from .generation import default_generation_config
from .loading import ModelLoadError, load_config, load_speech_part, load_text_part, quiet
from .modeling import ComSLForConditionalGeneration
from .processing import ComSLProcessor
from .vocabulary import (
    add_special_token,
    find_language,
    language_codes,
    language_tokens,
    new_language_token,
    pieces_in,
    related_languages,
    token_family,
)


class ComposeError(ComSLError):
    """Parts that cannot be put together."""


def compose(
    speech: str | Path,
    text: str | Path,
    new_languages: Mapping[str, str | None] | Sequence[str] | None = None,
    out: str | Path | None = None,
    *,
    languages: Sequence[str] | None = None,
    ctc_vocabulary: Sequence[str] | None = None,
    ctc_texts: Iterable[str] | None = None,
    adapter: Literal["convolution", "ctc"] = "convolution",
    adapter_strides: Sequence[int] = (2, 2),
    fixed_duration: float | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> tuple[ComSLForConditionalGeneration, ComSLProcessor]:
    """Put two pretrained parts together; only the adapter (and a CTC head) starts from random values.

    Args:
        speech: hub id or directory of a Whisper, wav2vec2, HuBERT, WavLM or wav2vec2-BERT checkpoint (also one
            fine-tuned for CTC), or of a ComSL model, whose speech part is taken.
        text: hub id or directory of an mBART-50, M2M-100 or NLLB-200 checkpoint, or of a ComSL model.
        new_languages: languages that the text model has no token for -> the language whose embedding the new token
            starts from; a list, or None as the value, takes the related language of the table. Languages that the
            model has already keep their token.
        out: directory to save model and processor in.
        languages: the languages the model is to know, by code or any other spelling; None: all that the text model
            has a token for.
        ctc_vocabulary: symbols of a CTC head on the speech encoder, index 0 the blank; the head of a ComSL speech
            part is kept if its vocabulary is the same.
        ctc_texts: texts as they are spoken, instead of that vocabulary: the symbols are the text part's pieces that
            occur in them.
        adapter: "convolution", the paper's, or "ctc", which passes on what CTC hears (`CTCAdapter`; with ctc_texts).
        adapter_strides: stride of each adapter layer.
        fixed_duration: pad every clip to so many seconds (Whisper's original regime); None: true lengths, also where
            the speech part is of a ComSL model that had one.
        dtype: floating type of the weights.
        seed: of those random values; the same parts and seed give the same weights, and the caller's random numbers
            go on as if nothing had happened.

    Raises:
        ComposeError: a part that is not there, not supported, or incomplete; the message names the missing weights.
        UsageError: an unknown language, one named twice, or one without a related language; a CTC vocabulary beside
            texts to take it from, or texts without a piece.
    """
    if ctc_vocabulary and ctc_texts is not None:
        raise UsageError("ctc_vocabulary and ctc_texts: give one of them")
    if adapter == "ctc" and ctc_texts is None:
        raise UsageError("the adapter ctc reads a CTC head over pieces of the text model: say what to take them from")
    related = related_languages(new_languages)
    kept = None if languages is None else language_codes(languages, "languages")
    with seeded(seed):
        try:
            text_model, tokenizer = load_text_part(text, dtype)
            pieces = None if ctc_texts is None else _pieces(tokenizer, ctc_texts)
            ctc_vocabulary = ctc_vocabulary if pieces is None else [BLANK, *pieces.values()]
            encoder, extractor, ctc_head = load_speech_part(speech, dtype, ctc_vocabulary)
            if adapter == "ctc" and ctc_head is None:
                _check_head(speech, ctc_vocabulary or ())
        except ModelLoadError as error:
            raise ComposeError(str(error)) from error
        known = _add_languages(text_model, tokenizer, related)
    if kept is not None:
        known = {code: find_language(known, name) for code, name in kept.items()}

    _drop_habits(encoder, text_model)
    extractor = ComSLFeatureExtractor.from_extractor(extractor, fixed_duration)
    config = ComSLConfig(
        speech_config=encoder.config,
        text_config=text_model.config,
        adapter=adapter,
        adapter_strides=list(adapter_strides),
        languages=known,
        fixed_duration=extractor.fixed_duration,
        ctc_vocabulary=list(ctc_vocabulary) if ctc_vocabulary else None,
        ctc_tokens=None if pieces is None else list(pieces),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        mask_token_id=tokenizer.mask_token_id,
        dtype=dtype,
    )
    with seeded(seed):
        model = _assemble(config, encoder, text_model, ctc_head, dtype)
    processor = ComSLProcessor(
        extractor,
        tokenizer,
        languages=known,
        ctc_vocabulary=config.ctc_vocabulary,
        ctc_tokens=config.ctc_tokens,
        max_positions=model.max_positions,
    )
    if out is not None:
        with quiet():
            model.save_pretrained(out)
            processor.save_pretrained(out)
    return model, processor


def _pieces(tokenizer: Any, texts: Iterable[str]) -> dict[int, str]:
    pieces = pieces_in(tokenizer, texts)
    if not pieces:
        raise UsageError("ctc_texts: no piece of the text model's vocabulary in them; name transcripts")
    return pieces


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of the CPU from ``seed`` on, and afterwards from where they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU too
        yield


def _assemble(
    config: ComSLConfig, encoder: Any, text_model: Any, ctc_head: Any, dtype: torch.dtype
) -> ComSLForConditionalGeneration:
    """A model whose parts are the loaded ones; nothing is initialised only to be overwritten."""
    with torch.device("meta"):
        model = ComSLForConditionalGeneration(config)
    model.config = config
    model.speech_encoder.encoder = encoder
    model.speech_encoder.config = config.speech_config = encoder.config
    model.text_model = text_model
    config.text_config = text_model.config
    fresh: list[torch.nn.Module] = [model.adapter]
    if model.ctc_head is not None:
        if ctc_head is None:
            fresh.append(model.ctc_head)
        else:
            model.ctc_head = ctc_head
    for part in fresh:
        part.to_empty(device="cpu")
        part.to(dtype)
        for module in part.modules():
            model._init_weights(module)
    model.generation_config = default_generation_config(config)
    text_model.generation_config = default_generation_config(config)
    return model


def _check_head(speech: str | Path, vocabulary: Sequence[str]) -> None:
    """Raise ComposeError for a speech part that hears pieces, but others: the text part would read noise at first."""
    config = load_config(speech)
    if isinstance(config, ComSLConfig) and config.ctc_tokens:
        raise ComposeError(
            f"{speech}: its CTC head hears {len(config.ctc_tokens)} pieces, and {len(vocabulary) - 1} were asked for, "
            "not the same; compose with the text part, and take them from the texts, that it was trained with"
        )


def _drop_habits(encoder: Any, text_model: Any) -> None:
    """What the parts' own tasks force or suppress in decoding, and LayerDrop."""
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        if hasattr(text_model.config, name):
            setattr(text_model.config, name, None)
    if encoder.config.model_type == "whisper":
        encoder.config.suppress_tokens = encoder.config.begin_suppress_tokens = None
    _keep_every_layer(text_model)


def _keep_every_layer(text_model: Any) -> None:
    """No LayerDrop, which M2M-100's configuration switches on by default.

    An objective that reads the states of a layer needs that layer to run in every step; and a dropped layer would be
    dropped for speech and text alike in one step, and for none of them in the next.
    """
    text_model.config.encoder_layerdrop = text_model.config.decoder_layerdrop = 0.0
    text_model.model.encoder.layerdrop = text_model.model.decoder.layerdrop = 0.0


def _add_languages(text_model: Any, tokenizer: Any, related: dict[str, str | None]) -> dict[str, int]:
    """Give languages (and a mask, where there is none) a token and an embedding; return all languages."""
    family = token_family(tokenizer)
    known = language_tokens(tokenizer)
    started_from: dict[int, int | None] = {}
    if tokenizer.mask_token_id is None:
        started_from[add_special_token(tokenizer, "<mask>", is_mask=True)] = None
    for code, origin in related.items():
        if code in known:
            continue
        if origin is None:
            raise UsageError(f"new language {code!r}: name a related language whose embedding it can start from")
        start = find_language(known, origin, "related")
        token = new_language_token(code, family)
        known[code] = add_special_token(tokenizer, token)
        started_from[known[code]] = start
    rows = text_model.get_input_embeddings().num_embeddings
    needed = max([rows, *(number + 1 for number in started_from)])
    if needed > rows:
        text_model.resize_token_embeddings(needed, mean_resizing=False)
    with torch.no_grad():
        for row, origin_row in started_from.items():
            _copy_row(text_model, row, origin_row, rows)
    return known


def _copy_row(text_model: Any, row: int, start: int | None, old_rows: int) -> None:
    """Let a token start from another one's embedding and output weights; None: from the mean of all old ones."""
    embedding, head = text_model.get_input_embeddings().weight, text_model.get_output_embeddings().weight
    for weight in (embedding, head) if head is not embedding else (embedding,):
        weight[row] = weight[:old_rows].mean(dim=0) if start is None else weight[start]
    bias = getattr(text_model, "final_logits_bias", None)
    if bias is not None:
        bias[:, row] = 0.0 if start is None else bias[:, start]
