"""Connector that hands the classifier's label tokens to the decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ct_vlm.features import VisualContext
from ct_vlm.modules.base import Connector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.features import Features
    from ct_vlm.modules.query_head import QueryClassificationHead


class LabelTokens(Connector):
    """One visual token a label, from a trained classification head.

    Grid tokens are averages over large cells, in which a finding of a few voxels drowns. The
    head's queries have already found it, so its tokens, its verdict and the place of its evidence
    are handed to the prompt beside the grid tokens.

    Args:
        head: Classification head of stage 2; its parameters are part of this connector.
        embed_dim: Width E of the decoder.
        hidden_dim: Width of the projecting MLP.

    Shape:
        - Input: :class:`~ct_vlm.features.Features`.
        - Output: :class:`~ct_vlm.features.VisualContext` with ``tokens (B, K, E)``.

    Example:
        >>> import torch
        >>> from ct_vlm.features import Features
        >>> from ct_vlm.modules import LabelTokens, QueryClassificationHead
        >>> head = QueryClassificationHead((8,), num_labels=3, num_heads=2, classifier="per_query")
        >>> LabelTokens(head, 16)(Features([torch.zeros(2, 6, 8)], [(1, 2, 3)])).tokens.shape
        torch.Size([2, 3, 16])

    References:
        Ours; the U-VLM paper does not pass its classification head on to the report stage.
    """

    def __init__(self, head: QueryClassificationHead, embed_dim: int, hidden_dim: int = 256) -> None:
        super().__init__()
        self.head = head
        self.level_dims = getattr(head, "level_dims", None)
        self.mlp = nn.Sequential(nn.Linear(head.embed_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, embed_dim))
        self.norm = nn.LayerNorm(embed_dim)
        # as large as the normalised token: which label, and whether it is there, can be read from the first step
        self.label_embedding = nn.Parameter(torch.randn(head.num_labels, embed_dim))
        self.verdict = nn.Parameter(torch.randn(head.num_labels, embed_dim))
        self.place = nn.Linear(6, embed_dim, bias=False) if head.presence is not None else None
        if self.place is not None:
            # coordinates of one organ spread over a quarter of their range: bring them to the size of the rest
            nn.init.normal_(self.place.weight, std=4.0)

    def forward(self, features: Features, batch: Mapping[str, Any] | None = None) -> VisualContext:
        """Return one token a label."""
        logits, tokens = self.head.logits(features)
        confidence = torch.tanh(logits / 2).unsqueeze(-1)  # 2p - 1: bounded, zero at p = 0.5
        context = self.norm(self.mlp(tokens)) + self.label_embedding + confidence * self.verdict
        places = self.head.places(features)
        if self.place is not None and places is not None:
            context = context + self.place(places)
        return VisualContext(context)
