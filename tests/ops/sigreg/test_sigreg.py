"""Statistics against published values, closed forms and every backend against the naive one."""

from __future__ import annotations

import math
import subprocess
import sys
from statistics import NormalDist
from typing import TYPE_CHECKING

import pytest
import torch

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.ops.sigreg import epps_pulley, random_directions, sigreg, sum_over_ranks
from ct_vlm.ops.sigreg import torch_path as torch_path_module

if TYPE_CHECKING:
    from pathlib import Path

QUANTILES = torch.tensor([NormalDist().inv_cdf((i + 0.5) / 8) for i in range(8)], dtype=torch.float64)
# samples of 8; the statistic on [0, 3] with 17 knots, on [-5, 5] with 17 nodes, and of the whole line
REFERENCE = {
    "zeros": (torch.zeros(8), 3.216381, 3.271366, 3.271385),
    "quantiles": (QUANTILES, 0.010852, 0.011006, 0.011005),
    "linspace": (torch.linspace(-2, 2, 8, dtype=torch.float64), 0.994884, 0.995647, 0.995647),
    "half": (0.5 * QUANTILES, 1.350338, 1.353878, 1.353877),
    "double": (2 * QUANTILES, 2.070324, 2.072153, 2.071897),
    "shifted": (QUANTILES + 1, 3.632014, 3.632191, 3.632192),
    "constant": (torch.full((8,), 5.0), 31.519682, 31.527974, 31.575900),
}


def closed_form(u: torch.Tensor) -> torch.Tensor:
    """The statistic with the integral over the whole line."""
    pairs = torch.exp(-((u[:, None] - u) ** 2) / 2).mean()
    singles = torch.exp(-(u**2) / 4).mean()
    return len(u) * (math.sqrt(2 * math.pi) * pairs - 2 * math.sqrt(math.pi) * singles + math.sqrt(2 * math.pi / 3))


@pytest.mark.parametrize("backend", ["torch", "naive"])
@pytest.mark.parametrize("case", REFERENCE)
def test_reference_values(case: str, backend: str) -> None:
    u, half_grid, wide_grid, line = REFERENCE[case]
    u = u.double()
    assert float(epps_pulley(u[:, None], backend=backend)) == pytest.approx(half_grid, abs=2e-6)
    assert float(epps_pulley(u[:, None], knots=9, t_max=5, backend=backend)) == pytest.approx(wide_grid, abs=2e-6)
    assert float(closed_form(u)) == pytest.approx(line, abs=2e-6)


