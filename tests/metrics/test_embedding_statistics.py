"""Statistics from sums against the embeddings themselves, and what collapse looks like."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ct_vlm.errors import ShapeError
from ct_vlm.metrics import EmbeddingStatistics


def statistics(*parts: torch.Tensor) -> dict[str, float]:
    metric = EmbeddingStatistics(parts[0].shape[-1])
    for part in parts:
        metric.update(part)
    return {name: float(value) for name, value in metric.compute().items()}


def test_sums_give_what_the_embeddings_give():
    x = torch.randn(50, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 3
    found = statistics(x[:20].view(4, 5, 6), x[20:])
    singular = torch.linalg.svdvals(x - x.mean(0))
    share = singular / singular.sum()
    cosines = F.normalize(x, dim=1) @ F.normalize(x, dim=1).T
    assert found["effective_rank"] == pytest.approx(math.exp(float(-(share * share.log()).sum())), rel=1e-9)
    assert found["mean_cosine"] == pytest.approx(float((cosines.sum() - 50) / (50 * 49)), rel=1e-9)
    assert found["mean_std"] == pytest.approx(float(x.std(0).mean()), rel=1e-9)
    assert found["min_std"] == pytest.approx(float(x.std(0).min()), rel=1e-9)


def test_collapse_to_a_line_and_to_a_point():
    line = torch.randn(30, 1) * torch.ones(1, 8) + 100
    found = statistics(line)
    assert found["effective_rank"] == pytest.approx(1, abs=0.01)
    assert found["mean_cosine"] > 0.99
    point = statistics(torch.full((30, 8), 2.5))
    assert (point["effective_rank"], point["mean_std"], point["mean_cosine"]) == pytest.approx((1, 0, 1), abs=1e-6)


def test_a_gaussian_uses_all_directions():
    found = statistics(torch.randn(4000, 8))
    assert found["effective_rank"] > 7.99
    assert abs(found["mean_cosine"]) < 0.01


def test_half_precision_input_and_model_keep_the_sums_exact():
    metric = EmbeddingStatistics(4).bfloat16()
    metric.update(torch.full((3, 4), 0.5).bfloat16())
    assert metric.products.dtype == torch.float64
    assert float(metric.compute()["mean_cosine"]) == pytest.approx(1)


def test_one_embedding_tells_nothing_and_reset_forgets():
    metric = EmbeddingStatistics(3)
    metric.update(torch.ones(5, 3))
    metric.reset()
    metric.update(torch.ones(1, 3))
    assert all(math.isnan(value) for value in metric.compute().values())


def test_wrong_width():
    with pytest.raises(ShapeError, match="width 3"):
        EmbeddingStatistics(3).update(torch.zeros(2, 4))
