from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import Features
from ct_vlm.modules import MaskDrivenVisualExtractor, R2TokenPooling

DIMS, REGIONS, SLICES, GRID = (4, 6), 3, 5, (4, 3)


def pooling(**changes) -> R2TokenPooling:
    return R2TokenPooling(**{"num_slow": REGIONS, "slow_grid": (2, 2), **changes})


def extractor(form: str = "r2", **changes) -> MaskDrivenVisualExtractor:
    given = {"pooling": pooling(), "num_slices": SLICES} if form == "r2" else {"spatial_grid": (2, 3, 2)}
    return MaskDrivenVisualExtractor(DIMS, 8, REGIONS, **{"hidden_dim": 7, **given, **changes})


def slice_features(batch: int = 2, slices: int = SLICES) -> Features:
    levels = [torch.randn(batch, slices * 12, c) for c in DIMS]
    return Features(levels, [(slices, *GRID)] * 2)


def volume_features(batch: int = 2) -> Features:
    return Features.from_maps(
        [torch.randn(batch, c, *size) for c, size in zip(DIMS, [(5, 6, 7), (3, 3, 4)], strict=True)]
    )


def features_of(form: str, batch: int = 2) -> Features:
    return slice_features(batch) if form == "r2" else volume_features(batch)


def masks_of(batch: int = 2) -> torch.Tensor:
    return (torch.rand(batch, REGIONS, SLICES, 10, 9) < 0.3).to(torch.uint8)


def mlp(layers, x):
    for layer in layers:
        x = x @ layer.weight.double().T + layer.bias.double() if isinstance(layer, torch.nn.Linear) else x.clamp(min=0)
    return x


def reference(module, features, masks, *, binarize="soft"):
    """Both tokens of every mask as loops over samples and regions, in float64."""
    out = []
    for b in range(len(masks)):
        row = []
        for r in range(masks.shape[1]):
            mask, total = masks[b, r].double()[None, None], 0.0
            for level, project in zip(module.levels, module.level_projections, strict=True):
                tokens = features.levels[level][b].double()
                weights = F.adaptive_avg_pool3d(mask, features.grids[level]).flatten()
                if module.pooling is not None:
                    tokens, weights = (r2_loops(x, features.grids[level], masks[b]) for x in (tokens, weights[:, None]))
                    weights = weights[:, 0]
                weights = (weights > 0).double() if binarize == "osprey" else weights
                mean = sum((w * t for w, t in zip(weights, tokens, strict=True)), torch.zeros_like(tokens[0]))
                mean = mean / weights.sum() if weights.sum() > 0 else mean
                total = total + mlp([project], mean)
            if module.pooling is None:
                place = F.adaptive_avg_pool3d(mask, module.spatial_grid).flatten()
            else:
                covered = F.adaptive_avg_pool3d(mask, features.grids[0]).flatten()[:, None]
                place = r2_loops(covered, features.grids[0], masks[b])[:, 0]
            row.append(torch.stack([mlp([module.mask_out], total), mlp(module.spatial, place)]))
        out.append(torch.stack(row))
    return torch.stack(out)


def r2_loops(tokens, grid, masks):
    """Slice means, then the chosen slices pooled to 2 x 2."""
    maps = tokens.view(*grid, -1)
    chosen = [int((mask != 0).flatten(1).sum(1).argmax()) for mask in masks]
    fast = [one.mean((0, 1)) for one in maps]
    slow = [F.adaptive_avg_pool2d(maps[d].permute(2, 0, 1), (2, 2)).flatten(1).T for d in chosen]
    return torch.cat([torch.stack(fast), *slow])


@pytest.mark.parametrize("form", ["r2", "maps"])
@pytest.mark.parametrize("binarize", ["soft", "osprey"])
def test_values_equal_a_reference_of_loops(form, binarize):
    module, features, masks = extractor(form, binarize=binarize), features_of(form), masks_of()
    found = module.extract(features, {"region_masks": masks}).tokens
    assert found.shape == (2, REGIONS, 2, 8)
    expected = reference(module, features, masks, binarize=binarize)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", ["r2", "maps"])
def test_a_label_map_gives_what_its_masks_give(form):
    labels = torch.randint(0, REGIONS + 1, (2, SLICES, 10, 9), dtype=torch.uint8)
    masks = torch.stack([labels == region + 1 for region in range(REGIONS)], 1)
    module, features = extractor(form), features_of(form)
    a, b = (module(features, {"region_masks": m}).tokens for m in (labels, masks))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("form", ["r2", "maps"])
