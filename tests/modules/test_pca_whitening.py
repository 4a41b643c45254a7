"""PCA whitening: identities, streaming, processes, safety, and the cosines it reports."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.errors import CheckpointError, ConfigError, ShapeError
from ct_vlm.modules import PCAWhitening, StreamingCovariance, separability


def reports(count: int = 4000, dim: int = 256, rank: int = 64) -> torch.Tensor:
    """Return rows in a narrow cone: a common vector, directions of falling variance, a little noise."""
    scales = torch.linspace(3.0, 0.5, rank)
    basis = torch.linalg.qr(torch.randn(dim, rank))[0]
    return 3.0 + (torch.randn(count, rank) * scales) @ basis.T + 0.02 * torch.randn(count, dim)


@pytest.fixture(scope="module")
def rows() -> torch.Tensor:
    torch.manual_seed(1)
    return reports()


@pytest.fixture(scope="module")
def whitening(rows: torch.Tensor) -> PCAWhitening:
    return PCAWhitening(256, 64).fit(rows)


def test_whitened_rows_have_unit_covariance_and_no_mean(rows: torch.Tensor, whitening: PCAWhitening) -> None:
    white = whitening(rows).double()
    assert (torch.cov(white.T) - torch.eye(64)).abs().max() < 5e-6
    assert white.mean(0).abs().max() < 1e-5
    assert (white.square().sum(1).mean() / 64).item() == pytest.approx(1.0, abs=1e-3)


def test_whitening_opens_the_cone(rows: torch.Tensor, whitening: PCAWhitening) -> None:
    found = whitening.report(rows)
    assert found.before.mean_cosine == pytest.approx(0.91, abs=0.02)
    assert abs(found.after.mean_cosine) < 1e-3
    # unit vectors in 64 dimensions have cosines of variance 1/64
    assert found.after.d_prime == pytest.approx(math.sqrt(2 * 64), rel=0.05)
    assert found.after.d_prime > found.before.d_prime
    assert found.to_dict()["after"]["mean_cosine"] == found.after.mean_cosine


def test_what_the_inverse_loses_is_the_unexplained_variance(rows: torch.Tensor, whitening: PCAWhitening) -> None:
    back = whitening.inverse_transform(whitening(rows))
    lost = (rows - back).square().sum() / (rows - rows.mean(0)).square().sum()
    assert lost.item() == pytest.approx(1 - whitening.explained_variance, rel=1e-3)
    few = PCAWhitening(256, 8).fit(rows)
    lost = (rows - few.inverse_transform(few(rows))).square().sum() / (rows - rows.mean(0)).square().sum()
    assert lost.item() == pytest.approx(1 - few.explained_variance, rel=1e-4)
    assert few.explained_variance < whitening.explained_variance < 1


def test_values_are_those_of_the_singular_value_decomposition(rows: torch.Tensor, whitening: PCAWhitening) -> None:
    centred = rows.double() - rows.double().mean(0)
    left, values, right = torch.linalg.svd(centred, full_matrices=False)
    signs = (right[:64] * whitening.components).sum(1).sign()
    want = left[:50, :64] * math.sqrt(len(rows) - 1) * signs
    torch.testing.assert_close(whitening(rows[:50].double()), want, atol=1e-4, rtol=0)
    share = values[:64].square().sum() / values.square().sum()
    assert whitening.explained_variance == pytest.approx(share.item(), abs=1e-6)


def test_parts_and_shards_give_what_all_rows_give(rows: torch.Tensor, whitening: PCAWhitening) -> None:
    streamed = PCAWhitening(256, 64)
    shards = [StreamingCovariance(256) for _ in range(3)]
    for index, part in enumerate(rows.split(271)):
        shards[index % 2].update(part)
    for shard in shards:  # the third saw nothing
        streamed.merge(shard)
    streamed.finalize()
    assert int(streamed.count) == len(rows)
    torch.testing.assert_close(streamed(rows[:20]), whitening(rows[:20]), atol=1e-4, rtol=0)


def test_a_large_common_mean_costs_no_precision() -> None:
    rows = torch.randn(500, 4, dtype=torch.float64)
    seen, far = StreamingCovariance(4), StreamingCovariance(4)
    for part in rows.split(7):
        seen.update(part)
        far.update(part + 1e6)
    torch.testing.assert_close(seen.covariance(), torch.cov(rows.T))
    torch.testing.assert_close(far.covariance(), torch.cov(rows.T), atol=1e-8, rtol=0)


def test_rows_wait_in_a_buffer_that_nobody_can_change() -> None:
    rows = torch.randn(20, 3, dtype=torch.float64)
    seen = StreamingCovariance(3, buffer=8)
    reused = torch.empty(5, 3, dtype=torch.float64)
    for number, part in enumerate(rows.split(5), start=1):
        seen.update(reused.copy_(part))
        assert seen.count == 5 * number
    reused.fill_(torch.nan)
    torch.testing.assert_close(seen.mean, rows.mean(0))
    torch.testing.assert_close(seen.covariance(), torch.cov(rows.T))
    seen.update(rows[:0])
    assert seen.count == 20


def test_processes_of_a_distributed_run_end_with_the_fit_of_all_rows(run_alone: Any) -> None:
    assert "1 passed" in run_alone(Path(__file__).with_name("whitening_of_two.py"))


def test_a_second_fit_starts_anew(rows: torch.Tensor) -> None:
    whitening = PCAWhitening(256, 4).fit(rows)
    want = whitening(rows[:5])
    whitening.fit(torch.randn(50, 256)).fit(rows)
    torch.testing.assert_close(whitening(rows[:5]), want, rtol=0, atol=0)


def test_small_variances_are_floored() -> None:
    rows = torch.cat([torch.randn(300, 2) * 10, 1e-7 * torch.randn(300, 2)], 1)
    white = PCAWhitening(4, 4, eps=1e-6).fit(rows)(rows)
    assert white[:, 2:].abs().max() < 1e-3  # noise stays small instead of being blown up to 1
    torch.testing.assert_close(white[:, :2].std(0), torch.ones(2), atol=1e-3, rtol=0)
    exact = PCAWhitening(4, 4, eps=0.0).fit(rows.double())(rows.double())
    assert exact[:, 2:].std(0).min() > 0.5


def test_gradients_pass_through_in_both_directions(whitening: PCAWhitening) -> None:
    rows = torch.randn(3, 256, dtype=torch.float64, requires_grad=True)
    whitening.inverse_transform(whitening(rows)).square().sum().backward()
    assert rows.grad is not None
    assert rows.grad.abs().sum() > 0
    assert list(whitening.parameters()) == []


def test_it_is_saved_and_loaded_with_the_model(whitening: PCAWhitening, rows: torch.Tensor, tmp_path: Path) -> None:
    again = Component.from_pretrained(whitening.save_pretrained(tmp_path))
    assert again.fitted
    assert torch.equal(again(rows[:5]), whitening(rows[:5]))
    assert again.explained_variance == whitening.explained_variance
    empty = PCAWhitening(256, 64)
    again.load_state_dict(empty.state_dict())
    assert not again.fitted
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"output_dim": 64', '"output_dim": 32'))
    with pytest.raises(CheckpointError, match="does not fit"):
        Component.from_pretrained(tmp_path)


def test_casting_the_model_does_not_round_the_fit(whitening: PCAWhitening, rows: torch.Tensor) -> None:
    want = whitening(rows[:5])
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), PCAWhitening(256, 64))
    model[1].load_state_dict(whitening.state_dict())
    model.bfloat16()
    assert model[0].weight.dtype == torch.bfloat16
    assert torch.equal(model[1](rows[:5]), want)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model[1](rows[:5]), want)
    assert model.double()[1].mean.dtype == torch.float32
    assert whitening(rows[:5].bfloat16()).dtype == torch.float32


def test_use_before_the_fit_is_a_clear_error() -> None:
    whitening = PCAWhitening(4, 2)
    for use in (whitening.transform, whitening, lambda x: whitening.inverse_transform(x[:, :2]), whitening.report):
        with pytest.raises(ConfigError, match="has not been fitted"):
            use(torch.randn(5, 4))
    with pytest.raises(ConfigError, match="has not been fitted"):
        _ = whitening.explained_variance
    with pytest.raises(ShapeError, match="no 2 principal directions"):
        whitening.finalize()
    assert "fitted=False" in repr(whitening)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.randn(2, 4), "2 rows of width 4"),
        (torch.randn(9, 3), "width 4"),
        (torch.full((9, 4), torch.nan), "not finite"),
    ],
)
def test_rows_that_cannot_be_fitted_are_refused(rows: torch.Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        PCAWhitening(4, 2).fit(rows)


def test_equal_rows_are_refused() -> None:
    with pytest.raises(ConfigError, match="are the same"):
        PCAWhitening(4, 2).fit(torch.ones(9, 4))


def test_other_widths_are_refused(whitening: PCAWhitening) -> None:
    for use in (whitening, whitening.inverse_transform):
        with pytest.raises(ShapeError, match="Expected embeddings of width"):
            use(torch.randn(2, 7))


@pytest.mark.parametrize("arguments", [(4, 5), (4, 0)])
def test_sizes_out_of_range_are_refused(arguments: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="output_dim"):
        PCAWhitening(*arguments)
    with pytest.raises(ConfigError, match="eps"):
        PCAWhitening(4, 2, eps=-1.0)


def by_pairs(rows: torch.Tensor, groups: list[int] | None) -> tuple[float, float, float]:
    """Return mean cosine, mean of pairs of one group, and d', by the matrix of all pairs."""
    unit = torch.nn.functional.normalize(rows.double(), dim=1)
    cosine = unit @ unit.T
    other = ~torch.eye(len(rows), dtype=torch.bool)
    if groups is None:
        same, different = torch.ones(len(rows)), cosine[other]
    else:
        ids = torch.tensor(groups)
        alike = ids.unsqueeze(0) == ids.unsqueeze(1)
        same, different = cosine[alike & other], cosine[~alike]
    spread = ((same.var(correction=0) + different.var(correction=0)) / 2).sqrt()
    return cosine[other].mean().item(), same.mean().item(), ((same.mean() - different.mean()) / spread).item()


