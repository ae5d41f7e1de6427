import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.translate import parse, useful_flops
from benchmarks.translate_checkpoints import NEVER, comsl_config
from benchmarks.translate_systems import NEW_TOKENS, Cell, clips, unsupported
from comsl.inference.clips import prepare_clip
from comsl.inference.decode import DecodingOptions, decode_speech
from comsl.inference.translate import shipped_model
from comsl.model import load_model
from comsl.model.modeling import ComSLForConditionalGeneration


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = ComSLForConditionalGeneration(comsl_config("tiny"))
    model.text_model.final_logits_bias[0, model.config.eos_token_id] = NEVER
    return model.eval()


@pytest.mark.parametrize("beam", [1, 5])
def test_what_is_computed_is_what_is_needed(model, beam):
    """The arithmetic that torch counts while clips are decoded, against what their true lengths ask for."""
    _, processor = load_model(shipped_model())
    prepared = [prepare_clip(waveform, processor) for waveform in clips(4)]
    options = DecodingOptions(beam=beam, batch_size=4, max_new_tokens=NEW_TOKENS)
    # The counter does not know the CPU's fused attention.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        found = decode_speech(model, processor, prepared, "de", "en", options=options)
    assert [len(row.tokens) for row in found] == [NEW_TOKENS] * 4
    needed = useful_flops(Cell("comsl", "tiny", "float32", 4, beam, 4, ""))
    assert counter.get_total_flops() == pytest.approx(needed, rel=0.02)


def test_clips_are_five_and_a_half_seconds_on_average():
    lengths = [len(waveform) / 16_000 for waveform in clips(16)]
    assert sum(lengths) / 16 == pytest.approx(5.5)
    assert (min(lengths) >= 3, max(lengths) <= 8) == (True, True)


def test_reduced_is_a_matter_of_minutes_and_anything_can_be_asked_for():
    reduced = parse(["--reduced", "--beam", "2"])
    assert (reduced.size, reduced.clips, reduced.beam, reduced.minutes) == ("small", 4, [2], 0.0)
    assert unsupported("transformers", "int8") is not None
    assert unsupported("transformers", "float32") is None
