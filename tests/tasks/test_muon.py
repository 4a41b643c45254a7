from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ct_vlm.tasks import OptimizerConfig
from ct_vlm.tasks.muon import Muon, orthogonalize, takes_muon


def reference_iteration(matrix, steps=5):
    """One matrix at a time, in float64, as published."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.double()
    transposed = x.shape[0] > x.shape[1]
    x = x.T if transposed else x
    x = x / x.norm()
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if transposed else x


@pytest.mark.parametrize("shape", [(5, 5), (3, 11), (11, 3), (1, 4)])
def test_orthogonalize_is_the_published_iteration(shape):
    torch.manual_seed(0)
    matrices = torch.randn(4, *shape)
    expected = torch.stack([reference_iteration(m) for m in matrices])
    torch.testing.assert_close(orthogonalize(matrices).double(), expected, atol=2e-5, rtol=2e-5)


def test_singular_values_come_near_one_and_scale_does_not_matter():
    torch.manual_seed(0)
    matrices = torch.randn(2, 8, 24)
    values = torch.linalg.svdvals(orthogonalize(matrices))
    assert values.min() > 0.6
    assert values.max() < 1.3
    torch.testing.assert_close(orthogonalize(1e3 * matrices), orthogonalize(matrices))


def test_zero_gradient_gives_a_finite_step():
    assert torch.equal(orthogonalize(torch.zeros(1, 3, 4)), torch.zeros(1, 3, 4))


def step_once(parameter, grad, **options):
    parameter.grad = grad
    optimizer = Muon([{"params": [parameter], "use_muon": True}], **options)
    optimizer.step()
    return optimizer


def test_step_follows_the_formula_with_decay_and_momentum():
    torch.manual_seed(0)
    start, grad = torch.randn(4, 6), torch.randn(4, 6)
    parameter = nn.Parameter(start.clone())
    step_once(parameter, grad, lr=0.1, weight_decay=0.5)
    update = reference_iteration(grad) * 0.2 * 6**0.5  # the first Nesterov direction is parallel to the gradient
    torch.testing.assert_close(parameter.double(), start.double() * (1 - 0.05) - 0.1 * update, atol=2e-5, rtol=2e-5)


def test_update_has_the_size_of_adamw():
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.zeros(64, 32))
    step_once(parameter, torch.randn(64, 32), lr=1.0, weight_decay=0.0)
    assert parameter.detach().square().mean().sqrt() == pytest.approx(0.2, rel=0.25)


def test_agrees_with_torchs_muon_on_one_step():
    torch_muon = getattr(torch.optim, "Muon", None)
    if torch_muon is None:
        pytest.skip("this torch has no Muon")
    torch.manual_seed(0)
    start, grads = torch.randn(16, 24), [torch.randn(16, 24) for _ in range(3)]
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.95}
    first = Muon([{"params": [ours], "use_muon": True}], **settings)
    second = torch_muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)
    for grad in grads:
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        first.step()
        second.step()
    # theirs iterates in bfloat16: 8 bits of mantissa on updates of about 0.01 a step
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_other_parameters_step_like_adamw():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    twin = copy.deepcopy(layer)
    settings = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.95)}
    optimizers = [Muon(layer.parameters(), **settings), torch.optim.AdamW(twin.parameters(), **settings)]
    for _ in range(3):
        for module, optimizer in zip((layer, twin), optimizers, strict=True):
            optimizer.zero_grad()
            module(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(layer.weight, twin.weight)
    torch.testing.assert_close(layer.bias, twin.bias)


def test_convolutions_count_as_matrices_and_missing_gradients_are_passed_over():
    conv, idle = nn.Conv3d(2, 3, 3), nn.Parameter(torch.ones(3, 3))
    conv(torch.randn(1, 2, 4, 4, 4)).sum().backward()
    before = conv.weight.detach().clone()
    Muon([{"params": [conv.weight, idle], "use_muon": True}], lr=0.1).step()
    assert not torch.equal(conv.weight, before)
    assert torch.equal(idle, torch.ones(3, 3))


def test_state_survives_a_save_and_the_next_step_is_the_same(tmp_path):
    def make():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        return net, OptimizerConfig("muon", 0.01).build(net.named_parameters(), 10)["optimizer"]

    def advance(net, optimizer):
        optimizer.zero_grad()
        net(torch.eye(4)).square().sum().backward()
        optimizer.step()

    net, optimizer = make()
    advance(net, optimizer)
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "c.pt")
    advance(net, optimizer)
    again, fresh = make()
    saved = torch.load(tmp_path / "c.pt", weights_only=True)
    again.load_state_dict(saved["net"])
    fresh.load_state_dict(saved["optimizer"])
    advance(again, fresh)
    torch.testing.assert_close(dict(net.named_parameters()), dict(again.named_parameters()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("lm.layers.0.fc1.weight", (4, 4), True),
        ("encoder.stem.weight", (4, 1, 3, 3, 3), True),
        ("attention.in_proj_weight", (12, 4), True),
        ("lm.embed_tokens.weight", (9, 4), False),
        ("transformer.wte.weight", (9, 4), False),
        ("lm_head.weight", (9, 4), False),
        ("norm.weight", (4,), False),
        ("head.queries", (18, 4), False),
        ("label_embedding", (18, 4), False),
    ],
)
def test_which_parameters_take_muon(name, shape, expected):
    assert takes_muon(name, torch.zeros(shape)) is expected


def test_config_splits_the_parameters_and_keeps_part_rates():
    model = nn.ModuleDict({"encoder": nn.Linear(2, 3), "head": nn.Linear(3, 2)})
    optimizer = OptimizerConfig("muon", 1.0, lr_factors={"encoder": 0.1}).build(model.named_parameters(), 10)[
        "optimizer"
    ]
    groups = {(g["initial_lr"], g["use_muon"]): sum(p.numel() for p in g["params"]) for g in optimizer.param_groups}
    assert groups == {(0.1, True): 6, (0.1, False): 3, (1.0, True): 6, (1.0, False): 2}
