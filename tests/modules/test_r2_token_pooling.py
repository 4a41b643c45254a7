from __future__ import annotations

import copy

import pytest
import torch

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import Features
from ct_vlm.modules import R2TokenPooling

GRID = (5, 4)


def masks_of(batch: int = 2, regions: int = 3, slices: int = 7) -> torch.Tensor:
    return (torch.rand(batch, regions, slices, 11, 9) < 0.3).to(torch.uint8)


def reference(tokens, index, grid, slow_grid):
    """The pooling as loops over samples, slices and cells, in float64."""
    tokens = tokens.double()
    out = []
    for sample, chosen in zip(tokens, index.tolist(), strict=True):
        rows = [slice_tokens.mean(0) for slice_tokens in sample]
        for d in chosen:
            image = sample[d].view(*grid, -1)
            for i in range(slow_grid[0]):
                top, bottom = i * grid[0] // slow_grid[0], -(-(i + 1) * grid[0] // slow_grid[0])
                for j in range(slow_grid[1]):
                    left, right = j * grid[1] // slow_grid[1], -(-(j + 1) * grid[1] // slow_grid[1])
                    rows.append(image[top:bottom, left:right].mean((0, 1)))
        out.append(torch.stack(rows))
    return torch.stack(out)


def largest_slices(masks, padding=None):
    """The slice of each region, as loops."""
    chosen = []
    for b, sample in enumerate(masks):
        row = []
        for mask in sample:
            areas = [
                int((one != 0).sum()) if padding is None or not padding[b, d] else -1 for d, one in enumerate(mask)
            ]
            row.append(areas.index(max(areas)))
        chosen.append(row)
    return torch.tensor(chosen)


@pytest.mark.parametrize("preset", ["medregion", "lita"])
def test_presets_give_the_papers_number_of_tokens(preset):
    pooling = R2TokenPooling.from_preset(preset, (16,), 24)
    assert pooling.num_tokens(32) == 356
    features = Features([torch.rand(1, 32 * 324, 16)], [(32, 18, 18)])
    masks = torch.randint(0, 7, (1, 32, 20, 20))
    assert pooling(features, {"region_masks": masks}).tokens.shape == (1, 356, 24)


def test_values_equal_a_reference_of_loops():
    masks = masks_of()
    tokens = torch.randn(2, 7, 20, 6)
    pooled = R2TokenPooling(num_slow=3, slow_grid=(3, 2)).pool(tokens, GRID, region_masks=masks)
    expected = largest_slices(masks)
    assert pooled.slice_index.tolist() == expected.tolist()
    torch.testing.assert_close(pooled.tokens.double(), reference(tokens, expected, GRID, (3, 2)), atol=1e-6, rtol=1e-5)


def test_tokens_say_where_they_come_from():
    index = torch.tensor([[4, 1]])
    pooled = R2TokenPooling(num_slow=2, slow_grid=(1, 2), policy="given").pool(
        torch.rand(1, 5, 20, 2), GRID, slice_index=index
    )
    assert pooled.slice_ids.tolist() == [[0, 1, 2, 3, 4, 4, 4, 1, 1]]
    assert pooled.kind_ids.tolist() == [[0] * 5 + [1] * 4]
    assert pooled.valid.all()


def test_ties_take_the_first_slice_and_empty_regions_a_uniform_one_with_a_flag():
    masks = torch.zeros(1, 3, 6, 4, 4, dtype=torch.uint8)
    masks[0, 0, [2, 4], :2] = 1
    masks[0, 2, 5, 0, 0] = 1
    pooled = R2TokenPooling(num_slow=3, slow_grid=(1, 1)).pool(torch.rand(1, 6, 20, 2), GRID, region_masks=masks)
    assert pooled.slice_index.tolist() == [[2, 3, 5]]
    assert pooled.present.tolist() == [[True, False, True]]


def test_uniform_slices_do_not_depend_on_masks():
    pooling = R2TokenPooling(num_slow=4, slow_grid=(1, 1), policy="uniform")
    assert pooling.pool(torch.rand(1, 32, 20, 2), GRID).slice_index.tolist() == [[4, 12, 20, 28]]


def test_a_label_map_selects_the_slices_that_its_masks_select():
    labels = torch.randint(0, 4, (2, 7, 11, 9))
    masks = torch.stack([labels == region + 1 for region in range(3)], 1)
    tokens = torch.rand(2, 7, 20, 2)
    pooling = R2TokenPooling(num_slow=3, slow_grid=(2, 2))
    a, b = (pooling.pool(tokens, GRID, region_masks=m) for m in (labels, masks))
    assert torch.equal(a.slice_index, b.slice_index)
    assert torch.equal(a.tokens, b.tokens)
    torch.testing.assert_close(pooling.pool_masks(labels, a, GRID, 3), pooling.pool_masks(masks, b, GRID, 3))