@pytest.mark.parametrize("groups", [None, [0, 0, 1, 1, 1, 2, 3, 3, 4]])
@pytest.mark.parametrize("width", [3, 40])
def test_separability_is_that_of_all_pairs(groups: list[int] | None, width: int) -> None:
    rows = torch.randn(9, width) + 1.0
    found = separability(rows, groups)
    want = by_pairs(rows, groups)
    assert (found.mean_cosine, found.same_mean, found.d_prime) == pytest.approx(want, rel=1e-9)


def test_texts_of_one_group_are_told_from_others() -> None:
    centres = torch.randn(30, 64)
    groups = [index // 3 for index in range(90)]
    near = separability(centres[groups] + 0.1 * torch.randn(90, 64), groups)
    far = separability(centres[groups] + 3.0 * torch.randn(90, 64), groups)
    assert near.d_prime > 5 > far.d_prime


@pytest.mark.parametrize(
    ("rows", "groups", "message"),
    [
        (torch.randn(1, 4), None, "at least two rows"),
        (torch.zeros(3, 4), None, "zero"),
        (torch.randn(3, 4), [0, 1], "one group a row"),
        (torch.randn(3, 4), [0, 1, 2], "no pair of one kind"),
        (torch.randn(3, 4), [0, 0, 0], "no pair of one kind"),
    ],
)
def test_rows_without_pairs_are_refused(rows: torch.Tensor, groups: list[int] | None, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        separability(rows, groups)
