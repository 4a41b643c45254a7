"""One loss a row: values, gradients with and without a head that trains, memory, precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ct_vlm.ops.lm_loss import lm_loss, rows, torch_path


@pytest.fixture(autouse=True, params=["one chunk", "chunks"])
def _chunks(request, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "chunks":
        # four rows of eleven doubles
        monkeypatch.setattr(torch_path, "CHUNK_BYTES", 4 * 11 * 8)


def draw(shape=(2, 5), vocabulary=11, width=6, dtype=torch.float64, ignored=3):
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(*shape, width, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    targets = torch.randint(0, vocabulary, shape, generator=generator)
    targets.view(-1)[:ignored] = -100
    return hidden, weight, targets


def all_logits(hidden, weight, targets):
    losses = F.cross_entropy((hidden @ weight.T).flatten(0, -2), targets.flatten(), reduction="none")
    return losses.view(targets.shape)


@pytest.mark.parametrize("backend", ["torch", "naive"])
@pytest.mark.parametrize("ignored", [0, 3, 10])
@pytest.mark.parametrize("frozen", [None, "hidden", "weight"])
def test_equals_the_losses_of_all_logits(frozen, ignored: int, backend: str) -> None:
    hidden, weight, targets = draw(ignored=ignored)
    leaves = {"hidden": hidden, "weight": weight}
    if frozen:
        leaves.pop(frozen).requires_grad_(False)
    losses = lm_loss(hidden, weight, targets, reduction="none", backend=backend)
    expected = all_logits(hidden, weight, targets)
    torch.testing.assert_close(losses, expected)
    # a factor of its own for every row, of either sign
    factors = torch.linspace(-2, 3, targets.numel(), dtype=losses.dtype).view_as(targets)
    found, wanted = (torch.autograd.grad((item * factors).sum(), list(leaves.values())) for item in (losses, expected))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("frozen", [False, True])
def test_gradcheck(frozen: bool) -> None:
    hidden, weight, targets = draw()
    weight.requires_grad_(not frozen)
    assert torch.autograd.gradcheck(lambda *args: lm_loss(*args, targets, reduction="none"), (hidden, weight))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_retained_graph_gives_its_gradients_again(frozen: bool) -> None:
    hidden, weight, targets = draw()
    weight.requires_grad_(not frozen)
    losses = lm_loss(hidden, weight, targets, reduction="none")
    first = torch.autograd.grad(losses.sum() * 2, hidden, retain_graph=True)[0]
    kept = first.clone()
    second = torch.autograd.grad(losses.sum() * 5, hidden)[0]
    torch.testing.assert_close(first, kept)
    torch.testing.assert_close(first * 2.5, second)


def test_a_frozen_head_is_multiplied_once_in_each_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    once = rows._pass
    monkeypatch.setattr(rows, "_pass", lambda *args: passes.append(args[-1]) or once(*args))
    hidden, weight, targets = draw()
    lm_loss(hidden, weight.detach(), targets, reduction="none").sum().backward()
    assert passes == [(True, False)]
    lm_loss(hidden, weight, targets, reduction="none").sum().backward()
    assert passes[1:] == [(False, False), (True, True)]


def test_without_gradients_nothing_is_kept() -> None:
    hidden, weight, targets = draw()
    with torch.no_grad():
        losses = lm_loss(hidden, weight, targets, reduction="none")
    assert losses.grad_fn is None
    torch.testing.assert_close(losses, all_logits(hidden, weight, targets).detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("frozen", [False, True])
def test_half_precision(dtype: torch.dtype, frozen: bool) -> None:
    hidden, weight, targets = draw(dtype=dtype)
    weight.requires_grad_(not frozen)
    losses = lm_loss(hidden, weight, targets, reduction="none")
    assert losses.dtype == torch.float32
    wide = [leaf.detach().double().requires_grad_() for leaf in (hidden, weight)]
    expected = all_logits(*wide, targets)
    # logits and their gradients are rounded to 8 (bf16) or 11 (fp16) bits
    tolerance = {"rtol": 2e-2, "atol": 3e-2 if dtype == torch.bfloat16 else 4e-3}
    torch.testing.assert_close(losses.double(), expected, **tolerance)
    found = torch.autograd.grad(losses.sum(), hidden)[0]
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), torch.autograd.grad(expected.sum(), wide[0])[0], **tolerance)


def test_autocast_multiplies_in_its_type_and_gives_gradients_in_theirs() -> None:
    hidden, weight, targets = draw(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        losses = lm_loss(hidden, weight, targets, reduction="none")
    half = [leaf.detach().bfloat16() for leaf in (hidden, weight)]
    torch.testing.assert_close(losses, lm_loss(*half, targets, reduction="none"))
    assert {tensor.dtype for tensor in torch.autograd.grad(losses.sum(), (hidden, weight))} == {torch.float32}