@pytest.mark.parametrize("absent", [False, True])
def test_gradients_reach_every_parameter(form, absent):
    module, features, masks = extractor(form, absent_embedding=absent), features_of(form), masks_of()
    masks[0, 1] = 0
    levels = [level.requires_grad_() for level in features.levels]
    tokens = module(features, {"region_masks": masks}).tokens
    (tokens * torch.randn_like(tokens)).sum().backward()
    assert all((p.grad != 0).any() for p in module.parameters())
    assert all((level.grad != 0).any() for level in levels)


@pytest.mark.parametrize("form", ["r2", "maps"])
def test_tokens_keep_their_places_whatever_the_masks_hold(form):
    module, features, masks = extractor(form), features_of(form), masks_of()
    before = module(features, {"region_masks": masks}).tokens
    masks[:, 1] = 0
    found = module.extract(features, {"region_masks": masks})
    after = found.tokens.flatten(1, 2)
    assert after.shape == before.shape == (2, 2 * REGIONS, 8)
    assert found.present.tolist() == [[True, False, True]] * 2
    assert torch.isfinite(after).all()
    # an empty mask says the same of every volume
    torch.testing.assert_close(after[0, 2:4], after[1, 2:4])
    if form == "maps":
        torch.testing.assert_close(after[:, [0, 1, 4, 5]], before[:, [0, 1, 4, 5]])


@pytest.mark.parametrize("form", ["r2", "maps"])
def test_empty_masks_get_the_learned_embedding(form):
    module, features = extractor(form, absent_embedding=True), features_of(form)
    found = module.extract(features, {"region_masks": torch.zeros(2, REGIONS, SLICES, 10, 9, dtype=torch.bool)})
    assert not found.present.any()
    assert torch.equal(found.tokens, module.absent.expand(2, REGIONS, 2, 8))


def test_permuting_regions_permutes_tokens_on_maps():
    module, features, masks = extractor("maps"), volume_features(), masks_of()
    order = torch.tensor([2, 0, 1])
    a = module.extract(features, {"region_masks": masks}).tokens
    b = module.extract(features, {"region_masks": masks[:, order]}).tokens
    torch.testing.assert_close(b, a[:, order])


def test_permuting_regions_permutes_mask_tokens_of_the_r2_form():
    """Spatial tokens read the places in the order of the chosen slices, so they change with it."""
    module, features, masks = extractor(), slice_features(), masks_of()
    order = torch.tensor([2, 0, 1])
    a, b = (module.extract(features, {"region_masks": m}).tokens for m in (masks, masks[:, order]))
    torch.testing.assert_close(b[:, :, 0], a[:, order, 0])


