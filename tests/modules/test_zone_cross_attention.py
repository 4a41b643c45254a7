"""Zone-constrained cross-attention against a loop over zones, and on a real chest."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import Features
from ct_vlm.modules import ZoneConstrainedCrossAttention
from ct_vlm.modules.slice_position import sinusoidal_position
from ct_vlm.modules.streaming_covariance import covariance_of
from ct_vlm.transforms import load_volume

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 16


def build(**options: Any) -> ZoneConstrainedCrossAttention:
    arguments = {"embed_dim": WIDTH, "num_zones": 32, "num_heads": 2, "hidden_dim": 32, "dropout": 0.0, **options}
    module = ZoneConstrainedCrossAttention(**arguments)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def ragged(lengths: list[int], width: int = WIDTH, dtype: torch.dtype = torch.float32) -> tuple[Features, dict]:
    """Return features of volumes that differ in slices and spacing; padding is huge, so that a leak shows."""
    longest = max(lengths)
    padding = torch.arange(longest) >= torch.tensor(lengths).unsqueeze(1)
    slices = torch.randn(len(lengths), longest, width, dtype=dtype).masked_fill(padding.unsqueeze(-1), 1e4)
    spacing = torch.tensor([[0.5 + 0.01 * n, 1.0, 1.0] for n in lengths], dtype=dtype)
    return Features([slices.requires_grad_()], [(longest, 1, 1)], padding_mask=padding), {"spacing": spacing}


class Loop(torch.autograd.Function):
    """The paper's equation 3, zone by zone in float64, with its gradient written out."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        q, k, v = (x.numpy() for x in (query, key, value))
        ctx.saved = [(*part, *Loop.weights(q, k, *part)) for part in Loop.zones(len(k), len(q))]
        ctx.arrays = (q, k, v)
        out = np.zeros_like(q)
        for zone, rows, weight in ctx.saved:
            out[zone] = np.einsum("nh,nhd->hd", weight, v[rows])
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        q, k, v = ctx.arrays
        g, scale = grad.numpy(), q.shape[-1] ** -0.5
        dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
        for zone, rows, weight in ctx.saved:
            dv[rows] += weight[:, :, None] * g[zone]
            slope = weight * (v[rows] * g[zone]).sum(-1)
            slope -= weight * slope.sum(0)
            dk[rows] += scale * slope[:, :, None] * q[zone]
            dq[zone] = scale * (slope[:, :, None] * k[rows]).sum(0)
        return torch.from_numpy(dq), torch.from_numpy(dk), torch.from_numpy(dv)

    @staticmethod
    def zones(n: int, count: int) -> list[tuple[int, Any]]:
        """Return the slices of each zone by the paper's interval, or the nearest where there is none."""
        place = np.arange(n) * count
        found = [np.flatnonzero((zone * n <= place) & (place < (zone + 1) * n)) for zone in range(count)]
        nearest = [[min((2 * zone + 1) * n // (2 * count), n - 1)] for zone in range(count)]
        return [(zone, rows if len(rows) else nearest[zone]) for zone, rows in enumerate(found)]

    @staticmethod
    def weights(q: Any, k: Any, zone: int, rows: Any) -> tuple[Any]:
        scores = (k[rows] * q[zone]).sum(-1) * q.shape[-1] ** -0.5
        raised = np.exp(scores - scores.max(0))
        return (raised / raised.sum(0),)


def by_loop(module: ZoneConstrainedCrossAttention, slices: torch.Tensor, spacing: torch.Tensor) -> torch.Tensor:
    """Run the paper's equations 1 to 3 on one volume in float64."""
    # the place itself is exact to float32 only
    encoding = sinusoidal_position(torch.arange(len(slices)) * spacing, slices.shape[1]).double()
    keys = nn.functional.layer_norm(slices + encoding, slices.shape[1:], module.norm.weight, module.norm.bias)
    projected = (module.query_proj(module.queries[:, 0]), module.key_proj(keys), module.value_proj(keys))
    query, key, value = (x.unflatten(-1, (module.num_heads, -1)) for x in projected)
    return module.out_proj(Loop.apply(query, key, value).flatten(1))


def relative(have: torch.Tensor, want: torch.Tensor) -> float:
    return ((have.double() - want).norm() / want.norm()).item()


@pytest.mark.parametrize("first", range(1, 601, 100))
def test_every_number_of_slices_equals_a_loop_over_zones_forward_and_backward(first: int) -> None:
    lengths = list(range(first, first + 100))
    module = build(num_layers=0)
    exact = copy.deepcopy(module).double()
    features, batch = ragged(lengths)
    have = module.gather(features, batch)
    grad = torch.randn_like(have)
    have.backward(grad)
    slices = features.levels[0].detach().double()
    parts = [slices[row, :n].clone().requires_grad_() for row, n in enumerate(lengths)]
    want = [by_loop(exact, part, batch["spacing"][row, 0]) for row, part in enumerate(parts)]
    torch.stack(want).backward(grad.double())
    for row, n in enumerate(lengths):
        assert relative(have[row], want[row]) < 1e-6
        assert relative(features.levels[0].grad[row, :n], parts[row].grad) < 1e-6
        assert not features.levels[0].grad[row, n:].any()
    # sums over the batch cancel, which costs float32 digits in any implementation: compare in float64
    double = copy.deepcopy(module).double()
    double.zero_grad()
    valid = Features([slices], features.grids, padding_mask=features.padding_mask)
    double.gather(valid, batch).backward(grad.double())
    for (name, parameter), reference in zip(double.named_parameters(), exact.parameters(), strict=True):
        assert relative(parameter.grad, reference.grad) < 1e-9, name


def test_the_block_is_torchs_attention_where_there_is_one_zone() -> None:
    module = build(num_zones=1, position="none", norm=False, num_layers=0).double()
    reference = nn.MultiheadAttention(WIDTH, 2, batch_first=True).double()
    parts = (module.query_proj, module.key_proj, module.value_proj)
    reference.in_proj_weight.data = torch.cat([part.weight for part in parts])
    biases = (module.query_proj.bias, torch.randn(WIDTH).double(), module.value_proj.bias)
    reference.in_proj_bias.data = torch.cat(biases)  # that of the keys has no effect
    reference.out_proj.load_state_dict(module.out_proj.state_dict())
    slices = torch.randn(2, 7, WIDTH, dtype=torch.float64)
    queries = module.queries[:, 0].expand(2, -1, -1)
    torch.testing.assert_close(
        module.gather(Features([slices], [(7, 1, 1)])), reference(queries, slices, slices, need_weights=False)[0]
    )


def test_a_batch_gives_what_each_volume_gives_alone() -> None:
    module = build(queries_per_zone=3).eval()
    lengths = [40, 5, 33]
    features, batch = ragged(lengths)
    together = module(features, batch).tokens
    assert together.shape == (3, 96, WIDTH)
    for row, n in enumerate(lengths):
        alone = Features([features.levels[0][row : row + 1, :n]], [(n, 1, 1)])
        tokens = module(alone, {"spacing": batch["spacing"][row : row + 1]}).tokens
        torch.testing.assert_close(tokens[0], together[row], atol=2e-5, rtol=1e-4)


def test_gradients_reach_every_parameter_and_every_slice() -> None:
    module = build(num_zones=4, residual=True)
    features, batch = ragged([9, 2])
    module(features, batch).tokens.square().sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []
    assert features.levels[0].grad[0].abs().sum(-1).min() > 0


def test_a_token_sees_its_zone_only() -> None:
    module = build(num_zones=4, num_layers=0)
    features, batch = ragged([8])
    module.gather(features, batch)[0, 1].sum().backward()
    assert features.levels[0].grad[0].abs().sum(-1).gt(0).tolist() == [False, False, True, True] + [False] * 4


def test_positions_are_in_mm_from_the_first_slice() -> None:
    module = build(num_zones=2).eval()
    slices = torch.randn(1, 6, WIDTH)
    by_spacing = module(Features([slices], [(6, 1, 1)]), {"spacing": torch.tensor([[2.5, 1.0, 1.0]])}).tokens
    position = -200.0 + 2.5 * torch.arange(6).unsqueeze(0)
    by_position = module(Features([slices], [(6, 1, 1)], slice_position_mm=position)).tokens
    torch.testing.assert_close(by_spacing, by_position)
    other = module(Features([slices], [(6, 1, 1)], slice_position_mm=2 * position)).tokens
    assert (other - by_position).abs().max() > 1e-3
    with pytest.raises(ShapeError, match="no position of the slices"):
        module(Features([slices], [(6, 1, 1)]))


def test_slices_from_foot_to_head_give_the_same_tokens_once_they_are_named_so() -> None:
    module = build().eval()
    upside = copy.deepcopy(module)
    upside.reverse = ZoneConstrainedCrossAttention(WIDTH, num_heads=2, z_order="foot_to_head").reverse
    features, batch = ragged([45, 20])
    padding = features.padding_mask
    flipped = torch.stack(
        [
            torch.cat([row[~pad].flip(0), row[pad]])
            for row, pad in zip(features.levels[0].detach(), padding, strict=True)
        ]
    )
    turned = Features([flipped], features.grids, padding_mask=padding)
    torch.testing.assert_close(upside(turned, batch).tokens, module(features, batch).tokens, atol=1e-5, rtol=1e-4)
    assert (module(turned, batch).tokens - module(features, batch).tokens).abs().max() > 1e-2


def uniform_means(z_order: str, width: int) -> ZoneConstrainedCrossAttention:
    """Return zones whose tokens are the means of their slices' embeddings."""
    module = ZoneConstrainedCrossAttention(
        width, 32, 1, z_order=z_order, position="none", norm=False, num_layers=0, hidden_dim=8
    )
    with torch.no_grad():
        module.queries.zero_()
        for part in (module.value_proj, module.out_proj):
            part.weight.copy_(torch.eye(width))
            part.bias.zero_()
    return module


def test_token_0_is_the_apex_of_a_real_chest(shared_data: Path) -> None:
    scan, labels = (shared_data / "cip" / f"chest_ct64{end}.nii.gz" for end in ("", "_cip_labels"))
    volume = load_volume(scan, hu_source="fixed")
    assert volume.axcodes == ("I", "P", "L")
    tokens = {}
    for z_order, axcodes in (("head_to_foot", ("I", "P", "L")), ("foot_to_head", ("S", "P", "L"))):
        image = nib.load(labels)
        wanted = nib.orientations.axcodes2ornt(tuple(reversed(axcodes)))
        turned = nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)
        region = np.asarray(image.as_reoriented(turned).dataobj).transpose(2, 1, 0) & 255
        thirds = [np.isin(region, pair).mean((1, 2)) for pair in ((9, 12), (10, 13), (11, 14))]
        air = (load_volume(scan, hu_source="fixed", axcodes=axcodes).array < -300).mean((1, 2))
        slices = torch.tensor(np.stack([*thirds, air], -1), dtype=torch.float32)[None]
        tokens[z_order] = uniform_means(z_order, 4)(Features([slices], [(slices.shape[1], 1, 1)])).tokens[0].detach()
    torch.testing.assert_close(tokens["head_to_foot"], tokens["foot_to_head"])
    upper, middle, lower = tokens["head_to_foot"][:, :3].T
    centres = [float((part * torch.arange(32)).sum() / part.sum()) for part in (upper, middle, lower)]
    assert centres == sorted(centres)
    lung = torch.stack([upper, middle, lower]).sum(0).nonzero().flatten()
    assert upper[lung[0]] > 0 == lower[lung[0]]
    assert lower[lung[-1]] > 0 == upper[lung[-1]]
    assert lung[0] <= 4


def test_empty_zones_are_learned_on_request() -> None:
    module = build(num_zones=8, empty_zones="learned", num_layers=0)
    features, batch = ragged([3, 8])
    tokens = module.gather(features, batch)
    empty = ~module.find_zones(features, batch).present
    assert empty.sum(1).tolist() == [5, 0]
    torch.testing.assert_close(tokens[0][empty[0]], module.empty_tokens[empty[0], 0])
    assert module.find_zones(features).present[1].all()


def test_masks_of_voxels_are_zones_that_keep_their_places() -> None:
    module = build(num_zones=3, zones="masks", empty_zones="learned", num_layers=0)
    features, batch = ragged([6])
    masks = torch.zeros(1, 3, 12, 4, 4, dtype=torch.uint8)
    masks[0, 0, 2:5, 1, 1] = 1  # slices 1 and 2 of the six
    masks[0, 2, 4:10] = 1  # slices 2 to 4
    weights = module.attention(features, {**batch, "region_masks": masks})
    assert (weights[0] > 0).tolist() == [
        [False, True, True, False, False, False],
        [False] * 6,
        [False, False, True, True, True, False],
    ]
    flags = (weights[0] > 0).unsqueeze(0)
    by_flags = module.gather(features, {**batch, "region_masks": flags})
    torch.testing.assert_close(by_flags, module.gather(features, {**batch, "region_masks": masks}))
    torch.testing.assert_close(by_flags[0, 1], module.empty_tokens[1, 0])
    alone = build(num_zones=1, num_layers=0)
    alone.load_state_dict({**module.state_dict(), "queries": module.queries[2:]}, strict=False)
    rest = Features(
        [features.levels[0][:, 2:5]], [(3, 1, 1)], slice_position_mm=batch["spacing"][:, :1] * torch.arange(2, 5)
    )
    full = module.gather(features, {"spacing": batch["spacing"], "region_masks": flags})
    module.position_base = alone.position_base = None  # the slices alone begin at another place
    torch.testing.assert_close(alone.gather(rest)[0, 0], module.gather(features, {"region_masks": flags})[0, 2])
    assert (full - module.gather(features, {"region_masks": flags})).abs().max() > 1e-4


def test_masks_choose_cells_of_a_slice() -> None:
    module = build(num_zones=2, zones="masks", empty_zones="learned", num_layers=0, position="none")
    features = Features([torch.randn(1, 12, WIDTH)], [(3, 2, 2)])
    masks = torch.zeros(1, 2, 3, 2, 2)
    masks[0, 0, 0, 1, 0] = masks[0, 0, 2, 0, 1] = masks[0, 1] = 1
    weights = module.attention(features, {"region_masks": masks})[0]
    assert weights[0].nonzero().flatten().tolist() == [2, 9]
    assert bool((weights[1] > 0).all())


def test_zones_by_count_take_all_cells_of_their_slices() -> None:
    module = build(num_zones=2, num_layers=0, queries_per_zone=2)
    features = Features([torch.randn(1, 12, WIDTH)], [(3, 2, 2)], padding_mask=torch.zeros(1, 3, dtype=torch.bool))
    weights = module.attention(features, {"spacing": torch.ones(1, 3)})[0]
    assert (weights > 0).sum(1).tolist() == [8, 8, 4, 4]


def test_attention_is_what_the_tokens_are_made_of() -> None:
    module = build(num_zones=4, num_heads=1, num_layers=0, queries_per_zone=2).double()
    features, batch = ragged([9, 3], dtype=torch.float64)
    weights = module.attention(features, batch)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 8, dtype=torch.float64))
    assert not weights[1, :, 3:].any()
    place = batch["spacing"][:, :1] * torch.arange(9)
    values = module.value_proj(module.norm(features.levels[0] + sinusoidal_position(place, WIDTH)))
    torch.testing.assert_close(module.out_proj(weights @ values), module.gather(features, batch))


