import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from comsl.data.collate import Collator
from comsl.data.dataset import Example
from comsl.data.errors import DataError
from tests.data.audio_files import tone
from tests.data.fake import FakeProcessor
from tests.tiny import tiny_comsl

SPEECH = {"input_features", "attention_mask", "source_language_ids", "durations"}
KEYS = {
    "speech": SPEECH,
    "transcript": {
        "transcript_ids",
        "transcript_mask",
        "transcript_decoder_input_ids",
        "transcript_labels",
        "transcript_unknown",
    },
    "masked_transcript": {
        "masked_transcript_ids",
        "mtp_labels",
        "transcript_mask",
        "transcript_decoder_input_ids",
    },
    "translation": {"translation_decoder_input_ids", "translation_labels", "translation_unknown"},
    "ctc": {"ctc_labels", "ctc_unknown"},
    "words": {"transcript_words", "ctc_words"},
}


def example(
    index: int, transcript: str | None, translation: str | None = None, frames: int = 3, **fields: Any
) -> Example:
    values = {
        "source_language": "de",
        "target_language": "en",
        "features": np.full((80, frames), index + 1, np.float32),
        "duration": frames / 100,
        **fields,
    }
    return Example(index, f"r{index}", (0, 0, index), transcript=transcript, translation=translation, **values)


EXAMPLES = [example(0, "a bbb", "x", frames=2), example(1, "cc", "yy zzz y", frames=4)]


def build(*fields: str, examples: list[Example] = EXAMPLES, **arguments: Any) -> dict[str, list]:
    batch = Collator(FakeProcessor(), fields, **arguments)(examples)
    return {name: value.tolist() for name, value in batch.items()}


@pytest.mark.parametrize("field", KEYS)
def test_the_keys_of_each_field_and_no_others(field: str) -> None:
    assert build(field).keys() == KEYS[field]


def test_all_keys() -> None:
    batch = Collator(FakeProcessor(), list(KEYS))(EXAMPLES)
    assert batch.keys() == set().union(*KEYS.values())
    for name, value in batch.items():
        floats = {"input_features", "durations"}
        assert value.dtype == (torch.float32 if name in floats else torch.int64), name
        assert value.shape[0] == 2


def test_words_stand_beside_tokens_and_symbols() -> None:
    batch = build("transcript", "ctc", "words")
    assert batch["transcript_words"] == [[-1, 0, 1, -1], [-1, 0, -1, -1]]  # language, "a", "bbb", end
    assert batch["ctc_words"] == [[0, 0, 1, 1, 1], [0, 0, -1, -1, -1]]
    assert np.shape(batch["transcript_words"]) == np.shape(batch["transcript_ids"])
    assert np.shape(batch["ctc_words"]) == np.shape(batch["ctc_labels"])


def test_text() -> None:
    """A word is its length plus ten; 4 and 5 are the languages, 2 the end, 1 the padding."""
    batch = build("transcript", "translation", "ctc")
    assert batch["transcript_ids"] == [[4, 11, 13, 2], [4, 12, 2, 1]]
    assert batch["transcript_mask"] == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["transcript_decoder_input_ids"] == [[2, 4, 11, 13], [2, 4, 12, 1]]
    assert batch["transcript_labels"] == [[-100, 11, 13, 2], [-100, 12, 2, -100]]
    assert batch["translation_decoder_input_ids"] == [[2, 5, 11, 1, 1], [2, 5, 12, 13, 11]]
    assert batch["translation_labels"] == [[-100, 11, 2, -100, -100], [-100, 12, 13, 11, 2]]
    assert batch["ctc_labels"] == [[97, 32, 98, 98, 98], [99, 99, -100, -100, -100]]
    assert batch["ctc_unknown"] == [0, 0]


def test_characters_without_a_symbol_are_counted() -> None:
    batch = build("ctc", examples=[example(0, "a?b??"), example(1, "???")])
    assert batch == {"ctc_labels": [[97, 98], [-100, -100]], "ctc_unknown": [3, 3]}
    assert build("ctc", examples=[example(0, "?")]) == {"ctc_labels": [[-100]], "ctc_unknown": [1]}


def test_unknown_tokens_are_counted() -> None:
    batch = build("transcript", "translation", examples=[example(0, "a ? b ?", "c"), example(1, "a", "? c")])
    assert batch["transcript_labels"][0] == [-100, 11, 3, 11, 3, 2]
    assert (batch["transcript_unknown"], batch["translation_unknown"]) == ([2, 0], [0, 1])


@pytest.mark.parametrize("field", ["transcript", "masked_transcript", "translation"])
def test_texts_longer_than_the_positions(field: str) -> None:
    rows = [example(0, "a b c", "a b c"), example(7, "a b c d", "a b c d")]
    processor = FakeProcessor()
    processor.max_positions = 6
    Collator(processor, [field])(rows)
    processor.max_positions = 5
    what = "translation" if field == "translation" else "transcript"
    message = f"row 'r7': its {what} is 6 tokens long .with language and end., the text model has positions for 5"
    with pytest.raises(DataError, match=message):
        Collator(processor, [field])(rows)