@pytest.mark.parametrize("form", ["r2", "maps"])
def test_a_batch_is_its_samples(form):
    module, features, masks = extractor(form), features_of(form, 3), masks_of(3)
    together = module(features, {"region_masks": masks}).tokens
    for b in range(3):
        one = Features([level[b : b + 1] for level in features.levels], features.grids)
        alone = module(one, {"region_masks": masks[b : b + 1]}).tokens
        torch.testing.assert_close(alone[0], together[b], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("form", ["r2", "maps"])
def test_padded_slices_change_nothing(form):
    features, masks = slice_features(), masks_of()
    module = extractor(form)
    padding = torch.zeros(2, SLICES, dtype=torch.bool)
    padding[:, 3:] = True
    padded = Features(features.levels, features.grids, padding_mask=padding)
    results = []
    for junk in (0.0, 1e3):
        for level in padded.levels:
            level.view(2, SLICES, 12, -1)[:, 3:] = junk
        masks[:, :, 3:] = junk != 0
        results.append(module(padded, {"region_masks": masks}).tokens)
    torch.testing.assert_close(*results)


def test_a_mask_in_padded_slices_alone_is_absent():
    masks = torch.zeros(1, REGIONS, SLICES, 4, 4)
    masks[:, :, 4:] = 1
    features = slice_features(1)
    features.padding_mask = torch.tensor([[False] * 4 + [True]])
    assert not extractor().extract(features, {"region_masks": masks}).present.any()


def test_one_slice_and_one_token():
    module = MaskDrivenVisualExtractor(DIMS, 8, 2, pooling=pooling(num_slow=2), num_slices=1, hidden_dim=5)
    features = Features([torch.randn(1, 1, c) for c in DIMS], [(1, 1, 1)] * 2)
    assert torch.isfinite(module(features, {"region_masks": torch.ones(1, 2, 1, 3, 5)}).tokens).all()


def test_slices_are_those_of_the_connector_beside_it():
    """With given slices, both read the same ones."""
    features, masks = slice_features(1), masks_of(1)
    module = extractor(pooling=pooling(policy="given", num_slow=2))
    batch = {"region_masks": masks, "slice_index": torch.tensor([[4, 0]])}
    before = module(features, batch).tokens
    batch["slice_index"] = torch.tensor([[1, 2]])
    assert not torch.allclose(module(features, batch).tokens, before)


@pytest.mark.parametrize("form", ["r2", "maps"])
def test_bf16_divides_in_float32(form):
    """A sum of thousands of weights is no bf16 number: averages of ones stay ones."""
    features, masks = features_of(form), masks_of()
    ones = Features([torch.ones_like(level).bfloat16() for level in features.levels], features.grids)
    module = extractor(form).bfloat16()
    for project in module.level_projections:
        torch.nn.init.ones_(project.weight)
        torch.nn.init.zeros_(project.bias)
    seen = []
    module.level_projections[0].register_forward_hook(lambda _, args, __: seen.append(args[0]))
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            tokens = module(ones, {"region_masks": masks}).tokens
        assert tokens.dtype == torch.bfloat16
        assert torch.isfinite(tokens).all()
    assert all(x.dtype == torch.bfloat16 and (x == 1).all() for x in seen)


@pytest.mark.parametrize("form", ["r2", "maps"])
def test_round_trip_and_copy(form, tmp_path):
    module = extractor(form, absent_embedding=True, binarize="osprey", levels=(-1,))
    module.save_pretrained(tmp_path)
    features, batch = features_of(form), {"region_masks": masks_of()}
    for other in (Component.from_pretrained(tmp_path), copy.deepcopy(module)):
        assert torch.equal(other(features, batch).tokens, module(features, batch).tokens)


def test_many_regions_on_maps_need_no_mask_a_region():
    """197 regions: nothing as large as a one-hot label map is made, forward or backward."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in torch.utils._pytree.tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    self.size = max(self.size, tensor.untyped_storage().nbytes())
            return out

    regions, grid = 197, (8, 32, 32)
    labels = torch.randint(0, regions + 1, (1, 8, 64, 64), dtype=torch.uint8)
    maps = torch.randn(1, 16, *grid).to(memory_format=torch.channels_last_3d).requires_grad_()
    module = MaskDrivenVisualExtractor((16,), 8, regions, hidden_dim=4, spatial_grid=(2, 2, 2))
    with Largest() as largest:
        tokens = module(Features.from_maps([maps]), {"region_masks": labels}).tokens
        tokens.sum().backward()
    assert tokens.shape == (1, 394, 8)
    cells = grid[0] * grid[1] * grid[2]
    one_hot_bytes = regions * cells * 4
    assert 0 < largest.size < one_hot_bytes / 4


def test_sizes_of_the_paper():
    with torch.device("meta"):
        vision = R2TokenPooling.from_preset("medregion", (768,) * 4, 4096)
        module = MaskDrivenVisualExtractor(
            (768,) * 4, 4096, pooling=R2TokenPooling.from_preset("medregion"), num_slices=32
        )
    assert vision.num_tokens(32) + 2 * module.num_regions == 368
    assert sum(p.numel() for p in vision.parameters()) == 768 * 4096 + 4096 == 3_149_824
    counts = {
        name: sum(p.numel() for p in child.parameters()) for name, child in module.named_children() if name != "pooling"
    }
    assert counts == {"level_projections": 3_149_824, "mask_out": 4_198_400, "spatial": 5_613_568}


def test_what_does_not_fit_is_refused():
    features, masks = slice_features(), masks_of()
    with pytest.raises(ShapeError, match="no `region_masks`"):
        extractor()(features, {})
    with pytest.raises(ShapeError, match="slices"):
        extractor()(slice_features(2, 4), {"region_masks": masks[:, :, :4]})
    for form in ("r2", "maps"):
        with pytest.raises(ShapeError, match="mask"):
            extractor(form)(features_of(form), {"region_masks": masks[:, :2]})
    for changes in (
        {"num_slices": None},
        {"pooling": R2TokenPooling(DIMS, 8)},
        {"binarize": "hard"},
        {"levels": (2,)},
        {"levels": ()},
    ):
        with pytest.raises(ConfigError):
            extractor(**changes)
