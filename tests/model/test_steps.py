import pytest
import torch

from comsl.model import compose
from comsl.model.modeling import ComSLEncoderOutput
from comsl.model.steps import DecoderSteps
from tests.tiny import tiny_comsl, tiny_m2m100, tiny_whisper

BEAMS, TOKENS = 3, 40


@pytest.fixture(scope="module", params=["mbart", "m2m100"])
def model(request, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    if request.param == "mbart":
        return tiny_comsl(path / "model")[0]
    return compose(tiny_whisper(path / "speech"), tiny_m2m100(path / "text"), {"cy": "en"})[0].eval()


@torch.no_grad()
@pytest.mark.parametrize("kept", [[0, 1, 2], [0, 2]])
def test_hypotheses_that_branch_are_what_the_decoder_makes_of_each_alone(model, kept):
    """Random parents and tokens; in the middle an utterance may leave."""
    random = torch.Generator().manual_seed(0)
    memory = torch.randn(3, 7, model.config.hidden_size, generator=random)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])
    prompt = torch.tensor([[2, 5], [2, 6], [2, 5]])
    steps = DecoderSteps(model, memory, mask)
    hidden = steps.prefill(prompt)
    histories = [[row.tolist()] for row in prompt]
    rows = [0, 1, 2]
    for step in range(TOKENS):
        if step == TOKENS // 2 and len(kept) < len(rows):
            rows, histories = kept, [histories[row] for row in kept]
            steps.keep(torch.tensor(kept))
        tokens = torch.randint(4, 30, (len(rows), BEAMS), generator=random)
        parents = torch.randint(len(histories[0]), (len(rows), BEAMS), generator=random)
        histories = [
            [[*old[parent], token] for parent, token in zip(*each, strict=True)]
            for old, *each in zip(histories, parents.tolist(), tokens.tolist(), strict=True)
        ]
        hidden = steps.step(tokens, parents)
    whole = ComSLEncoderOutput(
        last_hidden_state=memory[rows].repeat_interleave(BEAMS, 0), memory_mask=mask[rows].repeat_interleave(BEAMS, 0)
    )
    ids = torch.tensor(histories).flatten(0, 1)
    wanted = model(encoder_outputs=whole, decoder_input_ids=ids, use_cache=False).logits[:, -1]
    assert torch.allclose(steps.logits(hidden).flatten(0, 1), wanted, atol=1e-4)


@torch.no_grad()
def test_what_nothing_descends_from_gives_up_its_slot(model):
    """All hypotheses go on from the first one: a slot a token is alive, and BEAMS a token would be without that."""
    steps = DecoderSteps(model, torch.randn(2, 7, model.config.hidden_size), torch.ones(2, 7))
    steps.prefill(torch.tensor([[2, 5], [2, 6]]))
    for _ in range(100):
        steps.step(torch.full((2, BEAMS), 7), torch.zeros(2, BEAMS, dtype=torch.long))
    assert steps.length == 102
    assert steps.cache[0].shape[3] <= 2 * (102 + BEAMS)