def test_permuting_regions_permutes_their_blocks():
    masks, order = masks_of(), torch.tensor([2, 0, 1])
    tokens = torch.rand(2, 7, 20, 4)
    pooling = R2TokenPooling(num_slow=3, slow_grid=(2, 2))
    first = pooling.pool(tokens, GRID, region_masks=masks).tokens
    second = pooling.pool(tokens, GRID, region_masks=masks[:, order]).tokens
    assert torch.equal(second[:, :7], first[:, :7])
    blocks = first[:, 7:].unflatten(1, (3, 4))
    assert torch.equal(second[:, 7:].unflatten(1, (3, 4)), blocks[:, order])


@pytest.mark.parametrize("policy", ["region_argmax", "uniform"])
def test_padded_slices_are_never_chosen_and_change_nothing(policy):
    masks, tokens = masks_of(), torch.randn(2, 7, 20, 4)
    masks[:, 1] = 0
    pooling = R2TokenPooling(num_slow=3, slow_grid=(2, 2), policy=policy)
    alone = pooling.pool(tokens, GRID, region_masks=masks)
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[:, 7:] = True
    # what lies in padded slices must not matter, not even where it is no number
    longer = torch.cat([tokens, torch.full((2, 2, 20, 4), torch.nan)], 1).requires_grad_()
    more = torch.cat([masks, torch.ones(2, 3, 2, 11, 9, dtype=torch.uint8)], 2)
    padded = pooling.pool(longer, GRID, region_masks=more, padding_mask=padding)
    assert torch.equal(padded.slice_index, alone.slice_index)
    assert torch.equal(padded.present, alone.present)
    assert torch.equal(padded.tokens[:, :7], alone.tokens[:, :7])
    assert torch.equal(padded.tokens[:, 9:], alone.tokens[:, 7:])
    assert (padded.tokens[:, 7:9] == 0).all()
    assert padded.valid.tolist() == [[True] * 7 + [False] * 2 + [True] * 12] * 2
    padded.tokens.sum().backward()
    assert (longer.grad[:, 7:] == 0).all()
    covered = pooling.pool_masks(more, padded, GRID, 3)
    assert (covered[:, :, 7:9] == 0).all()


def test_a_sample_of_padding_alone_is_finite():
    padding = torch.ones(1, 4, dtype=torch.bool)
    masks = torch.ones(1, 2, 4, 3, 3)
    pooled = R2TokenPooling(num_slow=2, slow_grid=(1, 1)).pool(
        torch.full((1, 4, 20, 3), torch.inf), GRID, region_masks=masks, padding_mask=padding
    )
    assert (pooled.tokens == 0).all()
    assert not pooled.valid.any()
    assert not pooled.present.any()


def test_a_batch_is_its_samples():
    masks, tokens = masks_of(3), torch.randn(3, 7, 20, 4)
    pooling = R2TokenPooling(num_slow=3, slow_grid=(2, 3))
    together = pooling.pool(tokens, GRID, region_masks=masks).tokens
    for b in range(3):
        alone = pooling.pool(tokens[b : b + 1], GRID, region_masks=masks[b : b + 1]).tokens
        torch.testing.assert_close(alone[0], together[b])


@pytest.mark.parametrize(
    ("slices", "grid", "slow_grid"), [(1, (1, 1), (1, 1)), (1, (3, 5), (2, 2)), (5, (7, 3), (9, 6))]
)
def test_one_slice_odd_sizes_and_finer_slow_grids(slices, grid, slow_grid):
    masks = masks_of(2, 2, slices)
    tokens = torch.randn(2, slices, grid[0] * grid[1], 3)
    pooled = R2TokenPooling(num_slow=2, slow_grid=slow_grid).pool(tokens, grid, region_masks=masks)
    expected = reference(tokens, largest_slices(masks), grid, slow_grid)
    torch.testing.assert_close(pooled.tokens.double(), expected, atol=1e-6, rtol=1e-5)


def test_pooled_masks_are_pooled_like_tokens():
    masks, tokens = masks_of(), torch.rand(2, 7, 20, 4)
    pooling = R2TokenPooling(num_slow=3, slow_grid=(2, 2))
    chosen = pooling.pool(tokens, GRID, region_masks=masks)
    covered = torch.nn.functional.adaptive_avg_pool2d(masks.flatten(0, 1).double(), GRID).view(2, 3, 7, 20)
    expected = reference(covered.permute(0, 2, 3, 1), chosen.slice_index, GRID, (2, 2)).transpose(1, 2)
    found = pooling.pool_masks(masks, chosen, GRID, 3)
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-5)
    assert 0 <= found.min() <= found.max() <= 1


