"""Video language models read prompt and video once for all texts, whatever their positions are made of."""

from __future__ import annotations

import pytest
import torch

from ct_vlm.decoders import VideoLMDecoder, train_bpe_tokenizer
from ct_vlm.features import VisualContext
from ct_vlm.video_lm.tiny import tiny_config

PROMPTS = ["Findings?", "List the abnormalities by region, then write the full report."]
BRANCHES = [["A nodule is seen.", "A mass."], ["No effusion.", "The lungs are clear. No effusion is seen."]]


@pytest.fixture(scope="module", params=["qwen2_5_vl", "internvl", "qwen3_vl"])
def decoder(request):
    torch.manual_seed(0)
    tokenizer = train_bpe_tokenizer(["A nodule is seen. The lungs are clear. No effusion.", *PROMPTS], 300)
    decoder = VideoLMDecoder(tiny_config(request.param), tokenizer)
    for name, parameter in decoder.lm.named_parameters():
        if parameter.ndim == 2 and "embed" not in name:
            # large enough for places and what is seen to make a difference
            torch.nn.init.normal_(parameter, std=0.2)
    return decoder.double()


def visual(decoder, scale=1.0):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(2, 2 * 3 * 3, decoder.embed_dim, generator=generator, dtype=torch.float64) * scale
    return VisualContext(tokens.requires_grad_(), grid=(2, 3, 3))


def test_texts_behind_one_video_are_what_they_are_alone(decoder) -> None:
    seen = visual(decoder)
    found = [decoder.branch_log_probs(PROMPTS, BRANCHES, seen, shared=shared) for shared in (True, False)]
    assert decoder.lm.visual_settings.packs
    torch.testing.assert_close(found[0].log_probs, found[1].log_probs, rtol=1e-9, atol=0)
    assert found[0].num_tokens.equal(found[1].num_tokens)
    weights = torch.tensor([[1.0, -2.0], [0.5, -0.25]], dtype=torch.float64)
    one, other = (torch.autograd.grad((item.log_probs * weights).sum(), seen.tokens)[0] for item in found)
    # norms and rotations of these models work in single precision
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


def test_blank_videos_change_both_texts(decoder) -> None:
    with torch.no_grad():
        found = [decoder.branch_log_probs(PROMPTS, BRANCHES, visual(decoder, scale)).log_probs for scale in (1.0, 0.0)]
    assert ((found[0] - found[1]).abs() > 1e-3).all()
