"""BERTScore of reports with a model on disk."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from ct_vlm.errors import CheckpointError, ConfigError
from ct_vlm.metrics.functional.inputs import as_predicted_texts, as_reference_texts, check_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# tokenizers without a limit state a number like this, which Rust tokenizers refuse
_NO_LIMIT = 10**9


@dataclass(frozen=True)
class BertScores:
    """BERTScore of a set of reports.

    Attributes:
        precision: Mean over reports.
        recall: Mean over reports.
        f1: Mean over reports.
        segments: ``(B, 3)``: precision, recall and F1 of each report.
        settings: Model, layer, idf and baseline, without which the numbers mean nothing.
        missing_predictions: Reports without a prediction; they score 0 and count.
    """

    precision: float
    recall: float
    f1: float
    segments: Tensor
    settings: dict[str, Any] = field(default_factory=dict)
    missing_predictions: int = 0


def bert_scores(
    predictions: Sequence[str | None],
    references: Sequence[str],
    path: str | Path,
    *,
    layer: int | None = None,
    idf: bool = False,
    baseline: Sequence[float] | None = None,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
) -> BertScores:
    """Return BERTScore precision, recall and F1 by greedy matching of token embeddings.

    As in ``bert-score`` 0.3.13, the special tokens can be matched and carry no weight in the mean.
    Values depend on model and layer more than on reports: compare only those with the same settings.

    Args:
        predictions: Generated reports; a missing one (``None``, NaN, blank) scores 0 and counts.
        references: True reports.
        path: Folder of a transformers encoder with its tokenizer. Nothing is downloaded.
        layer: Hidden layer (0 is the input embedding); the last one by default. ``bert-score`` takes a
            tuned layer for each published model, e.g. 17 of ``roberta-large``.
        idf: Weigh tokens by their rarity among the references.
        baseline: Precision, recall and F1 to rescale by, (x - b) / (1 - b); from the model's own
            baseline file, never another model's.
        batch_size: Reports at a time.
        device: Where the model runs.

    Raises:
        CheckpointError: If the folder holds no model and tokenizer.
        ConfigError: If the layer does not exist or the baseline is not three numbers below 1.

    Example:
        >>> from ct_vlm.metrics.functional.bertscore import greedy_matching
        >>> import torch
        >>> same = torch.eye(3)[None]
        >>> greedy_matching(same, same, torch.ones(1, 3), torch.ones(1, 3)).tolist()
        [[1.0, 1.0, 1.0]]

    References:
        [1] Zhang et al., BERTScore, 2020, https://arxiv.org/abs/1904.09675.
        [2] https://github.com/Tiiiger/bert_score.
    """
    texts, missing = as_predicted_texts(predictions)
    truths = as_reference_texts(references)
    check_pairs(texts, truths)
    if baseline is not None and (len(baseline) != 3 or max(baseline) >= 1):
        msg = f"Expected `baseline` as three numbers below 1, but got {list(baseline)}."
        raise ConfigError(msg, "Take precision, recall and F1 of the layer's row in the baseline file.")
    model, tokenizer = _load(path, device)
    depth = int(model.config.num_hidden_layers)
    chosen = depth if layer is None else layer
    if not 0 <= chosen <= depth:
        msg = f"Expected `layer` from 0 to {depth}, but got {chosen}."
        raise ConfigError(msg, "Name a hidden layer of this model.")
    limit = _max_length(tokenizer, model)
    encoded = [_encode(tokenizer, group, limit) for group in (texts, truths)]
    weights = _token_weights(encoded[1], tokenizer, idf=idf)
    order = sorted(range(len(texts)), key=lambda i: len(encoded[0][i]) + len(encoded[1][i]))
    segments = torch.zeros(len(texts), 3)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        sides = [_embed(model, tokenizer, [group[i] for i in rows], weights, chosen) for group in encoded]
        segments[rows] = greedy_matching(sides[0][0], sides[1][0], sides[0][1], sides[1][1]).cpu()
    segments = segments * _has_words(encoded, tokenizer)[:, None]
    if baseline is not None:
        offset = torch.tensor(baseline)
        segments = (segments - offset) / (1 - offset)
    precision, recall, f1 = segments.mean(dim=0).tolist() if texts else (0.0, 0.0, 0.0)
    settings = {
        "model": Path(path).name,
        "layer": chosen,
        "idf": idf,
        "rescaled": baseline is not None,
        "max_length": limit,
    }
    return BertScores(precision, recall, f1, segments, settings, missing)


def greedy_matching(
    prediction: Tensor, reference: Tensor, prediction_weight: Tensor, reference_weight: Tensor
) -> Tensor:
    """Match each token with the most similar one of the other side.

    Args:
        prediction: Unit vectors of tokens, zero at padding.
        reference: Unit vectors of tokens, zero at padding.
        prediction_weight: Weight of each token in the mean, 0 at special tokens and padding.
        reference_weight: Weight of each token in the mean.

    Shape:
        - prediction: ``(B, N, E)``; reference: ``(B, T, E)``.
        - prediction_weight: ``(B, N)``; reference_weight: ``(B, T)``.
        - Output: ``(B, 3)``: precision, recall, F1; 0 where nothing has weight.
    """
    similarity = prediction @ reference.transpose(1, 2)
    precision = _mean(similarity.amax(dim=2), prediction_weight)
    recall = _mean(similarity.amax(dim=1), reference_weight)
    f1 = (2 * precision * recall / (precision + recall)).nan_to_num(0.0, 0.0, 0.0)
    return torch.stack([precision, recall, f1], dim=-1)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return weighted means, 0 without weight."""
    total = weights.sum(dim=1)
    return (values * weights).sum(dim=1) / total.masked_fill(total == 0, 1.0)