def test_speech() -> None:
    batch = build("speech")
    assert batch["attention_mask"] == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["input_features"][0][7] == [1, 1, 0, 0]
    assert batch["input_features"][1][7] == [2, 2, 2, 2]
    assert batch["source_language_ids"] == [4, 4]
    assert batch["durations"] == pytest.approx([0.02, 0.04])


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.15, 0.13, 0.17), (1.0, 1, 1)])
def test_masking(probability: float, low: float, high: float) -> None:
    rows = [example(index, "w ww www wwww " * 10) for index in range(100)]
    batch = build("masked_transcript", "transcript", examples=rows, mask_probability=probability)
    masked = np.array(batch["masked_transcript_ids"])
    plain = np.array(batch["transcript_ids"])
    labels = np.array(batch["mtp_labels"])
    where = masked != plain
    assert low <= where[:, 1:-1].mean() <= high
    assert not where[:, 0].any()  # the language
    assert not where[:, -1].any()  # the end
    assert (masked[where] == 9).all()
    np.testing.assert_array_equal(labels[where], np.array(batch["transcript_labels"])[where])
    assert (labels[~where] == -100).all()


def test_masks_follow_from_the_example_and_not_from_its_batch() -> None:
    def masked(examples: list[Example]) -> list[list[int]]:
        return build("masked_transcript", examples=examples, mask_probability=0.5)["masked_transcript_ids"]

    rows = [example(index, "w ww www wwww wwwww") for index in range(8)]
    together = masked(rows)
    assert [masked([row])[0] for row in rows] == together
    assert len({tuple(row) for row in together}) > 3
    later = [example(index, "w ww www wwww wwwww") for index in range(8)]
    for row in later:
        row.key = (0, 1, row.index)
    assert masked(later) != together


@pytest.mark.parametrize(
    ("field", "broken", "message"),
    [
        ("speech", example(7, "a", features=None), "row 'r7' has no audio"),
        ("speech", example(7, "a", source_language="cy"), "row 'r7': the model has no 'cy', it has de, en"),
        ("transcript", example(7, None), "row 'r7' has no transcript"),
        ("masked_transcript", example(7, None), "row 'r7' has no transcript"),
        ("ctc", example(7, None), "row 'r7' has no transcript"),
        ("translation", example(7, "a", None), "row 'r7' has no translation"),
        ("translation", example(7, "a", "b", target_language=None), "row 'r7' has no target_language"),
        ("translation", example(7, "a", "b", target_language="cy"), "row 'r7': the model has no 'cy'"),
    ],
)
def test_errors_name_row_and_field(field: str, broken: Example, message: str) -> None:
    with pytest.raises(DataError) as error:
        build(field, examples=[EXAMPLES[0], broken])
    assert message in str(error.value)


def test_text_alone_needs_no_audio() -> None:
    rows = [example(0, "a", "b", features=None, duration=None)]
    assert not build("transcript", "translation", examples=rows).keys() & SPEECH


def test_arguments() -> None:
    with pytest.raises(ValueError, match="unknown fields"):
        Collator(FakeProcessor(), ["speech", "text"])
    with pytest.raises(ValueError, match="mask_probability"):
        Collator(FakeProcessor(), ["speech"], mask_probability=15)


def test_with_the_real_processor(tmp_path: Path) -> None:
    """A composed model reads what the collator builds, with rows of two lengths and two languages."""
    model, processor = tiny_comsl(tmp_path / "model")
    rows = [
        example(0, "der alte Mann", "the old man", features=processor.features(tone(0.5)), duration=0.5),
        example(1, "mae'r", "small ξ", features=processor.features(tone(0.3)), duration=0.3, source_language="cy"),
    ]
    batch = Collator(processor, ["speech", "transcript", "masked_transcript", "translation"])(rows)
    assert batch["input_features"].shape == (2, 80, 50)
    assert batch["attention_mask"].sum(1).tolist() == [50, 30]
    assert batch["source_language_ids"].tolist() == batch["transcript_ids"][:, 0].tolist()
    assert (
        batch["transcript_ids"][:, 1:].eq(batch["transcript_labels"][:, 1:])[batch["transcript_mask"][:, 1:] == 1].all()
    )
    assert processor.batch_decode(batch["translation_labels"]) == ["the old man", "small"]
    assert (batch["transcript_unknown"].tolist(), batch["translation_unknown"].tolist()) == ([0, 0], [0, 1])
    output = model(
        input_features=batch["input_features"],
        attention_mask=batch["attention_mask"],
        source_language_ids=batch["source_language_ids"],
        decoder_input_ids=batch["translation_decoder_input_ids"],
        labels=batch["translation_labels"],
    )
    assert torch.isfinite(output.loss)


def test_a_cached_teacher_stands_beside_the_labels() -> None:
    """Two tokens of each scored position; the first is not scored, nor is padding."""
    tops = [
        (np.array([[5, 6], [7, 8]], np.int32), np.array([[0.5, 0.25], [0.75, 0.125]], np.float32)),
        (np.arange(8, dtype=np.int32).reshape(4, 2), np.full((4, 2), 0.25, np.float32)),
    ]
    examples = [dataclasses.replace(each, teacher=top) for each, top in zip(EXAMPLES, tops, strict=True)]
    batch = build("translation", examples=examples)
    assert [len(row) - row.count(-100) for row in batch["translation_labels"]] == [2, 4]
    assert batch["teacher_tokens"] == [
        [[0, 0], [5, 6], [7, 8], [0, 0], [0, 0]],
        [[0, 0], [0, 1], [2, 3], [4, 5], [6, 7]],
    ]
    assert batch["teacher_probabilities"][0] == [[0, 0], [0.5, 0.25], [0.75, 0.125], [0, 0], [0, 0]]
    with pytest.raises(DataError, match="row 'r0': its translation has 2 tokens, the cached teacher 4"):
        build("translation", examples=[dataclasses.replace(EXAMPLES[0], teacher=tops[1])])
    assert "teacher_tokens" not in build("transcript", examples=examples)
