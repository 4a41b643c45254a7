"""From the width of visual tokens to that of a language model.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (eq. 5).
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from ct_vlm.component import Component
from ct_vlm.errors import ShapeError
from ct_vlm.modules.streaming_covariance import StreamingCovariance, covariance_of


class VisualPredictor(Component):
    """Linear map of visual tokens to a language model's width, then LayerNorm.

    Args:
        in_dim: Width C of the visual tokens.
        embed_dim: Width E of the language model.
        dropout: On the input, in training.

    Shape:
        - Input: ``(..., C)``.
        - Output: ``(..., E)``.

    Example:
        >>> import torch
        >>> from ct_vlm.modules import VisualPredictor
        >>> predictor = VisualPredictor(4, 8).init_from_text_(torch.randn(50, 8))
        >>> predictor(torch.randn(2, 32, 4)).shape
        torch.Size([2, 32, 8])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: ``LN(Linear(Dropout(v)))`` from 1024 to 3072. The rate of dropout
        (0.1) and the recipe of the initialisation are inferred.
    """

    def __init__(self, in_dim: int = 1024, embed_dim: int = 3072, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.in_dim, self.embed_dim = in_dim, embed_dim
        self.dropout, self.linear, self.norm = (
            nn.Dropout(dropout),
            nn.Linear(in_dim, embed_dim),
            nn.LayerNorm(embed_dim),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map visual tokens."""
        return self.norm(self.linear(self.dropout(tokens)))

    @torch.no_grad()
    def init_from_text_(self, embeddings: Tensor | StreamingCovariance) -> Self:
        """Let each visual channel point along one direction of most variance of the text embeddings.

        The weight's columns are orthonormal then, so that distances between tokens are kept up to the
        LayerNorm; the bias is 0.

        Args:
            embeddings: A language model's input embeddings ``(V, E)``, or statistics of them.

        Raises:
            ShapeError: If they have another width, or fewer directions than there are visual channels.
        """
        seen = embeddings if isinstance(embeddings, StreamingCovariance) else covariance_of(embeddings)
        if seen.dim != self.embed_dim:
            cause = f"Expected text embeddings of width {self.embed_dim}, but got {seen.dim}."
            raise ShapeError(cause, "Pass `lm.get_input_embeddings().weight` of the model that reads the tokens.")
        self.linear.weight.copy_(seen.directions(self.in_dim)[0].T)
        nn.init.zeros_(self.linear.bias)
        return self


class JEPAHead(Component):
    """Predict the whitened embedding of a report from visual tokens.

    Args:
        embed_dim: Width E of the visual tokens, which are those that the language model reads.
        output_dim: Directions of :class:`ct_vlm.modules.PCAWhitening`.
        hidden_dim: Width between the two linear maps.

    Shape:
        - Input: ``(B, N, E)``.
        - Output: ``(B, output_dim)``; :meth:`per_token` gives ``(B, N, output_dim)``.

    Example:
        >>> import torch
        >>> from ct_vlm.modules import JEPAHead
        >>> JEPAHead(16, 4, hidden_dim=8)(torch.randn(2, 32, 16)).shape
        torch.Size([2, 4])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308, eq. 8: ``Linear(GELU(LN(Linear(mean token))))`` into 256
        dimensions. The hidden width (1024) is inferred.
    """

    def __init__(self, embed_dim: int = 3072, output_dim: int = 256, *, hidden_dim: int = 1024) -> None:
        super().__init__()
        self.embed_dim, self.output_dim = embed_dim, output_dim
        self.mlp = nn.Sequential(
            nn.Linear(embed_dim, hidden_dim), nn.LayerNorm(hidden_dim), nn.GELU(), nn.Linear(hidden_dim, output_dim)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Return one prediction a sample, from the mean token."""
        return self.mlp(tokens.mean(1))

    def per_token(self, tokens: Tensor) -> Tensor:
        """Return one prediction a token, for losses between sets."""
        return self.mlp(tokens)
