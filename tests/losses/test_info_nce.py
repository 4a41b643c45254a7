from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.losses import InfoNCELoss, text_keys

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTS = ["Normal.", "Effusion.", "normal.  ", "Nodule."]


def loop(image: torch.Tensor, text: torch.Tensor, texts: list[str] | None, tau: float) -> float:
    """Equation 11 in float64, candidate by candidate, without equal texts."""
    losses = []
    for i in range(len(image)):
        similar = [float(torch.cosine_similarity(image[i], text[j], dim=0)) / tau for j in range(len(text))]
        kept = [
            similar[j]
            for j in range(len(text))
            if j == i or texts is None or " ".join(texts[i].lower().split()) != " ".join(texts[j].lower().split())
        ]
        losses.append(math.log(sum(math.exp(s) for s in kept)) - similar[i])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("texts", [None, TEXTS], ids=["all", "masked"])
def test_loss_equals_a_loop(texts: list[str] | None) -> None:
    image, text = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    keys = None if texts is None else text_keys(texts)
    assert InfoNCELoss()(image, text, keys).item() == pytest.approx(loop(image, text, texts, 0.1), rel=1e-6)
    both = 0.5 * (loop(image, text, texts, 0.1) + loop(text, image, texts, 0.1))
    assert InfoNCELoss(symmetric=True)(image, text, keys).item() == pytest.approx(both, rel=1e-6)


def test_equal_texts_are_not_pushed_away() -> None:
    image = torch.randn(4, 6, requires_grad=True)
    text = torch.randn(4, 6, requires_grad=True)
    InfoNCELoss()(image[:1], text[:1]).backward()
    keys = text_keys(TEXTS)
    assert keys[0] == keys[2] != keys[1]
    image.grad = text.grad = None
    loss = InfoNCELoss()(image, text, keys)
    # of the first image's candidates, only its own and those with other texts get a gradient from it
    first = torch.autograd.grad(loss, text, retain_graph=True)[0]
    assert first.abs().sum(1).gt(0).all()
    alone = InfoNCELoss()(image[[0, 2]], text[[0, 2]], keys[[0, 2]])
    assert alone.item() == 0.0
    assert torch.autograd.grad(alone, text)[0].abs().sum() == 0


def test_temperature_is_learned_within_its_limits() -> None:
    loss = InfoNCELoss()
    assert loss.temperature.item() == pytest.approx(0.1)
    loss(torch.randn(3, 4), torch.randn(3, 4)).backward()
    assert loss.log_temperature.grad is not None
    assert loss.log_temperature.grad != 0
    with torch.no_grad():
        loss.log_temperature.fill_(-20.0)
    assert loss.temperature.item() == pytest.approx(0.01)
    assert not InfoNCELoss(learned=False).log_temperature.requires_grad
    with pytest.raises(ConfigError, match="temperature"):
        InfoNCELoss(0.0)


def test_training_finds_the_pairs() -> None:
    torch.manual_seed(1)
    text = torch.randn(8, 12)
    head = torch.nn.Linear(5, 12)
    scans = torch.randn(8, 5)
    contrast = InfoNCELoss()
    optimizer = torch.optim.Adam([*head.parameters(), *contrast.parameters()], 0.05)
    for _ in range(80):
        optimizer.zero_grad()
        contrast(head(scans), text).backward()
        optimizer.step()
    found = torch.nn.functional.normalize(head(scans), dim=1) @ torch.nn.functional.normalize(text, dim=1).T
    assert found.argmax(1).tolist() == list(range(8))


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="Pool tokens"):
        InfoNCELoss()(torch.zeros(2, 3, 4), torch.zeros(2, 4))


def test_two_processes_equal_one(run_alone: Callable[..., str]) -> None:
    assert "1 passed" in run_alone(Path(__file__).with_name("contrast_in_processes.py"))
