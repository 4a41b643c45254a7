"""The chunked loss against the loss of all logits: values, gradients, memory, precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ct_vlm.errors import ShapeError
from ct_vlm.ops.dispatch import explain
from ct_vlm.ops.lm_loss import lm_loss, torch_path


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


def all_logits(hidden, weight, targets, reduction="mean"):
    return F.cross_entropy((hidden @ weight.T).flatten(0, -2), targets.flatten(), reduction=reduction)


@pytest.mark.parametrize("backend", ["torch", "naive"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(2, 5), (10,), (1, 2, 5)])
def test_equals_the_loss_of_all_logits(shape, reduction: str, backend: str) -> None:
    hidden, weight, targets = draw(shape)
    loss = lm_loss(hidden, weight, targets, reduction=reduction, backend=backend)
    expected = all_logits(hidden, weight, targets, reduction)
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(item * 3, (hidden, weight)) for item in (loss, expected))
    torch.testing.assert_close(found, wanted)
    assert found[0].flatten(0, -2)[:3].abs().max() == 0


def test_gradcheck() -> None:
    hidden, weight, targets = draw()
    assert torch.autograd.gradcheck(lambda *args: lm_loss(*args, targets), (hidden, weight))


def test_every_row_has_a_target() -> None:
    hidden, weight, targets = draw(ignored=0)
    loss = lm_loss(hidden, weight, targets, ignore_index=None)
    torch.testing.assert_close(loss, all_logits(hidden, weight, targets))


def test_no_target_gives_zero_with_gradients() -> None:
    hidden, weight, targets = draw(ignored=10)
    loss = lm_loss(hidden, weight, targets)
    loss.backward()
    assert loss == 0
    assert not hidden.grad.any()
    assert not weight.grad.any()


@pytest.mark.parametrize("frozen", ["hidden", "weight"])
def test_only_wanted_gradients_are_found(frozen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, targets = draw()
    leaves = {"hidden": hidden, "weight": weight}
    leaves[frozen].requires_grad_(False)
    kept = next(leaf for name, leaf in leaves.items() if name != frozen)
    expected = torch.autograd.grad(all_logits(hidden, weight, targets), kept)[0]
    loss = lm_loss(hidden, weight, targets)
    found = loss.grad_fn.next_functions if loss.grad_fn else ()
    torch.testing.assert_close(torch.autograd.grad(loss, kept)[0], expected)
    assert [pair[0] is None for pair in found[:2]] == [frozen == "hidden", frozen == "weight"]


def test_without_gradients_nothing_is_kept() -> None:
    hidden, weight, targets = draw()
    with torch.no_grad():
        loss = lm_loss(hidden, weight, targets)
    assert loss.grad_fn is None
    torch.testing.assert_close(loss, all_logits(hidden, weight, targets).detach())


def test_a_retained_graph_gives_the_same_gradients_again() -> None:
    hidden, weight, targets = draw()
    loss = lm_loss(hidden, weight, targets)
    first = torch.autograd.grad(loss * 2, (hidden, weight), retain_graph=True)
    kept = [tensor.clone() for tensor in first]
    second = torch.autograd.grad(loss * 5, (hidden, weight))
    torch.testing.assert_close(list(first), kept)
    torch.testing.assert_close([tensor * 2.5 for tensor in first], list(second))


def test_gradients_add_up_over_steps_and_tied_weights() -> None:
    hidden, weight, targets = draw()
    for _ in range(2):
        # as in a model whose embedding is its head
        (lm_loss(hidden * 2, weight, targets) + weight.sum()).backward()
    loss = all_logits(hidden * 2, weight, targets) + weight.sum()
    expected = torch.autograd.grad(loss * 2, (hidden, weight))
    torch.testing.assert_close((hidden.grad, weight.grad), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    hidden, weight, targets = draw(dtype=dtype)
    loss = lm_loss(hidden, weight, targets)
    assert loss.dtype == torch.float32
    wide = [leaf.detach().double().requires_grad_() for leaf in (hidden, weight)]
    expected = all_logits(*wide, targets)
    # logits and their gradients are rounded to 8 (bf16) or 11 (fp16) bits
    tolerance = {"rtol": 0, "atol": 3e-2 if dtype == torch.bfloat16 else 4e-3}
    torch.testing.assert_close(loss.double(), expected, **tolerance)
    found = torch.autograd.grad(loss, (hidden, weight))
    assert {tensor.dtype for tensor in found} == {dtype}
    wanted = torch.autograd.grad(expected, wide)
    torch.testing.assert_close([tensor.double() for tensor in found], list(wanted), **tolerance)


def test_autocast_multiplies_in_its_type_and_gives_gradients_in_theirs() -> None:
    hidden, weight, targets = draw(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = lm_loss(hidden, weight, targets)
    half = [leaf.detach().bfloat16() for leaf in (hidden, weight)]
    torch.testing.assert_close(loss, lm_loss(*half, targets))
    found = torch.autograd.grad(loss, (hidden, weight))
    assert {tensor.dtype for tensor in found} == {torch.float32}


def test_large_logits_do_not_overflow() -> None:
    hidden, weight, targets = draw(dtype=torch.float32)
    loss = lm_loss(hidden * 1e3, weight, targets)
    torch.testing.assert_close(loss, all_logits(hidden * 1e3, weight, targets))
    assert torch.autograd.grad(loss, weight)[0].isfinite().all()


def test_strided_inputs() -> None:
    hidden, weight, targets = draw()
    strided = hidden.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    columns = weight.detach().T.contiguous().T.requires_grad_()
    loss, expected = lm_loss(strided, columns, targets), all_logits(hidden, weight, targets)
    torch.testing.assert_close(loss, expected)
    found, wanted = torch.autograd.grad(loss, (strided, columns)), torch.autograd.grad(expected, (hidden, weight))
    torch.testing.assert_close(found, wanted)


def test_library_function_equals_ours() -> None:
    if not hasattr(F, "linear_cross_entropy"):
        pytest.skip("this release of PyTorch has no linear_cross_entropy")
    hidden, weight, targets = draw(shape=(10,), ignored=0)
    for mean in (True, False):
        found = torch_path._library(hidden, weight, targets, mean=mean)
        expected = torch_path.lm_loss_torch(hidden, weight, targets, mean=mean)
        torch.testing.assert_close(found, expected)
        grads = [torch.autograd.grad(loss, (hidden, weight)) for loss in (found, expected)]
        torch.testing.assert_close(*grads)


def test_logits_of_one_chunk_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    empty = torch_path.empty_large
    monkeypatch.setattr(torch_path, "CHUNK_BYTES", 4 * 11 * 8)
    monkeypatch.setattr(torch_path, "empty_large", lambda *s, **o: shapes.append(s) or empty(*s, **o))
    hidden, weight, targets = draw()
    lm_loss(hidden, weight, targets)
    # seven rows in two chunks of at most four
    assert shapes == [(11, 6), (4, 11)]


def test_cpu_takes_ours() -> None:
    assert [item.name for item in explain("lm_loss", "cpu") if item.chosen] == ["torch"]


def test_named_errors() -> None:
    hidden, weight, targets = draw()
    for wrong in ((hidden, weight, targets[:1]), (hidden, weight.T, targets), (hidden, weight[0], targets)):
        with pytest.raises(ShapeError, match="Expected hidden states"):
            lm_loss(*wrong)
