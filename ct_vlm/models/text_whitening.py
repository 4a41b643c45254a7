"""The whitened text space of a language model, fitted on a data set's reports in one call.

Paper: Ker-VLJEPA-3B, https://arxiv.org/abs/2603.23308 (Table I).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import track

from ct_vlm.errors import ConfigError
from ct_vlm.models.text_embedder import TextEmbedder
from ct_vlm.modules import PCAWhitening

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ct_vlm.decoders import Decoder
    from ct_vlm.modules import WhiteningReport


def fit_text_whitening(
    decoder: Decoder,
    texts: Sequence[str],
    *,
    layer: int = 14,
    output_dim: int = 256,
    eps: float = 1e-6,
    batch_size: int = 32,
    progress: bool = True,
) -> TextEmbedder:
    """Fit the whitening of a language model's mean hidden states over texts, batch by batch.

    Memory does not grow with the number of texts. In a distributed run every process embeds its share of
    the same texts, and all end with the same fit.

    Args:
        decoder: Around a transformers causal LM.
        texts: Reports of the training data; more than ``output_dim`` different ones.
        layer: Layer whose output is read; 1 is the first.
        output_dim: Directions kept.
        eps: Floor of their variances, relative to the largest.
        batch_size: Texts embedded at a time.
        progress: Show a bar (on a terminal only).

    Returns:
        The embedder, to be saved with the model.

    Raises:
        ConfigError: If there are too few texts, or one is blank.

    Example:
        >>> from ct_vlm.decoders import CausalLMDecoder, train_bpe_tokenizer
        >>> from ct_vlm.models.text_whitening import fit_text_whitening
        >>> texts = ["clear lungs", "large effusion", "small nodule", "hernia"]
        >>> config = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32,
        ...           "num_hidden_layers": 2, "num_attention_heads": 2}
        >>> decoder = CausalLMDecoder(config, train_bpe_tokenizer(texts, 280))
        >>> fit_text_whitening(decoder, texts, layer=1, output_dim=2)(["hernia"]).shape
        torch.Size([1, 2])

    References:
        Ker-VLJEPA-3B, arXiv 2603.23308: 22,773 training reports, layer 14 of Llama-3.2-3B, 256 directions.
    """
    _check(texts, output_dim)
    embedder = TextEmbedder(decoder, PCAWhitening(decoder.embed_dim, output_dim, eps=eps), layer)
    rank, world = _place()
    mine = texts[rank::world]
    shown = progress and Console(stderr=True).is_terminal and rank == 0
    for start in track(range(0, len(mine), batch_size), "Embedding texts", disable=not shown, transient=True):
        embedder.whitening.update(embedder.embed(mine[start : start + batch_size]))
    embedder.whitening.finalize()
    return embedder


@torch.no_grad()
def whitening_report(
    embedder: TextEmbedder,
    texts: Sequence[str],
    groups: Sequence[object] | None = None,
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> WhiteningReport:
    """Compare mean cosine and d' of texts before and after whitening.

    Args:
        embedder: Fitted.
        texts: Of the training data or held-out ones.
        groups: What each text says, see :func:`ct_vlm.modules.separability`; without, a text belongs
            together with itself only, as is inferred for the paper.
        batch_size: Texts embedded at a time.
        progress: Show a bar (on a terminal only).
    """
    shown = progress and Console(stderr=True).is_terminal
    rows = embedder.embed_all(texts, batch_size=batch_size, progress=shown)
    return embedder.whitening.report(rows.to(embedder.whitening.mean.device), groups)


def _place() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _check(texts: Sequence[str], output_dim: int) -> None:
    blank = next((index for index, text in enumerate(texts) if not text.strip()), None)
    if blank is not None:
        cause = f"Text {blank} is blank, so it has no embedding."
        raise ConfigError(cause, "Leave blank reports out.")
    if len(set(texts)) <= output_dim:
        cause = f"{len(set(texts))} different texts give no {output_dim} directions."
        raise ConfigError(cause, "Pass more texts, or lower `output_dim`.")
