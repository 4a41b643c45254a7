"""R² token pooling: one global token a slice, and region tokens of the slices that represent regions.

Paper: MedRegion-CT, https://arxiv.org/abs/2506.23102.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import nn

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import VisualContext
from ct_vlm.modules.base import Connector
from ct_vlm.modules.mask_occupancy import mask_occupancy
from ct_vlm.ops.region_pool import mask_slice_counts, region_pool, region_slice_counts, representative_slices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from ct_vlm.features import Features

GLOBAL, REGION = 0, 1
"""Kinds of tokens in ``RegionTokens.kind_ids``."""

R2_PRESETS: dict[str, dict[str, Any]] = {
    # inferred: the paper gives 356 tokens and one slice a region; 32 + 6 * 9 * 6 = 356
    "medregion": {"num_slow": 6, "slow_grid": (9, 6), "policy": "region_argmax"},
    # inferred: the ablation's rule of four uniform slices at half resolution; 32 + 4 * 9 * 9 = 356
    "lita": {"num_slow": 4, "slow_grid": (9, 9), "policy": "uniform"},
}
"""Settings of :meth:`R2TokenPooling.from_preset`; both give 356 tokens for 32 slices of 18 x 18."""

_NEEDS: dict[str, tuple[str, ...]] = {"region_argmax": ("region_masks",), "uniform": (), "given": ("slice_index",)}
_POLICIES = tuple(_NEEDS)


@dataclass
class RegionTokens:
    """Tokens of R² pooling and where each comes from.

    Args:
        tokens: D global tokens in the order of the slices, then K blocks of region tokens, rows of
            a block one after another.
        kind_ids: 0 for a global token, 1 for a region token.
        slice_ids: Slice that each token comes from.
        slice_index: Slice that was chosen for each of the K blocks.
        present: Whether the slice was chosen by the policy; False where a region is empty and the
            slice is the fallback.
        valid: False where the token comes from a padded slice; such tokens are 0.

    Shape:
        - tokens: ``(B, N, C)`` with ``N = D + K * h * w``.
        - kind_ids, slice_ids, valid: ``(B, N)``.
        - slice_index, present: ``(B, K)``.
    """

    tokens: Tensor
    kind_ids: Tensor
    slice_ids: Tensor
    slice_index: Tensor
    present: Tensor
    valid: Tensor


class R2TokenPooling(Connector):
    """Pool slice tokens to one global token a slice and a coarse grid of K representative slices.

    As a connector it projects the pooled tokens linearly to the decoder's width. Without
    ``embed_dim`` it has no parameters, and :meth:`pool` works on bare tensors.

    The slice of a region is the one with most voxels of its mask (of equal ones the first). An
    empty region gets the slice that uniform sampling would give it among the real ones, and its
    ``present`` flag is False (inferred: the paper does not say). Padded slices are never chosen and
    their global tokens are 0 before the projection. Two regions may choose the same slice: the
    number and the places of tokens never change.

    Args:
        level_dims: Channels of the encoder's levels; needed with ``embed_dim``.
        embed_dim: Width E of the decoder; None leaves the pooled tokens as they are.
        num_slow: Slices K that are kept in detail; with ``region_argmax`` one for each mask.
        slow_grid: Token grid ``(h, w)`` that a kept slice is pooled to, by adaptive averages.
        policy: ``"region_argmax"`` (the paper's), ``"uniform"`` (the LITA ablation), or
            ``"given"``: ``slice_index`` of the call or the batch.
        level: Encoder level whose tokens are pooled.

    Shape:
        - Input: :class:`~ct_vlm.features.Features` of a slice encoder; the batch holds
          ``region_masks``, ``(B, K, D, H, W)`` or a label map ``(B, D, H, W)`` with labels 1 to K,
          of any H and W (``region_argmax``), or ``slice_index``, int64 ``(B, K)`` (``given``).
        - Output: :class:`~ct_vlm.features.VisualContext` with ``tokens (B, D + K * h * w, E)``.

    Raises:
        ConfigError: If the policy is unknown, or a projection is asked for without ``level_dims``.
        ShapeError: If the batch lacks what the policy needs, or masks and slices do not fit.

    Example:
        >>> import torch
        >>> from ct_vlm.modules import R2TokenPooling
        >>> masks = torch.zeros(1, 6, 32, 20, 20, dtype=torch.uint8)
        >>> pooled = R2TokenPooling().pool(torch.rand(1, 32, 18 * 18, 8), (18, 18), region_masks=masks)
        >>> pooled.tokens.shape, pooled.present.any().item()
        (torch.Size([1, 356, 8]), False)

    References:
        MedRegion-CT, arXiv 2506.23102, section 3.2; the connector is linear there. K = 6 and the
        grid of 9 x 6 are inferred from 356 tokens. LITA, arXiv 2403.19046, samples slices uniformly.
    """

    def __init__(
        self,
        level_dims: Sequence[int] | None = None,
        embed_dim: int | None = None,
        *,
        num_slow: int = 6,
        slow_grid: tuple[int, int] = (9, 6),
        policy: Literal["region_argmax", "uniform", "given"] = "region_argmax",
        level: int = -1,
    ) -> None:
        super().__init__()
        if policy not in _POLICIES:
            cause = f"Expected `policy` to be one of {_POLICIES}, but got {policy!r}."
            raise ConfigError(cause, "Use 'region_argmax'.")
        if num_slow < 1 or min(slow_grid) < 1:
            cause = f"Expected positive `num_slow` and `slow_grid`, but got {num_slow} and {tuple(slow_grid)}."
            raise ConfigError(cause, "Use 6 and (9, 6).")
        self.level_dims = None if level_dims is None else tuple(level_dims)
        self.num_slow, self.slow_grid = num_slow, (slow_grid[0], slow_grid[1])
        self.policy, self.level = policy, level
        self.project: nn.Linear | None = None
        if embed_dim is not None:
            if self.level_dims is None or not -len(self.level_dims) <= level < len(self.level_dims):
                cause = (
                    f"A projection to `embed_dim` {embed_dim} needs the channels of level {level}, not {level_dims}."
                )
                raise ConfigError(cause, "Pass `encoder.level_dims`.")
            self.project = nn.Linear(self.level_dims[level], embed_dim)

    @classmethod
    def from_preset(
        cls, name: str, level_dims: Sequence[int] | None = None, embed_dim: int | None = None, **changes: Any
    ) -> Self:
        """Build the pooling of a preset: ``"medregion"`` or ``"lita"``.

        Args:
            name: Key of :data:`R2_PRESETS`; a config records its settings, not the name.
            level_dims: Channels of the encoder's levels.
            embed_dim: Width of the decoder.
            changes: Arguments that differ from the preset.
        """
        if name not in R2_PRESETS:
            cause = f"There is no R² preset {name!r}."
            raise ConfigError(cause, f"Use one of {', '.join(sorted(R2_PRESETS))}.")
        return cls(level_dims, embed_dim, **{**R2_PRESETS[name], **changes})

    @property
    def needs(self) -> tuple[str, ...]:
        """What the policy chooses slices by."""
        return _NEEDS[self.policy]

    def num_tokens(self, num_slices: int) -> int:
        """Return the number of tokens for a volume of so many slices."""
        return num_slices + self.num_slow * self.slow_grid[0] * self.slow_grid[1]

    def forward(self, features: Features, batch: Mapping[str, Any] | None = None) -> VisualContext:
        """Return the pooled and projected tokens of one encoder level."""
        pooled = self.pool_features(features, batch).tokens
        return VisualContext(pooled if self.project is None else self.project(pooled))

    def pool_features(
        self, features: Features, batch: Mapping[str, Any] | None = None, level: int | None = None
    ) -> RegionTokens:
        """Pool one level of an encoder's features, before the projection.

        Within a pass of a model (``features.shared``), poolings of equal settings work together: slices
        are chosen once, and a level is pooled once.

        Args:
            features: Features whose grid keeps every slice.
            batch: Holds what the policy needs.
            level: Level to pool; that of the connector by default.
        """
        level = range(len(features.levels))[self.level if level is None else level]
        found = batch or {}
        region_masks, slice_index = found.get("region_masks"), found.get("slice_index")
        pooled = self._shared(features, region_masks, slice_index)
        if level not in pooled:
            slices, height, width = features.grids[level]
            tokens, grid = features.levels[level].unflatten(1, (slices, height * width)), (height, width)
            if pooled:  # slices are chosen once for all levels
                chosen = next(iter(pooled.values()))
                pooled[level] = replace(chosen, tokens=self.pool_like(tokens, chosen, grid))
            else:
                options = {"region_masks": region_masks, "slice_index": slice_index}
                pooled[level] = self.pool(tokens, grid, **options, padding_mask=features.padding_mask)
        return pooled[level]

    def _shared(
        self, features: Features, region_masks: Tensor | None, slice_index: Tensor | None
    ) -> dict[int, RegionTokens]:
        """Return the levels that were pooled in this way in the same pass, to be added to."""
        if features.shared is None:
            return {}
        key = (R2TokenPooling, self.num_slow, self.slow_grid, self.policy)
        masks, index, pooled = features.shared.get(key, (None, None, {}))
        if masks is not region_masks or index is not slice_index:
            pooled = {}
        features.shared[key] = (region_masks, slice_index, pooled)
        return pooled

    def choose(self, features: Features, batch: Mapping[str, Any] | None = None) -> tuple[Tensor, Tensor]:
        """Return the slices that pooling keeps in detail, without reading a token.

        Args:
            features: Features whose grid keeps every slice.
            batch: Holds what the policy needs.

        Shape:
            - output: slices ``(B, K)``, and ``(B, K)`` whether the policy chose them.
        """
        tokens, found = features.levels[self.level], batch or {}
        size = (tokens.shape[0], features.grids[self.level][0])
        padding = _padding(features.padding_mask, size, tokens.device)
        return self._select(padding, found.get("region_masks"), found.get("slice_index"))

    def pool(
        self,
        tokens: Tensor,
        grid: tuple[int, int],
        *,
        region_masks: Tensor | None = None,
        slice_index: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> RegionTokens:
        """Choose slices and pool tokens of every slice.

        Args:
            tokens: Tokens of each slice, without class tokens.
            grid: Height and width of a slice's token grid.
            region_masks: Masks or a label map, for ``region_argmax``.
            slice_index: Chosen slices, for ``given``.
            padding_mask: True where a slice is padding.

        Shape:
            - tokens: ``(B, D, N, C)``.
            - padding_mask: ``(B, D)``.
        """
        if tokens.ndim != 4:
            cause = f"Expected `tokens` as (B, D, N, C), but got {tuple(tokens.shape)}."
            raise ShapeError(cause, "Split slices and the tokens of a slice into two axes.")
        batch, slices = tokens.shape[:2]
        padding = _padding(padding_mask, (batch, slices), tokens.device)
        index, present = self._select(padding, region_masks, slice_index)
        cells = self.slow_grid[0] * self.slow_grid[1]
        every = torch.arange(slices, device=tokens.device).expand(batch, -1)
        slice_ids = torch.cat([every, index.repeat_interleave(cells, dim=1)], dim=1)
        kind_ids = torch.full_like(slice_ids, REGION)
        kind_ids[:, :slices] = GLOBAL
        valid = ~padding.gather(1, slice_ids)
        return RegionTokens(self._pool_at(tokens, index, grid, valid), kind_ids, slice_ids, index, present, valid)

    def pool_like(self, tokens: Tensor, chosen: RegionTokens, grid: tuple[int, int]) -> Tensor:
        """Pool other tokens at the same slices, e.g. those of another level.

        Args:
            tokens: Tokens of each slice.
            chosen: What :meth:`pool` returned for the first tokens.
            grid: Height and width of a slice's token grid, which may differ.

        Shape:
            - tokens: ``(B, D, N, C)``.
            - output: ``(B, D + K * h * w, C)``.
        """
        return self._pool_at(tokens, chosen.slice_index, grid, chosen.valid)

    def pool_masks(self, region_masks: Tensor, chosen: RegionTokens, grid: tuple[int, int], num_regions: int) -> Tensor:
        """Pool masks at the places of pooled tokens: how much of each place a mask covers.

        Args:
            region_masks: Masks ``(B, R, D, H, W)`` or a label map ``(B, D, H, W)``.
            chosen: What :meth:`pool` returned for the tokens.
            grid: Height and width of a slice's token grid.
            num_regions: R.

        Shape:
            - output: float32 ``(B, R, N)``, in [0, 1].
        """
        slices = chosen.tokens.shape[1] - self.num_tokens(0)
        covered = mask_occupancy(region_masks, (slices, *grid), num_regions).to(chosen.tokens.device)
        as_tokens = covered.flatten(3).permute(0, 2, 3, 1)
        return self.pool_like(as_tokens, chosen, grid).transpose(1, 2)

    def _pool_at(self, tokens: Tensor, index: Tensor, grid: tuple[int, int], valid: Tensor) -> Tensor:
        """Return global tokens, then those of the chosen slices; 0 where slices are padding."""
        fast, slow = region_pool(tokens, index, grid=grid, slow_grid=self.slow_grid)
        return torch.cat([fast, slow.flatten(1, 2)], dim=1).masked_fill(~valid[..., None], 0)

    def _select(
        self, padding: Tensor, region_masks: Tensor | None, slice_index: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the chosen slices ``(B, K)`` and whether the policy chose them."""
        batch, slices = padding.shape
        if self.policy == "given":
            return self._given(slice_index, padding)
        if self.policy == "uniform":
            # without counts, representative slices are uniform ones among those that are real
            counts = torch.zeros(batch, self.num_slow, slices, dtype=torch.int64, device=padding.device)
            index, present = representative_slices(counts, ~padding)
            return index, torch.ones_like(present)
        if region_masks is None:
            msg = "R² pooling by `region_argmax` needs masks, and the batch holds no `region_masks`."
            raise ShapeError(msg, "Use a data set with masks, or `policy='uniform'`.")
        return representative_slices(self._counts(region_masks, batch, slices).to(padding.device), ~padding)

    def _counts(self, region_masks: Tensor, batch: int, slices: int) -> Tensor:
        """Count the voxels of each region in each slice."""
        if region_masks.ndim == 4:
            counts = region_slice_counts(region_masks, self.num_slow)
        else:
            counts = mask_slice_counts(region_masks)
        if tuple(counts.shape) != (batch, self.num_slow, slices):
            cause = (
                f"`region_masks` {tuple(region_masks.shape)} do not give {self.num_slow} regions "
                f"of {batch} volume(s) with {slices} slices."
            )
            raise ShapeError(
                cause, "Set `num_slow` to the number of masks, and keep every slice in the encoder's grid."
            )
        return counts

    def _given(self, slice_index: Tensor | None, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Check slices that were chosen by the caller."""
        batch, slices = padding.shape
        if slice_index is None or tuple(slice_index.shape) != (batch, self.num_slow):
            shape = None if slice_index is None else tuple(slice_index.shape)
            cause = f"Expected `slice_index` as {(batch, self.num_slow)}, but got {shape}."
            raise ShapeError(cause, "Put int64 `slice_index` (B, K) into the batch, or use another policy.")
        index = slice_index.to(padding.device, torch.int64)
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < slices:
            cause = f"`slice_index` holds {int(index.min())} to {int(index.max())}, but there are {slices} slices."
            raise ShapeError(cause, "Count slices from 0.")
        return index, torch.ones_like(index, dtype=torch.bool)


def _padding(padding_mask: Tensor | None, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return one flag a slice, True where it is padding."""
    if padding_mask is None:
        return torch.zeros(size, dtype=torch.bool, device=device)
    if tuple(padding_mask.shape) != size:
        cause = f"Expected `padding_mask` as {size}, but got {tuple(padding_mask.shape)}."
        raise ShapeError(cause, "Pass one flag a slice, True where it is padding.")
    return padding_mask.to(device, torch.bool)
