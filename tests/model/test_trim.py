"""Trimming a vocabulary: the same pieces, states, logits and outputs on covered text, and honest figures elsewhere."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from comsl import cli
from comsl.data.errors import DataError
from comsl.errors import UsageError
from comsl.inference.translate import Translator
from comsl.model import MissingLanguage, compose, load_model
from comsl.model.coverage import Texts
from comsl.model.pieces import merge_needs, pieces_of, script, unigram_needs
from comsl.model.trim import Selection, trim
from comsl.model.vocabulary import plain_encoding
from comsl.training.teacher import check_teacher_vocabulary
from tests import tiny

FAMILIES = ("mbart50", "m2m100", "nllb", "m2m100_unlisted")
ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "comsl" / "demo" / "models"
GERMAN, ENGLISH = tiny.SENTENCES[2], tiny.SENTENCES[0]


def write_rows(path: Path, *rows: tuple[str, str | None, str | None, str | None]) -> Path:
    names = ("source_language", "transcript", "target_language", "translation")
    lines = [{"id": str(i), "audio": "a.wav"} | dict(zip(names, row, strict=True)) for i, row in enumerate(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model of each family, a manifest in German and English, and the models trimmed to it."""
    path = tmp_path_factory.mktemp("trim")
    write_rows(path / "train.jsonl", ("de", GERMAN, "en", ENGLISH))
    for family in FAMILIES:
        if family == "m2m100_unlisted":  # its files leave the languages to the class
            tiny.tiny_m2m100(path / family, listed=False)
        else:
            getattr(tiny, f"tiny_{family}")(path / family)
        trim(path / family, path / f"{family}-small", Texts([path / "train.jsonl"]))
    return path


@pytest.fixture(scope="module")
def composites(folder: Path) -> Path:
    tiny.tiny_comsl(folder / "whole")
    trim(folder / "whole", folder / "small", Texts([folder / "train.jsonl"]))
    return folder


def tokens_of(tokenizer: Any, text: str) -> list[str]:
    return tokenizer.convert_ids_to_tokens(plain_encoding(tokenizer, text)["input_ids"])


def texts_of(pieces: list[str], count: int = 300) -> list[str]:
    """Random runs of pieces and of words: some are cut into kept pieces only, others are not."""
    generator = random.Random(0)
    words = " ".join(tiny.SENTENCES).split()
    drawn = [" ".join("".join(generator.choices(pieces, k=5)).replace("▁", " ").split()) for _ in range(count)]
    return [GERMAN, ENGLISH, *drawn, *(" ".join(generator.choices(words, k=4)) for _ in range(count))]


# ------------------------------------------------------------------------------------------------------------- pieces


@pytest.mark.parametrize("tokenizer_of", [*FAMILIES, "shipped"])
def test_texts_of_kept_pieces_are_cut_as_before(folder: Path, tmp_path: Path, tokenizer_of: str) -> None:
    if tokenizer_of == "shipped":  # 1,500 pieces that a corpus was cut into
        path, small = SHIPPED / "text", tmp_path / "small"
        corpus = write_rows(tmp_path / "train.jsonl", ("de", "Das Pferd will im Wald schlafen.", "en", "The horse."))
        trim(path, small, Texts([corpus]))
    else:
        path, small = folder / tokenizer_of, folder / f"{tokenizer_of}-small"
    before, after = AutoTokenizer.from_pretrained(path), AutoTokenizer.from_pretrained(small)
    kept = pieces_of(after).tokens
    assert sorted(kept.values()) == list(range(len(kept)))
    plain = [token for token in kept if token not in after.all_special_tokens and not token.startswith("__")]
    covered = 0
    for text in texts_of(plain):
        expected = tokens_of(before, text)
        if kept.keys() >= set(expected):
            covered += 1
            assert tokens_of(after, text) == expected
        elif before.unk_token not in expected:  # falls apart into smaller pieces, and nothing is lost
            assert after.unk_token not in tokens_of(after, text)
            assert after.decode(plain_encoding(after, text)["input_ids"]) == text
    assert 50 < covered < 550