def _load(path: str | Path, device: str | torch.device) -> tuple[Any, Any]:
    """Load encoder and tokenizer from a folder."""
    from transformers import AutoModel, AutoTokenizer

    if not Path(path, "config.json").is_file():
        cause = f"{path} holds no config.json, so it is no folder of a transformers model."
        raise CheckpointError(cause, "Download the model once and pass its folder; nothing is fetched here.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = AutoModel.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError) as error:
        cause = f"The encoder in {path} cannot be loaded: {error}"
        raise CheckpointError(cause, "Save model and tokenizer with `save_pretrained` into this folder.") from error
    return model.to(device).eval(), tokenizer


def _max_length(tokenizer: Any, model: Any) -> int:
    """Return how many tokens the model reads; tokenizers without a limit leave it to the model."""
    stated = int(tokenizer.model_max_length)
    if stated < _NO_LIMIT:
        return stated
    positions = getattr(model.config, "max_position_embeddings", 512)
    # RoBERTa-like models number positions from the padding index on
    offset = model.config.pad_token_id + 1 if "roberta" in str(model.config.model_type) else 0
    return int(positions) - int(offset)


def _encode(tokenizer: Any, texts: Sequence[str], limit: int) -> list[list[int]]:
    """Return token ids with special tokens, cut at the limit."""
    # a space in front, which bert-score adds for byte-level tokenizers: a first word is a word like others
    byte_level = any(name in type(tokenizer).__name__ for name in ("Roberta", "GPT2"))
    prefix = " " if byte_level and not getattr(tokenizer, "add_prefix_space", False) else ""
    stripped = [prefix + text.strip() if text.strip() else "" for text in texts]
    return [list(tokenizer(text, truncation=True, max_length=limit)["input_ids"]) for text in stripped]


def _token_weights(references: Sequence[Sequence[int]], tokenizer: Any, *, idf: bool) -> defaultdict[int, float]:
    """Return the weight of each token id: 1 or its rarity, 0 for special tokens."""
    number = len(references) + 1
    unseen = math.log(number) if idf else 1.0
    weights: defaultdict[int, float] = defaultdict(lambda: unseen)
    if idf:
        counts = Counter(token for tokens in references for token in set(tokens))
        weights.update({token: math.log(number / (count + 1)) for token, count in counts.items()})
    return weights | dict.fromkeys(_special_ids(tokenizer), 0.0)


def _special_ids(tokenizer: Any) -> list[int]:
    """Return the ids that mark a text's begin and end."""
    ends = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    return [token for token in ends if token is not None]


def _has_words(encoded: Sequence[Sequence[Sequence[int]]], tokenizer: Any) -> Tensor:
    """Tell for which pairs both sides have a token besides the special ones."""
    special = set(_special_ids(tokenizer))
    pairs = zip(*encoded, strict=True)
    return torch.tensor([all(any(token not in special for token in side) for side in pair) for pair in pairs])


@torch.inference_mode()
def _embed(
    model: Any, tokenizer: Any, tokens: Sequence[Sequence[int]], weights: defaultdict[int, float], layer: int
) -> tuple[Tensor, Tensor]:
    """Return unit vectors of tokens, zero at padding, and their weights."""
    width = max(map(len, tokens))
    padding = tokenizer.pad_token_id or 0
    ids = torch.tensor([[*row, *[padding] * (width - len(row))] for row in tokens], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens], device=model.device)
    states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[layer]
    weight = torch.tensor([[weights[token] for token in row] + [0.0] * (width - len(row)) for row in tokens])
    return F.normalize(states.float(), dim=-1) * mask[..., None], weight.to(model.device)
