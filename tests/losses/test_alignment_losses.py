from __future__ import annotations

import math

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.losses import cosine_prediction_loss, imq_mmd, imq_scale, orthogonality_loss


def mmd_loop(x: torch.Tensor, y: torch.Tensor, *, own: bool) -> float:
    """Squared MMD of two sets from the definition, pair by pair, in float64."""
    a = 20 / (2 * x.shape[1] - 3)

    def kernel(p: torch.Tensor, q: torch.Tensor) -> float:
        return (1 + a * float((p - q).square().sum())) ** -0.5

    def within(points: torch.Tensor) -> float:
        pairs = [(i, j) for i in range(len(points)) for j in range(len(points)) if own or i != j]
        return sum(kernel(points[i], points[j]) for i, j in pairs) / len(pairs) if pairs else 1.0

    across = sum(kernel(p, q) for p in x for q in y) / (len(x) * len(y))
    return within(x) + within(y) - 2 * across


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_mmd_of_ragged_sets_equals_a_loop(estimator: str) -> None:
    x, y = torch.randn(4, 5, 8, dtype=torch.float64), torch.randn(4, 3, 8, dtype=torch.float64) + 0.5
    counts = [3, 1, 0, 2]
    mask = torch.arange(3)[None, :] < torch.tensor(counts)[:, None]
    wanted = [mmd_loop(x[i], y[i, :n], own=estimator == "biased") for i, n in enumerate(counts) if n]
    found = imq_mmd(x, y, y_mask=mask, estimator=estimator)
    assert found.item() == pytest.approx(sum(wanted) / 3, rel=1e-12)


def test_mmd_has_the_published_scale_and_values() -> None:
    assert imq_scale(256) == 20 / 509
    point, other = torch.zeros(1, 1, 256), torch.zeros(1, 1, 256)
    other[..., 7] = 1.0
    assert imq_mmd(point, other).item() == pytest.approx(0.038171, abs=1e-6)
    same = torch.randn(2, 6, 256)
    assert imq_mmd(same, same).item() == pytest.approx(0.0, abs=1e-6)


def test_mmd_of_equal_distributions_is_biased_or_about_zero() -> None:
    x, y = torch.randn(24, 32, 256), torch.randn(24, 3, 256)
    assert imq_mmd(x, y).item() == pytest.approx(0.282, abs=0.008)
    assert abs(imq_mmd(x, y, estimator="unbiased").item()) < 0.008


def test_mmd_without_texts_has_neither_value_nor_nan_gradient() -> None:
    x = torch.randn(2, 4, 8, requires_grad=True)
    y = torch.randn(2, 3, 8, requires_grad=True)
    mask = torch.tensor([[True, False, False], [False, False, False]])
    imq_mmd(x, y, y_mask=mask).backward()
    assert x.grad is not None
    assert y.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[0].abs().sum() > 0
    assert x.grad[1].abs().sum() == y.grad[1].abs().sum() == y.grad[0, 1:].abs().sum() == 0
    assert imq_mmd(x, y, y_mask=torch.zeros(2, 3, dtype=torch.bool)).item() == 0.0


def test_mmd_pulls_visual_tokens_to_the_texts() -> None:
    torch.manual_seed(0)
    x = torch.nn.Parameter(torch.randn(1, 8, 16))
    y = torch.randn(1, 4, 16) + 2.0
    optimizer = torch.optim.Adam([x], 0.1)
    before = imq_mmd(x, y).item()
    for _ in range(100):
        optimizer.zero_grad()
        imq_mmd(x, y).backward()
        optimizer.step()
    assert imq_mmd(x, y).item() < 0.2 * before
    assert (x.mean() - 2.0).abs() < 0.4


def test_mmd_gradient_is_right() -> None:
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    assert torch.autograd.gradcheck(lambda a, b: imq_mmd(a, b, y_mask=mask), (x, y))


def test_mmd_refuses_other_widths_and_estimators() -> None:
    with pytest.raises(ShapeError, match="Expected sets"):
        imq_mmd(torch.zeros(1, 2, 4), torch.zeros(1, 2, 5))
    with pytest.raises(ConfigError, match="unbiased"):
        imq_mmd(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4), estimator="u")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="width"):
        imq_scale(1)


def test_orthogonality_equals_a_loop_and_has_its_bounds() -> None:
    tokens = torch.randn(2, 5, 7, dtype=torch.float64)
    cosine = torch.nn.functional.cosine_similarity
    wanted = [float(cosine(t[i], t[j], dim=0)) ** 2 for t in tokens for i in range(5) for j in range(5) if i != j]
    assert orthogonality_loss(tokens).item() == pytest.approx(sum(wanted) / len(wanted), rel=1e-12)
    assert orthogonality_loss(torch.eye(4)[None]).item() == 0.0
    assert orthogonality_loss(-torch.ones(1, 3, 4)).item() == pytest.approx(1.0, abs=1e-6)
    zeros = torch.zeros(1, 3, 4, requires_grad=True)
    orthogonality_loss(zeros).backward()
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()
    with pytest.raises(ShapeError, match="two tokens"):
        orthogonality_loss(torch.zeros(1, 1, 4))


def test_prediction_loss_is_one_minus_cosine_and_spares_the_target() -> None:
    predicted = torch.tensor([[1.0, 0.0], [1.0, 1.0]], requires_grad=True)
    target = torch.tensor([[2.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    loss = cosine_prediction_loss(predicted, target)
    assert loss.item() == pytest.approx((0 + 1 + math.sqrt(0.5)) / 2, abs=1e-6)
    loss.backward()
    assert target.grad is None
    with pytest.raises(ShapeError, match="Pool tokens"):
        cosine_prediction_loss(predicted[None], target[None])