def test_merges_need_their_steps() -> None:
    ranks = {("b", "c"): 0, ("a", "bc"): 1, ("a", "b"): 2, ("abc", "d"): 3}
    needs = merge_needs(lambda left, right: ranks.get((left, right)))
    assert needs(["abcd"]) == {"a", "b", "c", "d", "bc", "abc", "abcd"}, "not ab, which another order would pass"
    vocabulary = {token: i for i, token in enumerate(["a", "b", "c", "d", "ab", "bc", "abc", "abcd"])}
    whole = Tokenizer(BPE(vocab=vocabulary, merges=list(ranks)))
    kept = {token: vocabulary[token] for token in needs(["abcd"])}
    small = Tokenizer(BPE(vocab=kept, merges=[pair for pair in ranks if {*pair, "".join(pair)} <= kept.keys()]))
    assert small.encode("abcd").tokens == whole.encode("abcd").tokens == ["abcd"]


def test_unigram_needs_what_the_price_of_the_unknown_comes_from() -> None:
    scores = {"<unk>": 0.0, "pq": -12.0, "rb": -12.0, "pqr": -0.1, "r": -5.0, "z": -1.0, "xyz": -30.0}
    needed = unigram_needs(scores)(["pq", "rb", "pqr"])
    assert needed == {"p", "q", "r", "b", "xyz"}

    def cut(*pieces: str) -> list[str]:
        return Tokenizer(Unigram([(piece, scores[piece]) for piece in pieces], unk_id=0)).encode("pqrb").tokens

    # pq, rb costs 24; pqr and an unknown b 0.1 and 10 more than the dearest piece of all.
    assert cut(*scores) == cut("<unk>", "pq", "rb", "pqr", "r", "xyz") == ["pq", "rb"]
    assert cut("<unk>", "pq", "rb", "pqr", "r") == ["pqr", "b"]


def test_scripts() -> None:
    assert [script(character) for character in "aßя漢ら"] == ["LATIN", "LATIN", "CYRILLIC", "CJK", "HIRAGANA"]
    assert [script(character) for character in "1.▁€"] == [None] * 4
    assert script("\u0301") == "COMBINING"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, [2, 1, 4, 3]),
        ({"min_count": 3}, [2, 1, 4]),
        ({"keep": 2}, [2, 1]),
        ({"coverage": 0.5}, [2]),
        ({"coverage": 0.51}, [2, 1]),
        ({"coverage": 1.0}, [2, 1, 4, 3]),
    ],
)
def test_rules(rule: dict[str, Any], expected: list[int]) -> None:
    assert Selection(**rule).choose(np.array([0, 6, 10, 1, 3])) == expected


@pytest.mark.parametrize("rule", [{"min_count": 2, "keep": 3}, {"keep": 0}, {"coverage": 1.5}])
def test_rules_that_make_no_sense(rule: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(rule))):
        Selection(**rule)


