"""Classification head with one learnable query a label.

Paper: U-VLM, https://arxiv.org/abs/2603.00479 (stage 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import nn

from ct_vlm.component import Component
from ct_vlm.errors import ConfigError
from ct_vlm.modules.position import GridPositionEmbedding, cell_centres

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ct_vlm.features import Features
    from ct_vlm.modules.presence import PresenceHead


class QueryClassificationHead(Component):
    """Pool encoder tokens with one query a label, then classify.

    Args:
        level_dims: Channels of the encoder's levels, fine to coarse.
        num_labels: Labels K; one query each.
        num_heads: Attention heads.
        levels: Encoder levels whose tokens the queries read.
        embed_dim: Width of queries and tokens; the width of the deepest read level by default.
            A level of another width is projected linearly.
        classifier: ``"joint"`` maps all queries together to the logits (the paper's);
            ``"per_query"`` lets query k decide label k alone, so that its token stands for it.
        position_embedding: Whether keys and values carry their place on the grid (the paper's
            head has none, so its queries cannot tell sides apart).
        presence: Cell-wise evidence on the same levels; the attention of query k is raised where
            the evidence for label k is strong, and its strongest evidence joins the logit.
        presence_offset: Class of ``presence`` that belongs to label 0; label k takes class
            ``presence_offset + k``.

    Shape:
        - Input: :class:`~ct_vlm.features.Features`.
        - Output: logits ``(B, K)``; :meth:`tokens` gives ``(B, K, embed_dim)``.

    Raises:
        ConfigError: If ``num_heads`` does not divide ``embed_dim``, a level does not exist, or
            ``presence`` covers other levels or too few classes.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import QueryClassificationHead
        >>> head = QueryClassificationHead((8,), num_labels=3, num_heads=2)
        >>> head(Features([torch.zeros(2, 6, 8)], [(1, 2, 3)])).shape
        torch.Size([2, 3])

    References:
        U-VLM, arXiv 2603.00479; sizes from the authors' code: 4 heads on the deepest map, 0.52 M
        parameters for 18 labels at width 320. ``levels``, ``per_query``, ``position_embedding``
        and ``presence`` are our extensions.
    """

    def __init__(
        self,
        level_dims: Sequence[int],
        num_labels: int = 18,
        num_heads: int = 4,
        *,
        levels: Sequence[int] = (-1,),
        embed_dim: int | None = None,
        classifier: Literal["joint", "per_query"] = "joint",
        position_embedding: bool = False,
        presence: PresenceHead | None = None,
        presence_offset: int = 0,
    ) -> None:
        super().__init__()
        dims = _select(level_dims, levels)
        width = embed_dim or dims[-1]
        if width % num_heads:
            cause = f"Expected `num_heads` to divide `embed_dim`, but got {num_heads} and {width}."
            raise ConfigError(cause, "Change one of them.")
        self.level_dims, self.levels = tuple(level_dims), tuple(levels)
        self.num_labels, self.embed_dim = num_labels, width
        self.inputs = nn.ModuleList(nn.Identity() if dim == width else nn.Linear(dim, width) for dim in dims)
        self.positions = GridPositionEmbedding(width) if position_embedding else None
        self.queries = nn.Parameter(torch.empty(num_labels, width))
        self.attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(num_labels * width, num_labels) if classifier == "joint" else None
        self.label_weight = nn.Parameter(torch.empty(num_labels, width)) if classifier == "per_query" else None
        self.label_bias = nn.Parameter(torch.zeros(num_labels)) if classifier == "per_query" else None
        self.presence, self.presence_offset = presence, presence_offset
        if presence is not None:
            _check_presence(presence, levels, presence_offset + num_labels)
            self.evidence_scale = nn.Parameter(torch.ones(2, num_labels))
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.queries)
        if self.classifier is not None:
            nn.init.xavier_uniform_(self.classifier.weight)
        if self.label_weight is not None:
            nn.init.xavier_uniform_(self.label_weight)

    def tokens(self, features: Features) -> Tensor:
        """Return one token a label, ``(B, K, embed_dim)``."""
        return self._pool(features, self._evidence(features))

    def logits(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return label logits ``(B, K)`` and the label tokens they come from."""
        evidence = self._evidence(features)
        tokens = self._pool(features, evidence)
        logits = self._classify(tokens)
        if evidence is not None:
            strongest = (evidence.softmax(-1) * evidence).sum(-1)  # a smooth maximum over cells
            logits = logits + self.evidence_scale[1] * strongest
        return logits, tokens

    def places(self, features: Features) -> Tensor | None:
        """Return where the evidence for each label lies: its mean and spread along D, H and W.

        Coordinates run from -1 to 1 over the volume; the result is ``(B, K, 6)``, or None for a
        head without ``presence``.
        """
        evidence = self._evidence(features)
        if evidence is None:
            return None
        grids = [features.grids[level] for level in self.levels]
        cells = torch.cat([cell_centres(grid, evidence.device) for grid in grids]).to(evidence.dtype)
        weights = evidence.softmax(-1)
        mean = weights @ cells
        variance = (weights @ cells.square() - mean.square()).clamp(min=0)
        return torch.cat([mean, variance.sqrt()], dim=-1)

    def forward(self, features: Features) -> Tensor:
        """Return label logits ``(B, K)``."""
        return self.logits(features)[0]

    def _classify(self, tokens: Tensor) -> Tensor:
        if self.classifier is not None:
            return self.classifier(tokens.flatten(1))
        weight, bias = cast("Tensor", self.label_weight), cast("Tensor", self.label_bias)
        return (tokens * weight).sum(-1) + bias

    def _evidence(self, features: Features) -> Tensor | None:
        """Return the evidence for each label in every cell, ``(B, K, N)``."""
        if self.presence is None:
            return None
        labels = slice(self.presence_offset, self.presence_offset + self.num_labels)
        return torch.cat(self.presence(features), dim=1)[..., labels].transpose(1, 2)

    def _pool(self, features: Features, evidence: Tensor | None) -> Tensor:
        """Attend from each label's query to the cells of all read levels."""
        keys = []
        for level, project in zip(self.levels, self.inputs, strict=True):
            x = project(features.levels[level])
            keys.append(x if self.positions is None else x + self.positions(features.grids[level]))
        memory = torch.cat(keys, dim=1)
        queries = self.queries.to(memory.dtype).expand(memory.shape[0], -1, -1)
        bias = None
        if evidence is not None:
            scaled = self.evidence_scale[0].unsqueeze(-1) * evidence
            bias = scaled.repeat_interleave(self.attention.num_heads, dim=0).to(memory.dtype)
        return self.norm(self.attention(queries, memory, memory, need_weights=False, attn_mask=bias)[0])


def _check_presence(presence: PresenceHead, levels: Sequence[int], num_classes: int) -> None:
    if presence.levels != tuple(levels) or presence.num_classes < num_classes:
        cause = (
            f"`presence` covers levels {presence.levels} with {presence.num_classes} classes, but the head reads "
            f"levels {tuple(levels)} and needs {num_classes} classes."
        )
        raise ConfigError(cause, "Build both with the same `levels`, and check `presence_offset`.")


def _select(level_dims: Sequence[int], levels: Sequence[int]) -> list[int]:
    try:
        return [level_dims[level] for level in levels]
    except IndexError as error:
        cause = f"`levels` {tuple(levels)} names a level that an encoder with {len(level_dims)} levels lacks."
        raise ConfigError(cause, "Count from 0 (finest) or from -1 (coarsest).") from error
