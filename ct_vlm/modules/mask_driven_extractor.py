"""Two tokens a mask: what the features show inside it, and where it lies.

Paper: MedRegion-CT, https://arxiv.org/abs/2506.23102 (mask-driven visual extractor).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

import torch
from torch import nn

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import VisualContext
from ct_vlm.modules.base import Connector
from ct_vlm.modules.mask_occupancy import Binarize, Grid, mask_index, mask_occupancy
from ct_vlm.ops.mask_pool import mask_pool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ct_vlm.features import Features
    from ct_vlm.modules.r2_token_pooling import R2TokenPooling
    from ct_vlm.ops.mask_pool import RegionIndex


@dataclass
class SegmentationTokens:
    """Tokens of masks, and which masks hold anything.

    Args:
        tokens: Mask token and spatial token of each region.
        present: Whether the region's mask has a voxel in a slice that is not padding.

    Shape:
        - tokens: ``(B, R, 2, E)``.
        - present: ``(B, R)``.
    """

    tokens: Tensor
    present: Tensor


class MaskDrivenVisualExtractor(Connector):
    """Turn every region mask into a mask token and a spatial token, at fixed places.

    The mask token sums linear projections of each level's features, averaged over the mask; the
    spatial token is an MLP of the pooled and flattened mask. Region r has tokens 2 r and 2 r + 1
    whatever the masks hold. An **empty mask** averages to zeros, so that its tokens are constants of
    the biases: finite, and the same for every sample; ``absent_embedding`` replaces them by learned
    ones.

    With ``pooling`` features and masks are pooled by R² at the same slices first (the paper's
    form). Without it masks are pooled on the full 3D maps, each level on its own grid (our
    extension): a label map of any number of regions is then read without making a mask a region.

    Args:
        level_dims: Channels of the encoder's levels.
        embed_dim: Width E of the decoder.
        num_regions: Masks R.
        levels: Levels that mask tokens are made of; all by default.
        hidden_dim: Width of the projections and of the MLP (1024 in Osprey's code).
        pooling: R² pooling without a projection of its own, with the settings of the connector
            that makes the vision tokens; None takes the full maps.
        num_slices: Slices D of a volume; needed with ``pooling``, as the spatial token reads
            ``pooling.num_tokens(D)`` places.
        spatial_grid: Grid on which the spatial token sees a mask, without ``pooling`` (ours).
        binarize: ``"soft"`` weighs a place by how much of it the mask covers; ``"osprey"`` by 1
            where the mask touches it, which widens small masks. The spatial token is always soft.
        absent_embedding: Whether empty masks get two learned tokens.

    Shape:
        - Input: :class:`~ct_vlm.features.Features`; the batch holds ``region_masks``,
          ``(B, R, D, H, W)`` or a label map ``(B, D, H, W)`` with labels 1 to R, of any H and W
          (and, without ``pooling``, any D) that shows the same volume.
        - Output: :class:`~ct_vlm.features.VisualContext` with ``tokens (B, 2 * R, E)``.

    Raises:
        ConfigError: If levels, pooling and options do not fit together.
        ShapeError: If masks and features do not fit.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import MaskDrivenVisualExtractor
        >>> extractor = MaskDrivenVisualExtractor((8,), 16, 3, hidden_dim=4, spatial_grid=(2, 2, 2))
        >>> features = Features([torch.rand(1, 24, 8)], [(2, 3, 4)])
        >>> labels = torch.randint(0, 4, (1, 8, 12, 12))
        >>> extractor(features, {"region_masks": labels}).tokens.shape
        torch.Size([1, 6, 16])

    References:
        MedRegion-CT, arXiv 2506.23102, section 3.3. The layers follow Osprey (arXiv 2312.10032), which
        the paper's MAIRA-SEG builds on; that sizes are the same is inferred. Differs from Osprey: masks are pooled
        by area, not resized bilinearly, and places are weighted softly by default.
    """

    def __init__(
        self,
        level_dims: Sequence[int],
        embed_dim: int,
        num_regions: int = 6,
        *,
        levels: Sequence[int] | None = None,
        hidden_dim: int = 1024,
        pooling: R2TokenPooling | None = None,
        num_slices: int | None = None,
        spatial_grid: Grid = (16, 16, 16),
        binarize: Binarize = "soft",
        absent_embedding: bool = False,
    ) -> None:
        super().__init__()
        _check_options(pooling, num_slices, binarize)
        self.level_dims, self.num_regions = tuple(level_dims), num_regions
        self.levels = _check_levels(levels, len(level_dims))
        self.pooling, self.num_slices = pooling, num_slices
        self.spatial_grid: Grid = (spatial_grid[0], spatial_grid[1], spatial_grid[2])
        self.binarize: Binarize = binarize
        places = self.spatial_grid[0] * self.spatial_grid[1] * self.spatial_grid[2]
        if pooling is not None and num_slices is not None:
            places = pooling.num_tokens(num_slices)
        self.level_projections = nn.ModuleList(nn.Linear(level_dims[level], hidden_dim) for level in self.levels)
        self.mask_out = nn.Linear(hidden_dim, embed_dim)
        self.spatial = nn.Sequential(
            nn.Linear(places, hidden_dim), nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim), nn.ReLU(),
            nn.Linear(hidden_dim, embed_dim),
        )  # fmt: skip
        # small, as the tokens of untrained layers are
        self.absent = nn.Parameter(0.02 * torch.randn(2, embed_dim)) if absent_embedding else None

    @property
    def needs(self) -> tuple[str, ...]:
        """Masks, and what the pooling needs."""
        return ("region_masks", *(self.pooling.needs if self.pooling is not None else ()))

    def forward(self, features: Features, batch: Mapping[str, Any] | None = None) -> VisualContext:
        """Return two tokens a region, in the order of the regions."""
        return VisualContext(self.extract(features, batch).tokens.flatten(1, 2))

    def extract(self, features: Features, batch: Mapping[str, Any] | None = None) -> SegmentationTokens:
        """Return the tokens a region, and which regions have a mask that is not empty."""
        masks = self._masks(features, batch)
        if self.pooling is None:
            pooled, places = self._on_maps(features, masks)
        else:
            pooled, places = self._on_region_tokens(features, batch or {}, masks)
        projected = [project(level) for project, level in zip(self.level_projections, pooled, strict=True)]
        mask_token = self.mask_out(torch.stack(projected).sum(0))
        spatial_token = self.spatial(places.to(self.mask_out.weight.dtype))
        tokens = torch.stack([mask_token, spatial_token], dim=2)
        present = (places > 0).any(-1)
        if self.absent is not None:
            tokens = torch.where(present[..., None, None], tokens, self.absent.to(tokens.dtype))
        return SegmentationTokens(tokens, present)

    def _on_maps(self, features: Features, masks: Tensor) -> tuple[list[Tensor], Tensor]:
        """Average full maps over masks; return one average a level and the masks on the spatial grid."""
        indices: dict[Grid, RegionIndex] = {}
        pooled = []
        for level in self.levels:
            grid, tokens = features.grids[level], features.levels[level]
            if grid not in indices:
                indices[grid] = mask_index(masks, grid, self.num_regions, self.binarize).to(tokens.device)
            pooled.append(mask_pool(tokens, indices[grid]))
        places = mask_occupancy(masks, self.spatial_grid, self.num_regions).flatten(2)
        return pooled, places.to(pooled[0].device)

    def _on_region_tokens(
        self, features: Features, batch: Mapping[str, Any], masks: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """Average R²-pooled features over masks that are pooled at the same slices."""
        pooling = cast("R2TokenPooling", self.pooling)
        if features.shared is None:
            features = replace(features, shared={})
        covered: dict[Grid, Tensor] = {}
        pooled = []
        for level in self.levels:
            grid = features.grids[level]
            if grid[0] != self.num_slices:
                cause = f"The extractor is built for {self.num_slices} slices, but level {level} has {grid[0]}."
                raise ShapeError(cause, "Bring volumes to that many slices, or build it with `num_slices`.")
            chosen = pooling.pool_features(features, batch, level)
            if grid not in covered:
                covered[grid] = pooling.pool_masks(masks, chosen, grid[1:], self.num_regions)
            weights = (covered[grid] > 0).float() if self.binarize == "osprey" else covered[grid]
            pooled.append(_average(chosen.tokens, weights))
        return pooled, covered[features.grids[self.levels[0]]]

    def _masks(self, features: Features, batch: Mapping[str, Any] | None) -> Tensor:
        """Return the masks of a batch, empty where slices are padding."""
        masks: Tensor | None = None if batch is None else batch.get("region_masks")
        if masks is None:
            msg = "The mask-driven extractor needs masks, and the batch holds no `region_masks`."
            raise ShapeError(msg, "Use a data set with masks, or leave the extractor out.")
        padding = features.padding_mask
        if padding is None:
            return masks
        if masks.shape[-3] != padding.shape[1]:
            cause = f"Masks have {masks.shape[-3]} slices, but the padding mask has {padding.shape[1]}."
            raise ShapeError(cause, "Give masks and features the same slices.")
        padding = padding.bool().to(masks.device)[:, :, None, None]
        return masks.masked_fill(padding if masks.ndim == 4 else padding[:, None], 0)


def _average(tokens: Tensor, weights: Tensor) -> Tensor:
    """Average tokens ``(B, N, C)`` by weights ``(B, R, N)``, in float32 or better; 0 without weight."""
    dtype = torch.promote_types(tokens.dtype, torch.float32)
    kind = tokens.device.type
    # shapes can be worked out on the meta device, which has no autocast
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        total = weights.sum(-1, keepdim=True)
        share = weights / torch.where(total > 0, total, 1.0)
        return (share.to(dtype) @ tokens.to(dtype)).to(tokens.dtype)


def _check_options(pooling: R2TokenPooling | None, num_slices: int | None, binarize: str) -> None:
    if binarize not in get_args(Binarize):
        cause = f"Expected `binarize` to be one of {get_args(Binarize)}, but got {binarize!r}."
        raise ConfigError(cause, "Use 'soft'.")
    if pooling is None:
        return
    if num_slices is None or num_slices < 1:
        cause = f"With `pooling`, the spatial token reads a fixed number of places, but `num_slices` is {num_slices}."
        raise ConfigError(cause, "Pass the number of slices of a volume, e.g. 32.")
    if pooling.project is not None:
        cause = "The `pooling` of the extractor has a projection of its own, which would not be used."
        raise ConfigError(cause, "Build it without `embed_dim`, with the other settings of the connector's.")


def _check_levels(levels: Sequence[int] | None, count: int) -> tuple[int, ...]:
    chosen = range(count) if levels is None else levels
    if not chosen or not all(-count <= level < count for level in chosen):
        cause = f"`levels` {levels} are not among the {count} levels of `level_dims`."
        raise ConfigError(cause, "Count levels from 0, fine to coarse.")
    return tuple(level % count for level in chosen)