def test_gradients_reach_tokens_and_the_projection():
    connector = R2TokenPooling((4, 6), 8, num_slow=3, slow_grid=(2, 2))
    levels = [torch.randn(2, 7 * 20, c, requires_grad=True) for c in (4, 6)]
    tokens = connector(Features(levels, [(7, *GRID)] * 2), {"region_masks": masks_of()}).tokens
    (tokens * torch.randn_like(tokens)).sum().backward()
    assert all((p.grad != 0).any() for p in connector.parameters())
    assert levels[0].grad is None
    assert (levels[1].grad != 0).all()


def test_gradients_equal_those_of_the_reference():
    masks = masks_of(1)
    tokens = torch.randn(1, 7, 20, 3, dtype=torch.float64, requires_grad=True)
    pooling = R2TokenPooling(num_slow=3, slow_grid=(3, 2))
    weights = torch.randn(1, 7 + 18, 3, dtype=torch.float64)
    (found,) = torch.autograd.grad((pooling.pool(tokens, GRID, region_masks=masks).tokens * weights).sum(), tokens)
    expected = (reference(tokens, largest_slices(masks), GRID, (3, 2)) * weights).sum()
    torch.testing.assert_close(found, torch.autograd.grad(expected, tokens)[0])


def test_bf16_keeps_its_dtype():
    connector = R2TokenPooling((4,), 8, num_slow=3, slow_grid=(2, 2)).bfloat16()
    features = Features([torch.randn(2, 140, 4).bfloat16()], [(7, *GRID)])
    tokens = connector(features, {"region_masks": masks_of()}).tokens
    assert tokens.dtype == torch.bfloat16
    assert torch.isfinite(tokens).all()


def test_round_trip_and_copy(tmp_path):
    connector = R2TokenPooling.from_preset("lita", (4, 6), 8, slow_grid=(2, 3), level=0)
    assert connector.to_config()["init_args"]["policy"] == "uniform"
    connector.save_pretrained(tmp_path)
    features = Features([torch.randn(1, 140, c) for c in (4, 6)], [(7, *GRID)] * 2)
    for other in (Component.from_pretrained(tmp_path), copy.deepcopy(connector)):
        assert torch.equal(other(features).tokens, connector(features).tokens)


def test_the_batch_gives_slices_for_the_policy_given():
    connector = R2TokenPooling(num_slow=2, slow_grid=(1, 1), policy="given")
    features = Features([torch.randn(1, 140, 4)], [(7, *GRID)])
    index = torch.tensor([[6, 6]])
    assert connector.pool_features(features, {"slice_index": index}).slice_index.tolist() == [[6, 6]]
    for wrong in (None, torch.tensor([[1]]), torch.tensor([[0, 7]]), torch.tensor([[-1, 0]])):
        with pytest.raises(ShapeError, match="slice"):
            connector(features, {"slice_index": wrong})


def test_what_does_not_fit_is_refused():
    tokens = torch.rand(1, 7, 20, 2)
    pooling = R2TokenPooling(num_slow=3, slow_grid=(2, 2))
    with pytest.raises(ShapeError, match="no `region_masks`"):
        pooling.pool(tokens, GRID)
    for regions, slices in ((2, 7), (3, 6)):
        with pytest.raises(ShapeError, match="region_masks"):
            pooling.pool(tokens, GRID, region_masks=masks_of(1, regions, slices))
    with pytest.raises(ShapeError, match="padding_mask"):
        pooling.pool(tokens, GRID, region_masks=masks_of(1), padding_mask=torch.zeros(1, 6))
    with pytest.raises(ShapeError, match="tokens"):
        pooling.pool(tokens[0], GRID, region_masks=masks_of(1))
    for kwargs in (
        {"policy": "best"},
        {"num_slow": 0},
        {"embed_dim": 8},
        {"level_dims": (4,), "embed_dim": 8, "level": 1},
    ):
        with pytest.raises(ConfigError):
            R2TokenPooling(**kwargs)
    with pytest.raises(ConfigError, match="preset"):
        R2TokenPooling.from_preset("r3")


def test_unselected_slices_are_not_copied():
    """Nothing larger than the pooled tokens is ever made."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Sizes(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in torch.utils._pytree.tree_leaves(out):
                if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in given:
                    self.largest = max(self.largest, tensor.numel())
            return out

    tokens, masks = torch.rand(2, 32, 324, 16), masks_of(2, 6, 32)
    given = {tensor.untyped_storage().data_ptr() for tensor in (tokens, masks)}
    with Sizes() as sizes, torch.no_grad():
        pooled = R2TokenPooling().pool(tokens, (18, 18), region_masks=masks)
    assert 0 < sizes.largest <= pooled.tokens.numel()
