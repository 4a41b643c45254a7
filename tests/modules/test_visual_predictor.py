"""Predictor, norm calibration and the whole way to tokens of a language model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import Features
from ct_vlm.modules import (
    JEPAHead,
    NormCalibrator,
    VisualPredictor,
    ZoneConstrainedCrossAttention,
    ZonedVisualTokens,
)

if TYPE_CHECKING:
    from pathlib import Path


def connector(calibrator: NormCalibrator | None = None) -> ZonedVisualTokens:
    zones = ZoneConstrainedCrossAttention(8, num_zones=4, num_heads=2, hidden_dim=16, position="none")
    return ZonedVisualTokens(zones, VisualPredictor(8, 12), calibrator)


def features(slices: int = 9) -> Features:
    return Features([torch.randn(2, slices, 8)], [(slices, 1, 1)])


def test_predictor_is_dropout_linear_norm() -> None:
    predictor = VisualPredictor(8, 12).eval()
    tokens = torch.randn(2, 5, 8)
    want = nn.functional.layer_norm(
        tokens @ predictor.linear.weight.T + predictor.linear.bias, (12,), predictor.norm.weight, predictor.norm.bias
    )
    torch.testing.assert_close(predictor(tokens), want)
    predictor.train()
    assert not torch.equal(predictor(tokens), predictor(tokens))


def test_predictor_starts_from_the_principal_directions_of_text() -> None:
    text = torch.randn(500, 12, dtype=torch.float64) * torch.linspace(4, 0.1, 12) + 1.0
    predictor = VisualPredictor(5, 12).init_from_text_(text)
    weight = predictor.linear.weight.detach().double()
    torch.testing.assert_close(weight.T @ weight, torch.eye(5, dtype=torch.float64), atol=1e-6, rtol=0)
    _, _, vectors = torch.linalg.svd(text - text.mean(0), full_matrices=False)
    torch.testing.assert_close((vectors[:5] @ weight).diagonal().abs(), torch.ones(5).double(), atol=1e-6, rtol=0)
    assert not predictor.linear.bias.any()


def test_predictor_refuses_text_that_does_not_fit() -> None:
    with pytest.raises(ShapeError, match="width 12"):
        VisualPredictor(5, 12).init_from_text_(torch.randn(50, 9))
    with pytest.raises(ShapeError, match="no 13 principal directions"):
        VisualPredictor(13, 12).init_from_text_(torch.randn(50, 12))


def test_paper_sizes() -> None:
    with torch.device("meta"):
        predictor, head, calibrator = VisualPredictor(), JEPAHead(), NormCalibrator(3072, 1.1484)
    assert sum(p.numel() for p in predictor.parameters()) == 1024 * 3072 + 3 * 3072
    assert head(torch.empty(2, 32, 3072, device="meta")).shape == (2, 256)
    assert "target_norm=?" in repr(calibrator)


def test_alpha_starts_at_the_papers_value() -> None:
    assert NormCalibrator(3072, 1.1484).alpha.item() == pytest.approx(0.02072, abs=5e-6)
    assert NormCalibrator(3072).alpha.item() == 1.0


def test_calibration_overwrites_the_parameter_in_place() -> None:
    calibrator = NormCalibrator(12, 0.5)
    parameter = calibrator.alpha
    optimizer = torch.optim.SGD(calibrator.parameters(), 0.1)
    tokens = 3 * torch.randn(2, 7, 12)
    alpha = calibrator.calibrate(tokens)
    assert calibrator.alpha is parameter
    assert calibrator(tokens).norm(dim=-1).mean().item() == pytest.approx(0.5, rel=1e-5)
    calibrator(tokens).sum().backward()
    optimizer.step()
    assert parameter.item() == pytest.approx(alpha - 0.1 * tokens.sum().item(), rel=1e-4)


def test_a_request_calibrates_the_next_training_pass_once() -> None:
    calibrator = NormCalibrator(12, 0.5)
    start = calibrator.alpha.item()
    calibrator.request()
    tokens = 3 * torch.randn(2, 7, 12)
    calibrator.eval()(tokens)
    assert calibrator.alpha.item() == start
    scaled = calibrator.train()(tokens)
    assert scaled.norm(dim=-1).mean().item() == pytest.approx(0.5, rel=1e-5)
    found = calibrator.alpha.item()
    calibrator(10 * tokens)
    assert calibrator.alpha.item() == found != start


def test_target_comes_from_the_language_models_embeddings(tmp_path: Path) -> None:
    text = torch.randn(50, 12)
    calibrator = NormCalibrator(12).set_target(text)
    norm = text.norm(dim=1).mean().item()
    assert calibrator.alpha.item() == pytest.approx(norm / math.sqrt(12), rel=1e-6)
    again = Component.from_pretrained(calibrator.save_pretrained(tmp_path))
    assert again.calibrate(torch.ones(3, 12)) == pytest.approx(norm / math.sqrt(12), rel=1e-6)


@pytest.mark.parametrize(
    ("use", "error", "message"),
    [
        (lambda: NormCalibrator(4, 0.0), ConfigError, "target_norm"),
        (lambda: NormCalibrator(4).calibrate(torch.ones(1, 4)), ConfigError, "no target length"),
        (lambda: NormCalibrator(4, 1.0).calibrate(torch.zeros(1, 4)), ShapeError, "mean length"),
        (lambda: NormCalibrator(4, 1.0).calibrate(torch.ones(1, 3)), ShapeError, "width 4"),
    ],
)
def test_calibration_that_has_no_meaning_is_refused(use: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        use()


def test_half_precision_tokens_stay_half_precision() -> None:
    tokens = torch.randn(2, 3, 12, dtype=torch.bfloat16)
    assert NormCalibrator(12, 1.0)(tokens).dtype == torch.bfloat16


def test_connector_gives_tokens_as_long_as_text() -> None:
    text = torch.randn(100, 12) * 0.1
    model = connector(NormCalibrator(12)).init_from_text_(text).eval()
    context = model(features())
    assert context.tokens.shape == (2, 4, 12)
    assert context.tokens.norm(dim=-1).mean().item() == pytest.approx(text.norm(dim=1).mean().item(), rel=1e-3)
    torch.testing.assert_close(connector()(features()).tokens.shape, torch.Size([2, 4, 12]))


def test_connector_round_trips_and_all_of_it_learns(tmp_path: Path) -> None:
    model = connector(NormCalibrator(12, 1.0))
    inputs = features()
    model(inputs).tokens.pow(3).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    again = Component.from_pretrained(model.save_pretrained(tmp_path)).eval()
    assert torch.equal(again(inputs).tokens, model.eval()(inputs).tokens)


def test_parts_of_other_widths_are_refused() -> None:
    zones = ZoneConstrainedCrossAttention(8, num_zones=4, num_heads=2)
    with pytest.raises(ConfigError, match="do not fit"):
        ZonedVisualTokens(zones, VisualPredictor(9, 12))
    with pytest.raises(ConfigError, match="do not fit"):
        ZonedVisualTokens(zones, VisualPredictor(8, 12), NormCalibrator(13))


def test_head_predicts_from_the_mean_token_or_from_each() -> None:
    head = JEPAHead(12, 4, hidden_dim=8)
    tokens = torch.randn(2, 5, 12)
    torch.testing.assert_close(head(tokens), head.per_token(tokens.mean(1, keepdim=True))[:, 0])
    assert head.per_token(tokens).shape == (2, 5, 4)
