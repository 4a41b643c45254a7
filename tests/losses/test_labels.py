from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.losses import focal_loss, masked_bce, multiple_instance_loss, positive_weights
from ct_vlm.losses.weights import check_weights

LOGITS = torch.tensor([[0.3, -1.2, 2.0], [-0.7, 0.1, 4.0]], dtype=torch.float64)
LABELS = torch.tensor([[1.0, 0.0, float("nan")], [0.0, 1.0, 1.0]], dtype=torch.float64)
WEIGHT = (2.0, 3.0, 0.5)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cells(gamma: float = 0.0, weights: tuple[float, ...] = (1.0, 1.0, 1.0)) -> list[float]:
    """Loop over the known cells, from the definition."""
    found = []
    for logits, labels in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        for logit, label, weight in zip(logits, labels, weights, strict=True):
            if math.isnan(label):
                continue
            true = sigmoid(logit) if label == 1 else 1 - sigmoid(logit)
            found.append(-math.log(true) * (1 - true) ** gamma * (weight if label == 1 else 1.0))
    return found


def test_bce_is_the_mean_over_known_cells() -> None:
    assert masked_bce(LOGITS, LABELS).item() == pytest.approx(np.mean(cells()), rel=1e-6)
    weighted = masked_bce(LOGITS, LABELS, torch.tensor(WEIGHT))
    assert weighted.item() == pytest.approx(np.mean(cells(weights=WEIGHT)), rel=1e-6)


def test_focal_follows_its_definition_and_gamma_zero_is_bce() -> None:
    assert focal_loss(LOGITS, LABELS).item() == pytest.approx(np.mean(cells(gamma=2.0)), rel=1e-6)
    assert focal_loss(LOGITS, LABELS, 0.0).item() == pytest.approx(masked_bce(LOGITS, LABELS).item(), rel=1e-6)


def test_unknown_labels_give_no_gradient_and_none_known_gives_zero() -> None:
    logits = LOGITS.clone().requires_grad_()
    (masked_bce(logits, LABELS) + focal_loss(logits, LABELS)).backward()
    assert logits.grad is not None
    assert logits.grad[0, 2] == 0
    assert (logits.grad[~LABELS.isnan()] != 0).all()
    unknown = torch.full((2, 3), float("nan"))
    assert masked_bce(LOGITS, unknown).item() == focal_loss(LOGITS, unknown).item() == 0.0


def test_multiple_instances_train_the_highest_region_only() -> None:
    tokens = torch.tensor([[[0.1], [2.0], [-3.0]]], requires_grad=True)
    loss = multiple_instance_loss(tokens, torch.ones(1, 1))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(sigmoid(2.0)), rel=1e-6)
    assert tokens.grad is not None
    assert tokens.grad.flatten().ne(0).tolist() == [False, True, False]


def test_positive_weights_are_capped_and_skip_unknown_labels() -> None:
    labels = np.zeros((30, 4))
    labels[:10, 0] = 1
    labels[0, 1] = 1
    labels[:10, 3] = 1
    labels[20:, 3] = np.nan
    assert positive_weights(labels).tolist() == [2.0, 10.0, 10.0, 1.0]


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="differ in shape"):
        masked_bce(LOGITS, LABELS[:1])
    with pytest.raises(ShapeError, match="every region"):
        multiple_instance_loss(LOGITS, LABELS)
    with pytest.raises(ShapeError, match="Expected labels"):
        positive_weights([1, 0])


def test_weights_must_be_known_and_not_negative() -> None:
    with pytest.raises(ConfigError, match="mmmd"):
        check_weights({"mmmd": 1.0}, ["mmd"])
    with pytest.raises(ConfigError, match="0 or more"):
        check_weights({"mmd": -1.0}, ["mmd"])
    with pytest.raises(ConfigError, match="0 or more"):
        check_weights({"mmd": float("nan")}, ["mmd"])
