"""The joint module: independent of padding, only what is read is computed, and the published numbers."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from transformers import MBartConfig, WhisperConfig

from benchmarks import parity
from comsl.errors import ComSLError
from comsl.model import products
from comsl.model.configuration import ComSLConfig
from comsl.model.modeling import ComSLForConditionalGeneration
from comsl.objectives import OBJECTIVES, JointModel, ObjectiveError, ObjectiveSet, frozen, vocabulary
from comsl.objectives.views import compute_views

REFERENCE = Path(__file__).parent / "parity"
ALL = {
    "asr": True,
    "st": True,
    "mt": True,
    "ddm": True,
    "mtp": True,
    "stm": True,
    "erm": {"layer": 2},
    "ctc": True,
    "ot": {"position": 0.5},
}
PAD, EOS, MASK, VOCABULARY = 1, 2, 40, 41


def tiny_model(seed=0, dropout=0.0, ctc_tokens=None):
    torch.manual_seed(seed)
    speech = WhisperConfig(
        num_mel_bins=8, d_model=12, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=20,
        max_source_positions=60, dropout=dropout,
    )  # fmt: skip
    text = MBartConfig(
        vocab_size=VOCABULARY, d_model=16, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=24, decoder_ffn_dim=24,
        encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=80, scale_embedding=True,
        dropout=dropout, pad_token_id=PAD, eos_token_id=EOS, init_std=0.2,
    )  # fmt: skip
    config = ComSLConfig(
        speech_config=speech, text_config=text, languages={"de": 5, "en": 6}, mask_token_id=MASK,
        ctc_vocabulary=list("_abcd"), ctc_tokens=ctc_tokens,
        adapter="ctc" if ctc_tokens else "convolution",
    )  # fmt: skip
    model = ComSLForConditionalGeneration(config).double().eval()
    if ctc_tokens:
        torch.nn.init.ones_(model.adapter.gate)  # it starts closed
    return model


def utterance(seed, frames, source, target):
    generator = torch.Generator().manual_seed(seed)

    def tokens(n):
        return torch.randint(7, 39, (n,), generator=generator)

    def text(language, n):
        ids = tokens(n)
        decoder = torch.cat([torch.tensor([EOS, language]), ids])
        labels = torch.cat([torch.tensor([-100]), ids, torch.tensor([EOS])])
        return torch.cat([torch.tensor([language]), ids, torch.tensor([EOS])]), decoder, labels

    transcript, transcript_decoder, transcript_labels = text(5, source)
    _, translation_decoder, translation_labels = text(6, target)
    masked = torch.zeros(len(transcript), dtype=torch.bool)
    masked[2::3] = True
    masked[-1] = False
    return {
        "input_features": torch.randn(8, frames, generator=generator, dtype=torch.float64),
        "attention_mask": torch.ones(frames, dtype=torch.long),
        "source_language_ids": torch.tensor(5),
        "transcript_ids": transcript,
        "transcript_mask": torch.ones_like(transcript),
        "masked_transcript_ids": transcript.masked_fill(masked, MASK),
        "transcript_decoder_input_ids": transcript_decoder,
        "transcript_labels": transcript_labels,
        "mtp_labels": transcript_labels.masked_fill(~masked, -100),
        "translation_decoder_input_ids": translation_decoder,
        "translation_labels": translation_labels,
        "ctc_labels": torch.randint(1, 5, (source,), generator=generator),
        "ctc_unknown": torch.tensor(seed),
        "transcript_unknown": torch.tensor(10 * seed),
        "translation_unknown": torch.tensor(100 * seed),
    }


def collate(utterances, extra=0):
    """Right padding to the longest, and ``extra`` more."""

    def pad(key):
        values = [u[key] for u in utterances]
        if values[0].ndim == 0:
            return torch.stack(values)
        fill = -100 if key.endswith("labels") else PAD if key.endswith("ids") else 0
        size = max(v.shape[-1] for v in values) + extra
        return torch.stack([torch.nn.functional.pad(v, (0, size - v.shape[-1]), value=fill) for v in values])

    return {key: pad(key) for key in utterances[0]}


UTTERANCES = [utterance(1, 37, 5, 9), utterance(2, 80, 11, 4), utterance(3, 61, 2, 6)]


PIECES = [7, 8, 9, 10]


def joint_model(settings=ALL, reduction="mean", ctc_tokens=None):
    model, teacher = tiny_model(ctc_tokens=ctc_tokens), tiny_model(seed=1).text_model
    return JointModel(model, ObjectiveSet(settings), teacher, reduction).eval()


@pytest.mark.parametrize("ctc_tokens", [None, PIECES])
def test_terms_are_the_same_alone_in_a_batch_and_with_other_padding(ctc_tokens):
    joint = joint_model(ctc_tokens=ctc_tokens)
    with torch.no_grad():
        alone = [joint(collate([u])) for u in UTTERANCES]
        together = joint(collate(UTTERANCES))
        padded = joint(collate(UTTERANCES, extra=17))
    assert set(together.terms) == {
        "asr", "st", "mt", "mt_teacher", "ddm_st", "ddm_stm", "mtp", "stm_asr", "stm_st", "erm", "ctc", "ot",
        "ctc_unaligned",
        "ctc_unknown", "transcript_unknown", "translation_unknown",
    }  # fmt: skip
    for name, (value, count) in together.terms.items():
        torch.testing.assert_close(value, sum(a.terms[name][0] for a in alone), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(value, padded.terms[name][0], rtol=1e-9, atol=1e-9)
        assert count == sum(a.terms[name][1] for a in alone)


def test_erm_is_a_mean_over_what_was_heard():
    """However few pieces an utterance comes to, each counts what its frames would."""
    joint = joint_model({"erm": {"layer": 2}}, ctc_tokens=PIECES)
    batch = collate(UTTERANCES[:1])
    with torch.no_grad():
        views = compute_views(joint.model, batch, joint.objectives.reads)
        value, count = joint(batch).terms["erm"]
    alone, mixed = (F.normalize(states, dim=-1) for states in views.layers[2])
    assert len(alone) < count
    torch.testing.assert_close(value / count, (alone - mixed).norm(dim=-1).mean())


def test_loss_divided_by_global_counts_adds_up_over_parts_of_the_batch():
    joint = joint_model()
    whole = collate(UTTERANCES)
    parts = [collate(UTTERANCES[:1]), collate(UTTERANCES[1:])]
    counts = joint.counts(whole)
    assert counts == {key: sum(joint.counts(part)[key] for part in parts) for key in counts}
    total = sum(joint(part, counts).loss for part in parts)
    torch.testing.assert_close(total, joint(whole).loss, rtol=1e-9, atol=0)


@pytest.mark.parametrize("off", ALL)
def test_each_objective_can_be_switched_off_alone(off):
    output = joint_model({**ALL, off: None})(collate(UTTERANCES))
    output.loss.backward()
    assert not any(name.split("_")[0] == off for name in output.terms)
    everything = joint_model()(collate(UTTERANCES)).terms
    for name, (value, _) in output.terms.items():
        torch.testing.assert_close(value, everything[name][0], rtol=1e-9, atol=1e-9)


def test_what_nobody_reads_is_not_computed_and_not_trained():
    joint = joint_model({"mt": {"teacher_share": 0}})

    def forbidden(*args, **kwargs):
        raise AssertionError("the speech encoder ran for a text objective")

    joint.model.speech_encoder.forward = forbidden
    text = {k: v for k, v in collate(UTTERANCES).items() if not k.startswith(("input_", "attention", "ctc"))}
    joint(text).loss.backward()
    trained = {name for name, p in joint.model.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith("text_model.") for name in trained)
    assert all(p.grad is not None for p in joint.parameters() if p.requires_grad)


@pytest.mark.parametrize("ctc_tokens", [None, PIECES])
@pytest.mark.parametrize(
    "settings", [ALL, {"asr": True}, {"st": True}, {"ctc": True}, {"asr": True, "erm": {"layer": 1}}]
)
def test_every_trained_parameter_gets_a_gradient(settings, ctc_tokens):
    joint = joint_model(settings, ctc_tokens=ctc_tokens)
    joint(collate(UTTERANCES)).loss.backward()
    # Positions beyond the longest row exist but are read by nobody; everything else must be reached.
    trained = {name: p for name, p in joint.named_parameters() if p.requires_grad}
    # Adding a constant to all keys changes no attention weight, so their bias has no gradient but rounding.
    unreached = [
        name
        for name, p in trained.items()
        if p.grad is None or (p.grad.abs().max() < 1e-12 and not name.endswith("k_proj.bias"))
    ]
    assert unreached == []


def counted_work(joint, batch):
    """Positions that went through the layers of each part, how often, and rows of logits."""
    model, work = joint.model, Counter()
    parts = {
        "speech": model.speech_encoder.encoder.layers[0],
        "encoder": model.text_encoder.layers[0],
        "decoder": model.text_decoder.layers[0],
        "memory": model.text_decoder.layers[0].encoder_attn.k_proj,
    }

    def count(name):
        def hook(module, arguments):
            work[f"{name} passes"] += 1
            work[f"{name} positions"] += arguments[0].shape[:-1].numel()

        return hook

    log_probs = frozen.log_probabilities

    def counted_log_probs(rows, weight, bias):
        work["vocabulary passes"] += weight is not joint.teacher.get_output_embeddings().weight
        work["vocabulary rows"] += len(rows)
        return log_probs(rows, weight, bias)

    hooks = [module.register_forward_pre_hook(count(name)) for name, module in parts.items()]
    with pytest.MonkeyPatch.context() as patch:
        for module in (vocabulary, frozen):
            patch.setattr(module, "log_probabilities", counted_log_probs)
        joint(batch)
    for hook in hooks:
        hook.remove()
    return work


def test_everything_is_computed_once_and_nothing_is_padding():
    """What a step costs, in numbers that no clock can blur; the batch is padded by 17 places more than it needs."""
    frames = [19, 40, 31]  # of 37, 80 and 61 mel frames at two a frame
    speech = [6, 11, 9]  # the language and a quarter of them
    transcripts = [7, 13, 4]  # language, tokens, end
    translations = [11, 6, 8]  # end, language, tokens
    masked_until = [6, 12, 3]  # the last masked token: decoding goes no further
    scored = sum(n - 1 for n in transcripts) * 2 + sum(n - 1 for n in translations) * 3 + (2 + 4 + 1)
    assert counted_work(joint_model(), collate(UTTERANCES, extra=17)) == {
        "speech passes": 1,
        "speech positions": sum(frames),
        "encoder passes": 1,
        "encoder positions": 2 * (sum(speech) + sum(transcripts)),  # speech, text, and both together
        "decoder passes": 1,
        "decoder positions": 2 * sum(transcripts) + 3 * sum(translations) + sum(masked_until),
        "memory passes": 1,
        "memory positions": 2 * (sum(speech) + sum(transcripts)),  # however many targets read it
        "vocabulary passes": 1,
        "vocabulary rows": scored + sum(n - 1 for n in translations),  # the frozen teacher's
    }


def test_lookups_in_a_tied_embedding_make_no_gradient_of_its_size():
    """Each would be a gigabyte at 250,000 tokens; the output layer's is the only one, and has their rows."""
    ours, plain = joint_model(), joint_model()
    plain.model.sparse_lookups = False
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiled:
        ours(collate(UTTERANCES)).loss.backward()
    plain(collate(UTTERANCES)).loss.backward()
    weight = ours.model.output_weight
    touching = {event.name for event in profiled.events() if list(weight.shape) in event.input_shapes[:1]}
    assert "aten::add_" in touching
    assert not touching & {"aten::copy_", "aten::clone", "aten::embedding_dense_backward"}
    torch.testing.assert_close(weight.grad, plain.model.output_weight.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("settings", [{"asr": {"weight": 0}, "erm": {"layer": 1}}, {"asr": {"weight": 0}, "ctc": True}])
def test_no_gradient_is_sparse_where_only_objectives_without_weight_read_the_vocabulary(settings):
    joint = joint_model(settings)
    joint(collate(UTTERANCES)).loss.backward()
    assert not any(p.grad is not None and p.grad.is_sparse for p in joint.parameters())


def test_the_teacher_stays_in_evaluation_mode_and_is_not_trained():
    joint = joint_model().train()
    assert joint.model.training
    assert not joint.teacher.training
    joint(collate(UTTERANCES)).loss.backward()
    assert all(p.grad is None and not p.requires_grad for p in joint.teacher.parameters())


def test_distribution_matching_sends_no_gradient_into_its_teacher_side():
    """Only ST's share of the matching reaches the model: with the student's side cut off nothing is left."""
    joint = joint_model({"st": True, "ddm": {"share": 1.0}})
    joint(collate(UTTERANCES)).loss.backward()
    text_only = joint.model.text_model.model.encoder.embed_tokens.weight.grad[7:39]
    used_by_transcripts = torch.cat([u["transcript_ids"] for u in UTTERANCES])
    by_translations = torch.cat([u["translation_decoder_input_ids"] for u in UTTERANCES])
    only_transcripts = sorted(set(used_by_transcripts.tolist()) - set(by_translations.tolist()) - {PAD, EOS, 5, 6})
    # The output embedding is tied, so such a row has a gradient from the softmax alone: compare with a run in which
    # the transcript's embedding is detached.
    assert only_transcripts
    detached = joint_model({"st": True, "ddm": {"share": 1.0}})
    embed_text = detached.model.embed_text
    detached.model.embed_text = lambda ids: embed_text(ids).detach()
    detached(collate(UTTERANCES)).loss.backward()
    reference = detached.model.text_model.model.encoder.embed_tokens.weight.grad[7:39]
    torch.testing.assert_close(text_only, reference, rtol=1e-9, atol=1e-12)


def test_a_batch_without_masked_tokens_is_fine():
    batch = collate(UTTERANCES)
    batch["mtp_labels"] = torch.full_like(batch["mtp_labels"], -100)
    output = joint_model()(batch)
    assert output.terms["mtp"] == (0, 0)
    assert output.loss.isfinite()


def test_unalignable_ctc_labels_are_counted_not_hidden():
    short = utterance(4, 12, 11, 4)  # 6 frames for 11 labels
    terms = joint_model({"ctc": True})(collate([short, UTTERANCES[1]])).terms
    assert terms["ctc_unaligned"][0] == 11
    torch.testing.assert_close(terms["ctc"][0], joint_model({"ctc": True})(collate([UTTERANCES[1]])).terms["ctc"][0])


def test_unknown_tokens_are_logged_and_change_nothing():
    batch = collate(UTTERANCES)
    output = joint_model({"st": True})(batch)
    assert output.terms["translation_unknown"] == (600, (batch["translation_labels"] != -100).sum())
    del batch["translation_unknown"]
    again = joint_model({"st": True})(batch)
    assert torch.equal(output.loss, again.loss)
    assert "translation_unknown" not in again.terms


def test_a_row_without_labels_does_not_teach_silence():
    batch = collate([UTTERANCES[0], {**UTTERANCES[1], "ctc_labels": torch.zeros(0, dtype=torch.long)}])
    terms = joint_model({"ctc": True})(batch).terms
    torch.testing.assert_close(terms["ctc"][0], joint_model({"ctc": True})(collate([UTTERANCES[0]])).terms["ctc"][0])


def test_transcript_and_speech_too_long_together_are_named():
    joint = joint_model({"mtp": True})
    joint.model.config.text_config.max_position_embeddings = 20
    with pytest.raises(ComSLError, match="take 24 positions together, but the text encoder has 20"):
        joint(collate(UTTERANCES))


def test_wrong_combinations_are_named():
    with pytest.raises(ObjectiveError, match=r"give teacher, or set mt\.teacher_share: 0"):
        JointModel(tiny_model(), ObjectiveSet({"mt": True}))
    with pytest.raises(ObjectiveError, match="the text encoder has 2 layers"):
        JointModel(tiny_model(), ObjectiveSet({"asr": True, "erm": True}))
    with pytest.raises(ObjectiveError, match="expected 'mean' or 'paper'"):
        JointModel(tiny_model(), ObjectiveSet({"asr": True}), reduction="sum")


def test_every_objective_is_a_documented_dataclass():
    for cls in OBJECTIVES.values():
        assert dataclasses.is_dataclass(cls)
        assert not cls.__doc__.startswith(f"{cls.__name__}(")  # what @dataclass writes where nobody did


def test_losses_and_gradients_are_those_of_the_published_code():
    result = parity.compute(REFERENCE)
    expected = json.loads((REFERENCE / "expected.json").read_text())
    assert result["grad_norms"].keys() == expected["grad_norms"].keys()
    assert result["losses"].keys() == expected["losses"].keys()
    assert parity.differences(result, expected) == []


def test_float32_gives_what_float64_gives(monkeypatch):
    """Through the products of either library (see comsl.model.products)."""
    batch = collate(UTTERANCES)
    reference = joint_model()
    reference(batch).loss.backward()
    for onednn in {False, torch.backends.mkldnn.is_available()}:
        monkeypatch.setattr(products, "onednn_is_faster", lambda onednn=onednn: onednn)
        monkeypatch.setattr(products, "MIN_PRODUCTS", 1)
        joint = JointModel(tiny_model().float(), ObjectiveSet(ALL), tiny_model(seed=1).text_model.float()).eval()
        output = joint({name: value.float() if value.is_floating_point() else value for name, value in batch.items()})
        output.loss.backward()
        for name, (value, _) in reference(batch).terms.items():
            torch.testing.assert_close(output.terms[name][0].double(), value.double(), rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(joint.parameters(), reference.parameters(), strict=True):
            if theirs.grad is not None:
                torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-5)


def test_a_wrong_loss_would_be_noticed():
    expected = json.loads((REFERENCE / "expected.json").read_text())
    wrong = {section: dict(expected[section]) for section in ("losses", "grad_norms")}
    wrong["losses"]["asr_ce_sum"] *= 1 + 2e-5
    assert len(parity.differences(wrong, expected)) == 1


def train_mode(settings, seed):
    joint = JointModel(tiny_model(dropout=0.2), ObjectiveSet(settings), tiny_model(seed=1).text_model).train()
    torch.manual_seed(seed)
    return joint


def test_rdrop_without_dropout_changes_nothing():
    plain, twice = joint_model(), joint_model({**ALL, "rdrop": True})
    batch = collate(UTTERANCES)
    once, both = plain(batch), twice(batch)
    torch.testing.assert_close(both.loss, once.loss, rtol=1e-12, atol=0)
    assert {name for name in both.terms if name not in once.terms} == {"rdrop_asr", "rdrop_st", "rdrop_mt"}
    for name, (total, count) in both.terms.items():
        if name in once.terms:
            torch.testing.assert_close(total / count, once.terms[name][0] / once.terms[name][1], rtol=1e-9, atol=1e-12)
        else:
            assert abs(float(total)) < 1e-20
    gradients = [
        torch.autograd.grad(output.loss, [p for p in joint.model.parameters() if p.requires_grad])
        for joint, output in ((plain, once), (twice, both))
    ]
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-12)