# -------------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize("family", FAMILIES)
def test_text_models_compute_the_same(folder: Path, family: str) -> None:
    before, after = folder / family, folder / f"{family}-small"
    whole, small = (AutoModelForSeq2SeqLM.from_pretrained(path).eval() for path in (before, after))
    old, new = (AutoTokenizer.from_pretrained(path) for path in (before, after))
    tokens = sorted(pieces_of(new).tokens, key=pieces_of(new).tokens.__getitem__)
    rows = [pieces_of(old).tokens[token] for token in tokens]
    assert small.config.vocab_size == len(tokens) < whole.config.vocab_size
    assert torch.equal(small.get_output_embeddings().weight, whole.get_output_embeddings().weight[rows])
    inputs = [
        torch.tensor([plain_encoding(tokenizer, text)["input_ids"] for text in (GERMAN,)]) for tokenizer in (old, new)
    ]
    targets = [torch.tensor([plain_encoding(tokenizer, ENGLISH)["input_ids"]]) for tokenizer in (old, new)]
    with torch.no_grad():
        first, second = (
            model(input_ids=read, decoder_input_ids=written, output_hidden_states=True)
            for model, read, written in zip((whole, small), inputs, targets, strict=True)
        )
    assert torch.equal(first.encoder_last_hidden_state, second.encoder_last_hidden_state)
    assert torch.equal(first.decoder_hidden_states[-1], second.decoder_hidden_states[-1])
    # A matrix product may add up in another order where it has fewer columns.
    torch.testing.assert_close(first.logits[..., rows], second.logits, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trimmed_text_model_can_be_composed_and_trimmed_again(folder: Path, tmp_path: Path, family: str) -> None:
    new = "cy" if family == "mbart50" else "mdw"
    compose(tiny.tiny_whisper(tmp_path / "whisper"), folder / f"{family}-small", {new: "en"}, tmp_path / "whole")
    report = trim(tmp_path / "whole", tmp_path / "small", Texts([folder / "train.jsonl"]), languages=["German", "en"])
    model, processor = load_model(tmp_path / "small")
    whole, its = load_model(tmp_path / "whole")
    assert list(processor.languages) == list(model.config.languages or {}) == report.languages == ["de", "en"]
    assert processor.tokenizer.mask_token == "<mask>"
    assert processor.mask_token_id == model.config.mask_token_id
    for text in (GERMAN, ENGLISH):
        assert torch.equal(
            model.embed_text(torch.tensor(processor.source_ids(text, "de"))),
            whole.embed_text(torch.tensor(its.source_ids(text, "de"))),
        )


def test_composites_hear_and_say_the_same(composites: Path) -> None:
    (whole, old), (small, new) = load_model(composites / "whole"), load_model(composites / "small")
    inputs = old([tiny.waveform(1.0), tiny.waveform(1.7, seed=1)], source_language="de")
    same = new([tiny.waveform(1.0), tiny.waveform(1.7, seed=1)], source_language="de")
    heard = [model.encode(**batch).last_hidden_state for model, batch in ((whole, inputs), (small, same))]
    assert torch.equal(*heard)
    named = f"{GERMAN} </s> de_DE <mask>"  # special tokens in a text are spelled, with characters that stay for that
    assert old.tokenizer.convert_ids_to_tokens(old.token_ids(named)) == new.tokenizer.convert_ids_to_tokens(
        new.token_ids(named)
    )
    # What a random model says is at random among all tokens: keep the whole one to those that the small one has.
    kept = [pieces_of(old.tokenizer).tokens[token] for token in pieces_of(new.tokenizer).tokens]
    lacking = sorted(set(range(whole.config.vocab_size)) - set(kept))
    whole.text_model.final_logits_bias[0, lacking] = -1e9
    for beam in (1, 5):
        settings = {"target_language": "en", "num_beams": beam, "max_new_tokens": 12}
        first, second = whole.generate(**inputs, **settings), small.generate(**same, **settings)
        assert [old.tokenizer.convert_ids_to_tokens(row) for row in first] == [
            new.tokenizer.convert_ids_to_tokens(row) for row in second
        ]


@pytest.mark.parametrize("beam", [1, 5])
def test_the_shipped_model_translates_the_same(tmp_path: Path, beam: int) -> None:
    corpus = write_rows(
        tmp_path / "train.jsonl",
        ("de", "Das Pferd will im Wald schlafen.", "en", "The horse wants to sleep in the forest."),
    )
    report = trim(SHIPPED / "composite", tmp_path / "small", Texts([corpus]))
    assert report.vocabulary[1] < report.vocabulary[0] / 4
    found = [
        next(
            iter(
                Translator.from_pretrained(path).translate(
                    [str(ROOT / "docs" / "clip.mp3")], "de", "en", "both", beam=beam
                )
            )
        )
        for path in (tmp_path / "small", SHIPPED / "composite")
    ]
    assert [(result.transcript, result.translation) for result in found] == [
        ("Das Pferd will im Wald schlafen.", "The horse wants to sleep in the forest.")
    ] * 2
    with pytest.raises(MissingLanguage, match="it has de, en"):
        Translator.from_pretrained(tmp_path / "small").translate([str(ROOT / "docs" / "clip.mp3")], "fr")


@pytest.mark.parametrize(
    ("taught", "expected"), [(["de", "en", "fr"], ["de", "en"]), (["fr"], []), ([], []), (None, None)]
)
def test_languages_that_go_are_no_target_any_more(
    composites: Path, tmp_path: Path, taught: list[str] | None, expected: list[str] | None
) -> None:
    model, processor = load_model(composites / "whole")
    model.config.translation_targets = taught
    model.save_pretrained(tmp_path / "taught")
    processor.save_pretrained(tmp_path / "taught")
    trim(tmp_path / "taught", tmp_path / "small", Texts([composites / "train.jsonl"]))
    assert load_model(tmp_path / "small")[0].config.translation_targets == expected


def test_a_teacher_is_trimmed_alike(composites: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    model, processor = load_model(composites / "whole")
    with torch.no_grad():
        model.output_weight.add_(0.5)  # as fine-tuning would
    model.save_pretrained(teacher)
    processor.save_pretrained(teacher)
    trim(teacher, tmp_path / "small", Texts(), like=composites / "small")
    (trained, its), (small, ours) = load_model(tmp_path / "small"), load_model(composites / "small")
    check_teacher_vocabulary("small", its.tokenizer, ours.tokenizer)
    assert its.languages == ours.languages
    assert torch.equal(trained.output_weight, small.output_weight + 0.5)
    with pytest.raises(UsageError, match="lacks 1 tokens of .*'cy_XX'"):
        trim(composites / "mbart50", tmp_path / "text", Texts(), like=composites / "small")
    with pytest.raises(UsageError, match="no trim.json"):
        trim(teacher, tmp_path / "other", Texts(), like=composites / "whole")
    with pytest.raises(UsageError, match="ask for no others"):
        trim(teacher, tmp_path / "other", Texts(), like=composites / "small", languages=["de"])


def test_a_model_that_cuts_otherwise_is_not_trimmed_alike(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder / "mbart50-small", tmp_path / "other"))
    content = json.loads((other / "tokenizer.json").read_text())
    content["model"]["vocab"][10][1] -= 1.0
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="other scores"):
        trim(folder / "mbart50", tmp_path / "small", Texts(), like=other)