def test_fine_grid_is_the_closed_form() -> None:
    u = torch.randn(20, dtype=torch.float64) * 1.5 + 0.3
    statistic = epps_pulley(u[:, None], knots=200, t_max=8)
    torch.testing.assert_close(statistic[0], closed_form(u), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tile", [1, 8, 2**17])
@pytest.mark.parametrize("shape", [(2, 5, 7), (1, 1, 1), (3, 4, 1)])
def test_torch_path_value_and_gradient(tile: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(torch_path_module.TILE, "cpu", tile)
    u = torch.randn(shape, dtype=torch.float64)
    ours, reference = u.clone().requires_grad_(), u.clone().requires_grad_()
    found, expected = epps_pulley(ours, backend="torch"), epps_pulley(reference, backend="naive")
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    (found * weights.to(found)).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, reference.grad)


def test_gradcheck() -> None:
    x, directions = torch.randn(6, 3, dtype=torch.float64, requires_grad=True), random_directions(3, 4, seed=0)
    assert torch.autograd.gradcheck(lambda x: sigreg(x, directions), (x,))


def test_float32_is_as_exact_as_the_naive_path() -> None:
    x, directions = torch.randn(300, 16), random_directions(16, 40, seed=1)
    exact = sigreg(x.double(), directions, backend="naive")
    # sums of 300 float32 numbers, 17 rotations
    torch.testing.assert_close(sigreg(x, directions).double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize(("shape", "knots"), [((2, 5, 7), 17), ((1, 70, 3), 5), ((1, 300, 17), 4), ((1, 1, 1), 2)])
def test_kernel_value_and_gradient(shape: tuple[int, ...], knots: int, kernel_device: torch.device) -> None:
    u = torch.randn(shape)
    ours, reference = u.clone().to(kernel_device).requires_grad_(), u.double().requires_grad_()
    found = epps_pulley(ours, knots=knots, backend="triton")
    expected = epps_pulley(reference, knots=knots, backend="naive")
    torch.testing.assert_close(found.double().cpu(), expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(expected)
    (found * weights.to(found)).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad.double().cpu(), reference.grad, rtol=1e-4, atol=1e-5)


def test_kernel_refuses_float64(kernel_device: torch.device) -> None:
    with pytest.raises(ConfigError, match="float64"):
        epps_pulley(torch.zeros(2, 2, dtype=torch.float64, device=kernel_device), backend="triton")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    x, directions = torch.randn(64, 8).to(dtype), random_directions(8, 16, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = sigreg(x, directions)
    assert value.dtype == torch.float32
    # the same rounded inputs: float32's own error only
    torch.testing.assert_close(value.double(), sigreg(x.double(), directions), rtol=1e-5, atol=0)


def test_views_are_averaged() -> None:
    x, directions = torch.randn(3, 2, 10, 4), random_directions(4, 8, seed=0)
    each = torch.stack([sigreg(view, directions) for view in x.flatten(0, 1)])
    torch.testing.assert_close(sigreg(x, directions), each.mean())


def test_collapse_is_a_saddle() -> None:
    x = torch.zeros(16, 4, requires_grad=True)
    value = sigreg(x, random_directions(4, 8, seed=0))
    value.backward()
    # 0.402048 a sample
    assert value.item() == pytest.approx(0.402048 * 16, rel=1e-5)
    assert x.grad.abs().max() == 0


def test_descent_makes_embeddings_isotropic() -> None:
    x = (0.01 * torch.randn(128, 8)).requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.05)
    for step in range(60):
        optimizer.zero_grad()
        sigreg(x, random_directions(8, 64, seed=step)).backward()
        optimizer.step()
    covariance = torch.cov(x.detach().T)
    assert 0.7 < covariance.diagonal().mean() < 1.3
    assert (covariance - torch.diag(covariance.diagonal())).abs().mean() < 0.1


def test_halves_of_a_batch_reduce_to_the_whole() -> None:
    x, directions = torch.randn(10, 4, dtype=torch.float64), random_directions(4, 8, seed=0)
    other = []
    # what the other rank would add: its sums and its count
    sigreg(x[6:], directions, reduce=lambda part: other.append(part) or part)
    parts = iter(other)
    mine = x[:6].clone().requires_grad_()
    value = sigreg(mine, directions, reduce=lambda part: part + next(parts))
    whole = x.clone().requires_grad_()
    expected = sigreg(whole, directions)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, whole.grad[:6])


def test_one_process_sums_nothing() -> None:
    tensor = torch.ones(2)
    assert sum_over_ranks(tensor) is tensor


def test_directions_are_unit_vectors_of_a_seed() -> None:
    a, b, c = (random_directions(16, 8, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    torch.testing.assert_close(a.norm(dim=0), torch.ones(8))


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ShapeError, match="directions"):
        sigreg(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(ShapeError, match="N > 0"):
        sigreg(torch.zeros(0, 3), torch.zeros(3, 2))
    with pytest.raises(ConfigError, match="knots"):
        sigreg(torch.zeros(4, 3), torch.zeros(3, 2), knots=1)


RANK = """
import sys, torch, torch.distributed as dist
from ct_vlm.ops.sigreg import random_directions, sigreg, sum_over_ranks
rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
mine = x[6 * rank : 6 * rank + 6].clone().requires_grad_()
value = sigreg(mine, random_directions(4, 8, seed=0), reduce=sum_over_ranks)
value.backward()
torch.save({"value": value.detach(), "grad": mine.grad}, out)
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    outputs = [tmp_path / f"{rank}.pt" for rank in range(2)]
    commands = [[sys.executable, "-c", RANK, str(rank), str(tmp_path / "store"), str(outputs[rank])] for rank in (0, 1)]
    running = [subprocess.Popen(command) for command in commands]
    assert [process.wait(120) for process in running] == [0, 0]
    found = [torch.load(path, weights_only=True) for path in outputs]
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    expected = sigreg(x, random_directions(4, 8, seed=0))
    expected.backward()
    for part in found:
        torch.testing.assert_close(part["value"], expected.detach())
    # DDP averages the ranks' gradients of shared weights, here of the samples
    torch.testing.assert_close(torch.cat([part["grad"] for part in found]) / 2, x.grad)
