"""Two steps of each pretraining: what is saved must be what transformers loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoProcessor, AutoTokenizer, WhisperForConditionalGeneration

from comsl.demo import corpus
from comsl.demo import pretrain_speech as pretrain_speech_module
from comsl.demo.grammar import held_out_sentences
from comsl.demo.pretrain import pretrain
from comsl.demo.pretrain_speech import Stage, pretrain_speech
from comsl.demo.pretrain_text import Examples, pretrain_text
from comsl.demo.recognizer import CTC_VOCABULARY, Recognizer, ctc_text
from comsl.demo.snapshot import Snapshot
from comsl.demo.speech import speak
from comsl.errors import UsageError


@pytest.fixture(scope="module")
def text_part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("text")
    pretrain_text(out, steps=2, batch_tokens=150, pairs=40, test_rows=4)
    return out


@pytest.fixture(scope="module")
def speech_part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("speech")
    pretrain_speech(out, utterances=30, stages=(Stage(2, False, 1e-3), Stage(2, True, 1e-3)), workers=1, test_rows=1)
    return out


def test_speech_part_goes_on_where_it_was_interrupted(
    speech_part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain_speech_module, "SAVE_STEPS", 1)
    kept = Snapshot.save
    left = [3]

    def save(snapshot: Snapshot, **progress: Any) -> None:
        kept(snapshot, **progress)
        left[0] -= 1
        if left[0] in (2, 0):  # in the first stage, and, a start later, in the second
            raise KeyboardInterrupt

    monkeypatch.setattr(Snapshot, "save", save)
    settings: dict[str, Any] = {
        "utterances": 30, "stages": (Stage(2, False, 1e-3), Stage(2, True, 1e-3)), "workers": 1, "test_rows": 1
    }  # fmt: skip
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pretrain_speech(tmp_path, **settings)
    pretrain_speech(tmp_path, **settings)
    once, resumed = (load_file(folder / "model.safetensors") for folder in (speech_part, tmp_path))
    assert all(torch.equal(once[name], resumed[name]) for name in once)
    logs = [json.loads((folder / "training_log.json").read_text())["history"] for folder in (speech_part, tmp_path)]
    assert [entry["ctc"] for entry in logs[0]] == [entry["ctc"] for entry in logs[1]]
    assert not list(tmp_path.glob("*.pt"))


def test_text_part_loads_with_its_tokenizer(text_part: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(text_part, src_lang="de_DE")
    model = AutoModelForSeq2SeqLM.from_pretrained(text_part)
    assert model.dtype == torch.float16
    assert model.config.vocab_size == len(tokenizer)
    text = "Die Großmutter sieht den Bären nicht. Ŵyth tŷ; ¿qué? L'œuf à côté!"
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids
    assert ids[0] == tokenizer.convert_tokens_to_ids("de_DE")
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.mask_token_id == len(tokenizer) - 1
    log = json.loads((text_part / "training_log.json").read_text())
    assert set(log["bleu"]) == {"de", "es", "fr"}
    assert "Apache-2.0" in (text_part / "README.md").read_text()


def test_speech_part_loads_and_transcribes_with_transformers_alone(speech_part: Path) -> None:
    processor = AutoProcessor.from_pretrained(speech_part)
    model = WhisperForConditionalGeneration.from_pretrained(speech_part)
    assert model.dtype == torch.float16
    text = " Mae'r tŷ yn fawr; L'œuf est à côté."
    assert processor.tokenizer.decode(processor.tokenizer(text, add_special_tokens=False).input_ids) == text
    inputs = processor(np.zeros(16_000, dtype=np.float32), sampling_rate=16_000, return_tensors="pt")
    ids = model.float().generate(**inputs, language="de", task="transcribe", max_new_tokens=4)
    assert isinstance(processor.batch_decode(ids)[0], str)


def test_masked_decoder_equals_transformers_on_one_clip(speech_part: Path) -> None:
    model = WhisperForConditionalGeneration.from_pretrained(speech_part, dtype=torch.float32).eval()
    recognizer = Recognizer(model).eval()
    generator = torch.Generator().manual_seed(0)
    mel = torch.randn(2, 80, 120, generator=generator)
    mask = torch.ones(2, 120, dtype=torch.long)
    mask[1, 70:] = 0
    ids = torch.randint(0, 500, (2, 7), generator=generator)
    with torch.no_grad():
        hidden, lengths = recognizer.encode(mel, mask)
        logits = recognizer.decode(ids, hidden, lengths)
        for row, length in enumerate(lengths.tolist()):
            states = model.model.decoder(ids[row : row + 1], encoder_hidden_states=hidden[row : row + 1, :length])
            expected = model.proj_out(states.last_hidden_state)[0]
            torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=1e-5)


def test_ctc_text_and_vocabulary() -> None:
    assert ctc_text("¿Quién ve al zorro?") == "quién ve al zorro"
    assert ctc_text("L'œuf est là !") == "l'œuf est là"
    letters = {
        c for language in ("de", "es", "fr", "cy", "en") for t in corpus.held_out(language, "test") for c in t.lower()
    }
    assert {c for c in letters if c.isalpha()} <= set(CTC_VOCABULARY)


def test_training_text_leaves_out_what_is_held_out(text_part: Path) -> None:
    for language in ("de", "cy", "en"):
        assert not held_out_sentences() & set(corpus.sentences(language, 300, seed=1))
    tokenizer = AutoTokenizer.from_pretrained(text_part)
    examples = Examples(tokenizer, text_part / "sentencepiece.bpe.model", 400, seed=1)
    pairs = {text for found in examples.translation.values() for pair in found for text in pair}
    plain = {text for found in examples.plain.values() for text in found}
    assert len(pairs) > 1000
    assert not (pairs | plain) & held_out_sentences()


def test_features_are_kept_for_the_same_utterances_only(tmp_path: Path) -> None:
    cache = tmp_path / "features.npz"
    spoken = [speak([("de", text)], seed=1) for text in ("Ja.", "Das Haus ist alt.")]
    first, other = (corpus.features(one, workers=1, cache=cache) for one in spoken)
    assert first[0].shape != other[0].shape
    np.testing.assert_array_equal(corpus.features(spoken[1], workers=1, cache=cache)[0], other[0])


def test_sources_are_whole_cut_up_or_drawn_out(text_part: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(text_part)
    examples = Examples(tokenizer, text_part / "sentencepiece.bpe.model", 40, seed=1)
    text = "Der Mann sieht den Hund."
    whole = tokenizer(text, add_special_tokens=False).input_ids
    found = [examples.spell(text) for _ in range(200)]
    assert 60 < sum(ids == whole for ids in found) < 160
    cut_up = [ids for ids in found if ids != whole and tokenizer.unk_token_id not in ids]
    assert any(tokenizer.decode(ids) == text for ids in cut_up)
    assert max(map(len, found)) > 1.5 * len(whole)


def test_unknown_part() -> None:
    with pytest.raises(UsageError, match="unknown part 'video'"):
        pretrain(parts=("video",))
