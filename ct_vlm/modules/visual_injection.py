"""Multi-layer visual injection: encoder stages routed to decoder layers.

Paper: U-VLM, https://arxiv.org/abs/2603.00479.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from ct_vlm.errors import ConfigError
from ct_vlm.features import VisualContext
from ct_vlm.modules.base import Connector
from ct_vlm.modules.position import GridPositionEmbedding
from ct_vlm.modules.visual_tokens import VisualTokenProjector

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct_vlm.features import Features


class MultiLayerVisualInjection(Connector):
    """Place one encoder level in the prompt and inject the others into decoder layers.

    The deepest level feeds the first decoder layers and the finest used level the last ones; each
    level serves ``layers_per_stage`` layers. Every level is resampled to the same token grid, so
    injected states are aligned in space with the tokens they are added to.

    Args:
        level_dims: Channels of the encoder's levels, fine to coarse.
        embed_dim: Width E of the decoder.
        num_layers: Layers of the decoder.
        source_level: Level whose grid the tokens have, and which is placed in the prompt.
        skip_levels: Number of finest levels left out.
        layers_per_stage: Decoder layers that each level feeds.
        grid: Token grid; that of the source level by default.
        hidden_dim: Width of each level's MLP.
        pool: How a finer level is pooled, see :class:`~ct_vlm.modules.VisualTokenProjector`.
        inject: Whether to inject at all; off gives the input-layer-only ablation.
        position_embedding: Whether prompt tokens carry their place on the grid (inferred; the
            paper's tokens have the decoder's one-dimensional positions only).

    Shape:
        - Input: :class:`~ct_vlm.features.Features`.
        - Output: :class:`~ct_vlm.features.VisualContext` with ``tokens (B, N, E)`` and one
          ``layer_states[l] (B, N, E)`` for each fed layer.

    Raises:
        ConfigError: If levels and layers do not fit.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import MultiLayerVisualInjection
        >>> features = Features([torch.zeros(1, 64, 4), torch.zeros(1, 8, 8)], [(4, 4, 4), (2, 2, 2)])
        >>> connector = MultiLayerVisualInjection((4, 8), 16, num_layers=4, layers_per_stage=2)
        >>> context = connector(features)
        >>> context.tokens.shape, sorted(context.layer_states)
        (torch.Size([1, 8, 16]), [0, 1, 2, 3])

    References:
        U-VLM, arXiv 2603.00479. The paper's 8 layers are (6 stages - 2 skipped) x 2 layers a
        stage (inferred from the authors' code). Differs from the code: spatially aligned levels.
    """

    def __init__(
        self,
        level_dims: Sequence[int],
        embed_dim: int,
        num_layers: int,
        *,
        source_level: int = -1,
        skip_levels: int = 0,
        layers_per_stage: int = 2,
        grid: tuple[int, int, int] | None = None,
        hidden_dim: int = 1024,
        pool: Literal["avg", "max", "avg_max"] = "avg",
        inject: bool = True,
        position_embedding: bool = False,
    ) -> None:
        super().__init__()
        self.level_dims = tuple(level_dims)
        used = list(range(skip_levels, len(level_dims)))
        source = source_level % len(level_dims)
        if source not in used:
            cause = f"`source_level` {source_level} is not among the used levels {used}."
            raise ConfigError(cause, "Lower `skip_levels` or choose a deeper source level.")
        if inject and len(used) * layers_per_stage > num_layers:
            cause = f"{len(used)} levels x {layers_per_stage} layers need more than the decoder's {num_layers} layers."
            raise ConfigError(cause, "Raise `skip_levels` or lower `layers_per_stage`.")
        self.source, self.grid = source, None if grid is None else (grid[0], grid[1], grid[2])
        deepest_first = used[::-1] if inject else []
        self.layer_levels = {
            i * layers_per_stage + j: level for i, level in enumerate(deepest_first) for j in range(layers_per_stage)
        }
        self.projectors = nn.ModuleDict(
            {
                str(level): VisualTokenProjector(level_dims[level], embed_dim, hidden_dim, pool=pool)
                for level in sorted({source, *self.layer_levels.values()})
            }
        )
        self.positions = GridPositionEmbedding(embed_dim) if position_embedding else None

    def forward(self, features: Features, batch: Mapping[str, Any] | None = None) -> VisualContext:
        """Return prompt tokens of the source level and the states of every fed layer."""
        grid = self.grid or features.grids[self.source]
        tokens = {int(level): project(features.map(int(level)), grid) for level, project in self.projectors.items()}
        prompt = tokens[self.source]
        if self.positions is not None:
            prompt = prompt + self.positions(grid)
        return VisualContext(prompt, {layer: tokens[level] for layer, level in self.layer_levels.items()})
