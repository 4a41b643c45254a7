"""Zone-constrained cross-attention: a few tokens a volume, each of which sees one zone of slices.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (eq. 1 to 4, the "Z-zoned Perceiver").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import torch
from torch import nn

from ct_vlm.errors import ConfigError, ShapeError
from ct_vlm.features import VisualContext
from ct_vlm.modules.base import Connector
from ct_vlm.modules.mask_occupancy import mask_occupancy
from ct_vlm.modules.slice_position import sinusoidal_position, slice_positions
from ct_vlm.modules.streaming_covariance import StreamingCovariance, covariance_of
from ct_vlm.modules.zone_assignment import ZoneRows, count_zones, mask_zones
from ct_vlm.modules.zone_weights import zone_weights
from ct_vlm.ops.weights import AttentionWeights
from ct_vlm.ops.zone_attention import zone_attention_block

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ct_vlm.features import Features

Zones = Literal["count", "masks"]
ZOrder = Literal["head_to_foot", "foot_to_head"]
EmptyZones = Literal["nearest", "learned"]
Position = Literal["sinusoidal", "none"]


class ZoneConstrainedCrossAttention(Connector):
    """Z zones along the body, and Q learned queries a zone that attend to its slices and to no others.

    Slice i of N is in zone ``(i * Z) // N``: zones hold equally many slices, are contiguous, and token 0 is
    at the apex, the last at the base. Volumes of a batch may differ in N. Then transformer layers let the
    zones' tokens see each other.

    With ``zones="masks"`` a zone is what a mask touches, for instance a lobe: zones may overlap, and each
    keeps its place in the sequence whatever the volume shows. On features with several cells a slice, masks
    choose cells; zones by count take all cells of their slices.

    Args:
        embed_dim: Width E of queries and tokens.
        num_zones: Zones Z.
        num_heads: Attention heads.
        queries_per_zone: Queries Q of each zone; token ``z * Q + q`` is query q of zone z.
        in_dim: Width C of the slices' embeddings; ``embed_dim`` unless given.
        zones: ``"count"`` or ``"masks"``.
        mask_key: Key of the batch for ``"masks"``: Z masks ``(B, Z, D, H, W)`` of voxels, a label map, or
            flags ``(B, Z, N)`` of slices.
        z_order: Order of the slices. ``"head_to_foot"`` is canonical; ``"foot_to_head"`` (the order of most
            NIfTI files) begins the zones at the last slice.
        empty_zones: What a zone without slices sees: ``"nearest"`` is the slice next to its middle (zones by
            count), ``"learned"`` makes its tokens learned ones.
        position: ``"sinusoidal"`` adds an embedding of the distance in mm from the first slice; ``"none"``
            adds nothing and needs no positions.
        position_base: Base of its wavelengths.
        norm: Whether slices pass a LayerNorm before they are projected.
        residual: Whether queries are added to what they gathered.
        num_layers: Transformer layers over the tokens.
        hidden_dim: Width of their feed-forward networks.
        dropout: Within them.
        level: Level of the features.

    Shape:
        - Input: :class:`~ct_vlm.features.Features` of ``(B, N, C)``.
        - Output: :class:`~ct_vlm.features.VisualContext` with ``tokens (B, Z * Q, E)``.

    Raises:
        ConfigError: If options do not fit together.
        ShapeError: If slices have another width, masks or positions are missing, or a volume is all padding.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import ZoneConstrainedCrossAttention
        >>> zones = ZoneConstrainedCrossAttention(16, num_zones=4, num_heads=2, hidden_dim=32)
        >>> padding = torch.arange(9) >= torch.tensor([[9], [5]])
        >>> features = Features([torch.randn(2, 9, 16)], [(9, 1, 1)], padding_mask=padding)
        >>> zones(features, {"spacing": torch.tensor([[3.0, 1.0, 1.0], [5.0, 1.0, 1.0]])}).tokens.shape
        torch.Size([2, 4, 16])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: 32 zones, 16 heads, width 1024, one ``nn.TransformerEncoderLayer``.
        Inferred: mm as unit and 10000 as base of the positions, LayerNorm on the slices and no residual
        (eq. 3 has none), 2048 as hidden width, torch's defaults of the layer (dropout 0.1, norms behind),
        what an empty zone sees, and how the queries come from a singular value decomposition. Several
        queries a zone and zones by masks are ours. Keys have no bias, as it would have no effect.
    """

    def __init__(
        self,
        embed_dim: int = 1024,
        num_zones: int = 32,
        num_heads: int = 16,
        *,
        queries_per_zone: int = 1,
        in_dim: int | None = None,
        zones: Zones = "count",
        mask_key: str = "region_masks",
        z_order: ZOrder = "head_to_foot",
        empty_zones: EmptyZones = "nearest",
        position: Position = "sinusoidal",
        position_base: float = 10000.0,
        norm: bool = True,
        residual: bool = False,
        num_layers: int = 1,
        hidden_dim: int = 2048,
        dropout: float = 0.1,
        level: int = -1,
    ) -> None:
        super().__init__()
        _check_choices(zones=(zones, Zones), z_order=(z_order, ZOrder), position=(position, Position))
        _check_choices(empty_zones=(empty_zones, EmptyZones))
        _check_sizes(embed_dim, num_zones, num_heads, queries_per_zone)
        if zones == "masks" and empty_zones == "nearest":
            cause = "A zone that is given by a mask has no nearest slice where the mask is empty."
            raise ConfigError(cause, 'Pass `empty_zones="learned"`.')
        channels = embed_dim if in_dim is None else in_dim
        self.embed_dim, self.in_dim, self.num_zones, self.num_heads = embed_dim, channels, num_zones, num_heads
        self.queries_per_zone, self.num_tokens = queries_per_zone, num_zones * queries_per_zone
        self.zones, self.mask_key, self.level = zones, mask_key, level
        self.reverse, self.borrow = z_order == "foot_to_head", empty_zones == "nearest"
        self.position_base = position_base if position == "sinusoidal" else None
        self.residual = residual
        self.queries = nn.Parameter(torch.randn(num_zones, queries_per_zone, embed_dim) * 0.02)
        self.empty_tokens = None if self.borrow else nn.Parameter(torch.zeros(num_zones, queries_per_zone, embed_dim))
        self.norm = nn.LayerNorm(channels) if norm else nn.Identity()
        self.query_proj, self.out_proj = nn.Linear(embed_dim, embed_dim), nn.Linear(embed_dim, embed_dim)
        # softmax cancels a bias of the keys: it would get no gradient, which distributed training refuses
        self.key_proj = nn.Linear(channels, embed_dim, bias=False)
        self.value_proj = nn.Linear(channels, embed_dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(embed_dim, num_heads, hidden_dim, dropout, batch_first=True)
            for _ in range(num_layers)
        )
        self._reset_parameters()

    @property
    def needs(self) -> tuple[str, ...]:
        """The masks, where zones are made of them."""
        return (self.mask_key,) if self.zones == "masks" else ()

    def forward(self, features: Features, batch: Mapping[str, Any] | None = None) -> VisualContext:
        """Return the zones' tokens."""
        return VisualContext(self.tokens(features, batch))

    def tokens(self, features: Features, batch: Mapping[str, Any] | None = None) -> Tensor:
        """Return the zones' tokens, ``(B, Z * Q, E)``."""
        tokens = self.gather(features, batch)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens

    def gather(self, features: Features, batch: Mapping[str, Any] | None = None) -> Tensor:
        """Return what the queries gathered, before the transformer layers, ``(B, Z * Q, E)``."""
        found, slices = self._packed(features, batch)
        queries = self.queries.to(slices.dtype)
        gathered = zone_attention_block(queries, slices, found.layout, self._weights(), num_heads=self.num_heads)
        if self.residual:
            gathered = gathered + queries
        if self.empty_tokens is not None:
            empty = ~found.present.unflatten(1, (-1, 1, 1))
            gathered = torch.where(empty, self.empty_tokens.to(gathered.dtype), gathered)
        return gathered.flatten(1, 2)

    @torch.no_grad()
    def attention(self, features: Features, batch: Mapping[str, Any] | None = None) -> Tensor:
        """Return how much each token looks at each slice (or cell), averaged over heads.

        Shape:
            - Output: ``(B, Z * Q, N)``; a row sums to 1, or is 0 for a zone without slices.
        """
        found, slices = self._packed(features, batch)
        query, key = self.query_proj(self.queries.to(slices.dtype)), self.key_proj(slices)
        heads = (self.num_heads, -1)
        packed = zone_weights(query.unflatten(-1, heads), key.unflatten(-1, heads), found.layout)
        batch_size, num_cells = features.levels[self.level].shape[:2]
        dense = packed.new_zeros(self.num_zones * self.queries_per_zone, batch_size * num_cells)
        for query_index in range(self.queries_per_zone):
            lengths = torch.tensor(found.layout.lengths, device=packed.device)
            zone = torch.arange(len(lengths), device=packed.device).repeat_interleave(lengths) % self.num_zones
            dense.index_put_((zone * self.queries_per_zone + query_index, found.rows), packed[:, query_index])
        return dense.unflatten(1, (batch_size, num_cells)).transpose(0, 1)

    def find_zones(self, features: Features, batch: Mapping[str, Any] | None = None) -> ZoneRows:
        """Return which slices (or cells) each zone holds."""
        depth, height, width = features.grids[self.level]
        valid = self._valid(features)
        if self.zones == "count":
            found = count_zones(valid, self.num_zones, reverse=self.reverse, borrow=self.borrow)
            return found.repeat(height * width)
        masks = None if batch is None else batch.get(self.mask_key)
        if masks is None:
            cause = f"The batch holds no `{self.mask_key}`, which the zones are made of."
            raise ShapeError(cause, 'Add the masks to the batch, or build the zones with `zones="count"`.')
        masks = masks.to(valid.device)
        if masks.ndim == 3:
            return mask_zones(self._checked_flags(masks), valid).repeat(height * width)
        cells = (mask_occupancy(masks, (depth, height, width), self.num_zones) > 0).flatten(2)
        return mask_zones(cells, valid.repeat_interleave(height * width, dim=1))

    @torch.no_grad()
    def init_queries_(self, embeddings: Tensor | StreamingCovariance) -> Self:
        """Set the queries to the directions along which slices differ most, as long as a slice is.

        Args:
            embeddings: Slices of the training data ``(M, C)``, at least ten thousand for a paper-sized model
                (inferred); or statistics of them.

        Raises:
            ConfigError: If slices and queries differ in width.
            ShapeError: If there are too few slices for so many queries.
        """
        if self.in_dim != self.embed_dim:
            cause = f"Slices of width {self.in_dim} give no queries of width {self.embed_dim}."
            raise ConfigError(cause, "Initialise queries only where `in_dim` equals `embed_dim`.")
        seen = embeddings if isinstance(embeddings, StreamingCovariance) else covariance_of(embeddings)
        directions, _ = seen.directions(self.num_tokens)
        # the root of E|x|^2 = |mean|^2 + trace of the covariance is the length of a typical slice
        length = (seen.mean.square().sum() + seen.covariance().diagonal().sum()).sqrt()
        self.queries.copy_((directions * length).view_as(self.queries))
        return self

    def _packed(self, features: Features, batch: Mapping[str, Any] | None) -> tuple[ZoneRows, Tensor]:
        """Return the zones and their slices, with places added and normalised."""
        level = features.levels[self.level]
        if level.shape[-1] != self.in_dim:
            cause = f"Expected slices of width {self.in_dim}, but got {tuple(level.shape)}."
            raise ShapeError(cause, "Build the zones with `in_dim` of the encoder's level.")
        found = self.find_zones(features, batch)
        slices = level.flatten(0, 1)[found.rows]
        if self.position_base is not None:
            valid = self._valid(features)
            position = slice_positions(features, batch, valid, reverse=self.reverse)
            cells = level.shape[1] // valid.shape[1]
            place = position.flatten()[found.rows // cells]
            slices = slices + sinusoidal_position(place, self.in_dim, self.position_base).to(slices.dtype)
        return found, self.norm(slices)

    def _valid(self, features: Features) -> Tensor:
        """Return which slices are no padding, ``(B, D)``."""
        level, depth = features.levels[self.level], features.grids[self.level][0]
        if features.padding_mask is None:
            return torch.ones(level.shape[0], depth, dtype=torch.bool, device=level.device)
        return ~features.padding_mask.to(level.device).bool()

    def _checked_flags(self, flags: Tensor) -> Tensor:
        if flags.shape[1] != self.num_zones:
            cause = f"Expected flags of {self.num_zones} zones, but got {tuple(flags.shape)}."
            raise ShapeError(cause, "Set `num_zones` to the number of masks.")
        return flags

    def _weights(self) -> AttentionWeights:
        parts = (self.query_proj, self.key_proj, self.value_proj, self.out_proj)
        return AttentionWeights(*(part.weight for part in parts), *(part.bias for part in parts))

    def _reset_parameters(self) -> None:
        """Initialise the projections as ``nn.MultiheadAttention`` does."""
        for part in (self.query_proj, self.key_proj, self.value_proj):
            nn.init.xavier_uniform_(part.weight)
        for part in (self.query_proj, self.value_proj, self.out_proj):
            nn.init.zeros_(part.bias)


def _check_choices(**values: tuple[str, Any]) -> None:
    for name, (value, kind) in values.items():
        if value not in get_args(kind):
            cause = f"Expected `{name}` to be one of {', '.join(get_args(kind))}, but got {value!r}."
            raise ConfigError(cause, "Choose one of them.")


def _check_sizes(embed_dim: int, num_zones: int, num_heads: int, queries_per_zone: int) -> None:
    if embed_dim % num_heads:
        cause = f"Expected `num_heads` to divide `embed_dim`, but got {num_heads} and {embed_dim}."
        raise ConfigError(cause, "Change one of them.")
    if min(num_zones, queries_per_zone) < 1:
        cause = f"Expected at least one zone and one query, but got {num_zones} and {queries_per_zone}."
        raise ConfigError(cause, "The paper has 32 zones with one query each.")