def test_rdrop_sums_over_two_passes_in_either_reduction():
    settings = {"asr": True, "st": True, "rdrop": {"weight": 3.0}}
    batch = collate(UTTERANCES)
    output = train_mode(settings, seed=5)(batch)
    (asr, tokens), (divergence, _) = output.terms["asr"], output.terms["rdrop_asr"]
    assert int(tokens) == 2 * int((batch["transcript_labels"] != -100).sum())
    assert float(divergence) > 0.01
    (st, st_tokens), (st_divergence, _) = output.terms["st"], output.terms["rdrop_st"]
    expected = 0.35 * (asr + 3 * divergence) / tokens + 0.35 * (st + 3 * st_divergence) / st_tokens
    torch.testing.assert_close(output.loss.detach(), expected)
    paper = JointModel(tiny_model(), ObjectiveSet(settings), reduction="paper").eval()
    once = JointModel(tiny_model(), ObjectiveSet({"asr": True, "st": True}), reduction="paper").eval()
    torch.testing.assert_close(paper(batch).loss, once(batch).loss)


def test_rdrop_needs_something_to_compare():
    with pytest.raises(ObjectiveError, match=r"objectives\.rdrop goes with asr, st, mt: switch one of them on"):
        ObjectiveSet({"mtp": True, "rdrop": True})
    with pytest.raises(ObjectiveError, match="no objective is switched on"):
        ObjectiveSet({"rdrop": True})
