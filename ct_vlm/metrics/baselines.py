"""Reports that need no image model, or hardly one: what any model must beat."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import ConfigError, DatasetError, ShapeError
from ct_vlm.metrics.functional.inputs import as_reference_texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BLOCK = 256
SIMILARITIES = ("cosine", "labels")


def frequent_report(train_reports: Sequence[str], count: int) -> list[str]:
    """Return the most frequent training report, again and again.

    Args:
        train_reports: Reports to choose from; case and white space do not tell two apart.
        count: How many reports to write.

    Raises:
        DatasetError: If there is no training report.

    Example:
        >>> from ct_vlm.metrics import frequent_report
        >>> frequent_report(["Normal.", "Effusion.", "normal."], 2)
        ['Normal.', 'Normal.']
    """
    texts = _training(train_reports)
    keys = [" ".join(text.lower().split()) for text in texts]
    ((most, _),) = Counter(keys).most_common(1)
    return [texts[keys.index(most)]] * count


def random_reports(train_reports: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Return training reports drawn at random, with replacement.

    Args:
        train_reports: Reports to draw from.
        count: How many reports to write.
        seed: Seed of the draw.

    Raises:
        DatasetError: If there is no training report.

    Example:
        >>> from ct_vlm.metrics import random_reports
        >>> len(random_reports(["Normal.", "Effusion."], 3))
        3
    """
    texts = _training(train_reports)
    return [texts[row] for row in np.random.default_rng(seed).integers(len(texts), size=count)]


def retrieve_reports(
    train_reports: Sequence[str], train_vectors: Any, query_vectors: Any, similarity: str = "cosine"
) -> list[str]:
    """Return for each query the report of the most similar training sample.

    Args:
        train_reports: Report of each training sample.
        train_vectors: Image features (or labels) of each training sample.
        query_vectors: The same of each sample to write for.
        similarity: ``"cosine"`` of image features, or ``"labels"``: most labels in common, absent
            ones included. Of equally similar samples the first is taken.

    Shape:
        - train_vectors: ``(N, d)``.
        - query_vectors: ``(B, d)``.

    Raises:
        DatasetError: If there is no training report, or a vector is not finite.
        ShapeError: If sizes differ.
        ConfigError: If the similarity is unknown.

    Example:
        >>> from ct_vlm.metrics import retrieve_reports
        >>> retrieve_reports(["Normal.", "Effusion."], [[1.0, 0.0], [0.0, 1.0]], [[0.2, 3.0]])
        ['Effusion.']
    """
    texts = _training(train_reports)
    train, queries = _vectors(train_vectors, "train_vectors"), _vectors(query_vectors, "query_vectors")
    if len(train) != len(texts) or (len(queries) and train.shape[1] != queries.shape[1]):
        cause = f"{len(texts)} reports do not fit vectors of {train.shape} and queries of {queries.shape}."
        raise ShapeError(cause, "Pass one vector a training report, and queries of the same width.")
    if similarity not in SIMILARITIES:
        cause = f"Unknown similarity {similarity!r}."
        raise ConfigError(cause, f"Choose from {SIMILARITIES}.")
    if similarity == "labels":
        train, queries = 2 * train - 1, 2 * queries - 1
    else:
        train, queries = _unit(train), _unit(queries)
    nearest = [
        row for start in range(0, len(queries), _BLOCK) for row in (queries[start : start + _BLOCK] @ train.T).argmax(1)
    ]
    return [texts[row] for row in nearest]


def _training(reports: Sequence[str]) -> list[str]:
    """Return checked training reports."""
    texts = as_reference_texts(reports)
    if not texts:
        cause = "There is no training report."
        raise DatasetError(cause, "Pass the reports of the training split.")
    return texts


def _vectors(values: Any, name: str) -> NDArray[np.float32]:
    """Return checked vectors."""
    matrix = np.asarray(values, dtype=np.float32)
    if matrix.size == 0:
        return matrix.reshape(0, 0)
    if matrix.ndim != 2:
        cause = f"Expected `{name}` as (N, d), but got {matrix.shape}."
        raise ShapeError(cause, "Pool features to one vector a sample.")
    wrong = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(wrong):
        cause = f"`{name}` is not finite in row {wrong[0]}; {len(wrong)} row(s) in all."
        raise DatasetError(cause, "Look at the samples these come from.")
    return matrix


def _unit(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors of length 1; a vector of zeros stays."""
    length = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(length > 0, length, 1))
