"""What the benchmark of a DPO step times is one loss with one gradient, at a tiny size."""

from __future__ import annotations

import torch

from benchmarks.ops import dpo_step

TINY = {"name": "tiny", "visual": 6, "text": 12, "vocabulary": 300, "dim": 16, "layers": 2}


def test_every_provider_has_the_loss_and_the_gradient_of_the_textbook() -> None:
    inputs = dpo_step.make_inputs(TINY, "cpu", torch.float64)
    inputs["tokens"].requires_grad_()
    trained = [p for p in inputs["decoder"].parameters() if p.requires_grad]
    found = {}
    for name, provider in dpo_step.PROVIDERS.items():
        loss = provider(inputs)
        found[name] = loss.detach(), torch.autograd.grad(loss, [inputs["tokens"], *trained])
    expected = found.pop(dpo_step.REFERENCE)
    assert expected[0] != torch.tensor(2.0).log()
    assert len(found) == 3
    for loss, grads in found.values():
        torch.testing.assert_close(loss, expected[0], rtol=1e-6, atol=0)
        for one, other in zip(grads, expected[1], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))