# -------------------------------------------------------------------------------------------------- what is reported


def test_coverage_is_counted(folder: Path, tmp_path: Path) -> None:
    held_out = write_rows(
        tmp_path / "test.jsonl", ("de", GERMAN, "en", tiny.SENTENCES[1]), ("es", "el hombre", "en", f"{ENGLISH} Ω")
    )
    report = trim(
        folder / "mbart50",
        tmp_path / "small",
        Texts([folder / "train.jsonl"]),
        Texts([held_out]),
        languages=["de", "en"],
    )
    before, after = AutoTokenizer.from_pretrained(folder / "mbart50"), AutoTokenizer.from_pretrained(tmp_path / "small")
    assert report.coverage["corpus"]["de"].cut_differently == 0
    german, english = report.coverage["check"]["de"], report.coverage["check"]["en"]
    assert german.covered == german.tokens == german.tokens_after == len(tokens_of(before, GERMAN))
    assert (english.texts, english.cut_differently, english.unknown, english.unknown_after) == (2, 1, 1, 1)
    texts = (tiny.SENTENCES[1], f"{ENGLISH} Ω")
    assert english.tokens == sum(len(tokens_of(before, text)) for text in texts)
    assert english.tokens_after == sum(len(tokens_of(after, text)) for text in texts) > english.tokens
    assert english.covered == sum(token in after.get_vocab() for text in texts for token in tokens_of(before, text))
    assert report.left_out == {"corpus": {}, "check": {"es": 1}}
    assert sum(report.kept.values()) == report.vocabulary[1]
    assert report.parameters[0] - report.parameters[1] == tiny.TEXT_WIDTH * (
        report.vocabulary[0] - report.vocabulary[1]
    )
    written = json.loads((tmp_path / "small" / "trim.json").read_text())
    assert written["coverage"]["check"]["en"]["cut_differently"] == 1
    assert written["languages"] == ["de", "en"]