@pytest.mark.parametrize("statistics", [False, True])
def test_queries_start_as_singular_vectors_of_the_slices(statistics: bool) -> None:
    samples = torch.randn(400, WIDTH, dtype=torch.float64) * torch.linspace(3, 0.1, WIDTH) + 2.0
    module = build(num_zones=4, queries_per_zone=2)
    module.init_queries_(covariance_of(samples) if statistics else samples)
    queries = module.queries.detach().flatten(0, 1).double()
    _, _, vectors = torch.linalg.svd(samples - samples.mean(0), full_matrices=False)
    cosines = nn.functional.cosine_similarity(queries, vectors[:8]).abs()
    torch.testing.assert_close(cosines, torch.ones(8, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(queries.norm(dim=1), samples.norm(dim=1).mean().expand(8), rtol=0.05, atol=0)


def test_too_few_slices_for_the_queries_are_refused() -> None:
    with pytest.raises(ShapeError, match="no 32 principal directions"):
        build(embed_dim=64, hidden_dim=8).init_queries_(torch.randn(20, 64))
    with pytest.raises(ConfigError, match="in_dim"):
        build(in_dim=8).init_queries_(torch.randn(50, 8))


def test_slices_may_be_narrower_than_tokens() -> None:
    module = build(in_dim=6, num_zones=4)
    features, batch = ragged([9], width=6)
    assert module(features, batch).tokens.shape == (1, 4, WIDTH)
    with pytest.raises(ShapeError, match="width 6"):
        module(*ragged([9]))


def test_paper_sizes_on_the_meta_device() -> None:
    with torch.device("meta"):
        module = ZoneConstrainedCrossAttention()
    assert module.num_tokens == 32
    layer = nn.TransformerEncoderLayer(1024, 16, 2048, device="meta")
    attention = 4 * 1024 * 1024 + 3 * 1024
    want = 32 * 1024 + attention + 2 * 1024 + sum(p.numel() for p in layer.parameters())
    assert sum(p.numel() for p in module.parameters()) == want


def test_half_precision_stays_close() -> None:
    module = build().eval()
    features, batch = ragged([64, 20])
    want = module(features, batch).tokens
    half = Features([features.levels[0].bfloat16()], features.grids, padding_mask=features.padding_mask)
    have = copy.deepcopy(module).bfloat16()(half, batch).tokens
    assert have.dtype == torch.bfloat16
    assert (have.float() - want).norm() / want.norm() < 0.02


def test_autocast_stays_close_and_gradients_arrive() -> None:
    module = build(empty_zones="learned", residual=True)
    features, batch = ragged([64, 20])
    want = module(features, batch).tokens.detach()
    with torch.autocast("cpu", torch.bfloat16):
        have = module(features, batch).tokens
    assert (have.float() - want).norm() / want.norm() < 0.02
    have.float().square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_configuration_and_weights_round_trip(tmp_path: Path) -> None:
    module = build(queries_per_zone=2, empty_zones="learned", z_order="foot_to_head").eval()
    again = Component.from_pretrained(module.save_pretrained(tmp_path)).eval()
    features, batch = ragged([11, 40])
    torch.testing.assert_close(again(features, batch).tokens, module(features, batch).tokens, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "divide"),
        ({"zones": "lobes"}, "zones"),
        ({"z_order": "down"}, "z_order"),
        ({"zones": "masks"}, "nearest slice"),
        ({"num_zones": 0}, "at least one zone"),
        ({"empty_zones": "zero"}, "empty_zones"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ZoneConstrainedCrossAttention(**{"embed_dim": WIDTH, **options})


def test_missing_masks_are_named() -> None:
    module = build(num_zones=2, zones="masks", empty_zones="learned")
    features, batch = ragged([4])
    with pytest.raises(ShapeError, match="region_masks"):
        module(features, batch)
    with pytest.raises(ShapeError, match="2 zones"):
        module(features, {**batch, "region_masks": torch.ones(1, 3, 4)})