def test_characters_of_scripts_that_were_not_seen_go(tmp_path: Path) -> None:
    tiny.tiny_mbart50(tmp_path / "text", sentences=(*tiny.SENTENCES, "река и дом", "1 + 2 = 3 €"))
    corpus = write_rows(tmp_path / "train.jsonl", ("de", "Haus", "en", "house"))
    trim(tmp_path / "text", tmp_path / "small", Texts([corpus]))
    kept = AutoTokenizer.from_pretrained(tmp_path / "small").get_vocab()
    assert {"ß", "é", "Ä", "+", "€", "3"} <= kept.keys()
    assert not {"р", "и", "к"} & kept.keys()


def test_plain_text_counts_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text(f"{GERMAN}\n\n{ENGLISH}\n", encoding="utf-8")
    report = trim(folder / "nllb", tmp_path / "small", Texts(files=[tmp_path / "lines.txt"]))
    same = json.loads((folder / "nllb-small" / "trim.json").read_text())
    assert report.kept == same["kept"]
    assert report.coverage["corpus"]["text files"].texts == 2
    assert len(report.languages) > 100


def test_the_command(composites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["trim", "--model", str(composites / "whole"), "--manifest", str(composites / "train.jsonl")]
    assert cli.main([*words, "--keep", "5", "--out", str(tmp_path / "small")]) == 0
    printed = capsys.readouterr().out
    assert "text vocabulary" in printed
    assert "languages in use: de en" in printed
    assert "5 pieces of the corpus" in printed
    assert cli.main([*words, "--out", str(tmp_path / "small")]) == 2
    assert "exists already" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- errors


def test_errors_name_the_thing(folder: Path, tmp_path: Path) -> None:
    corpus, model, out = Texts([folder / "train.jsonl"]), folder / "mbart50", tmp_path / "out"
    untold = write_rows(tmp_path / "untold.jsonl", ("de", None, "en", None))
    mboshi = write_rows(tmp_path / "mboshi.jsonl", ("mdw", "wa", "fr", "oui"))
    with pytest.raises(MissingLanguage, match="no token for the language 'cy'"):
        trim(model, out, corpus, languages=["cy", "en"])
    with pytest.raises(MissingLanguage, match=r"mboshi.jsonl: there are texts in 'mdw'.*leave others out"):
        trim(model, out, Texts([mboshi]))
    with pytest.raises(UsageError, match=r"train.jsonl: no text in fr"):
        trim(model, out, corpus, languages=["de", "fr"])
    with pytest.raises(DataError, match=r"untold.jsonl: no transcript, translation or line"):
        trim(model, out, Texts([untold]))
    with pytest.raises(DataError, match=r"nothing.txt: cannot be read"):
        trim(model, out, Texts(files=[tmp_path / "nothing.txt"]))
    with pytest.raises(UsageError, match="nothing says what the model is for"):
        trim(model, out, Texts())
    assert not out.exists()


def test_settings_by_token_are_not_lost_silently(folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(folder / "mbart50", tmp_path / "model"))
    settings = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(settings | {"bad_words_ids": [[9]]}))
    with pytest.raises(UsageError, match="bad_words_ids"):
        trim(model, tmp_path / "small", Texts([folder / "train.jsonl"]))


def test_the_language_to_start_with_follows(folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(folder / "mbart50", tmp_path / "model"))
    before = AutoTokenizer.from_pretrained(model)
    settings = json.loads((model / "generation_config.json").read_text())
    settings["forced_bos_token_id"] = before.convert_tokens_to_ids("fr_XX")
    (model / "generation_config.json").write_text(json.dumps(settings))
    trim(model, tmp_path / "small", Texts([folder / "train.jsonl"]))
    small, after = (
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "small"),
        AutoTokenizer.from_pretrained(tmp_path / "small"),
    )
    assert (
        small.generation_config.forced_bos_token_id
        == after.convert_tokens_to_ids("fr_XX")
        == after.lang_code_to_id["fr_XX"]
    )
    after.src_lang = "de_DE"
    assert after.convert_ids_to_tokens(after(ENGLISH)["input_ids"])[0] == "de_DE"
