"""Thresholds that turn label probabilities into labels: fitted on a calibration split, then frozen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.files import write_json
from ct_vlm.metrics.functional.clinical import clinical_scores
from ct_vlm.metrics.functional.inputs import as_groups, as_label_matrix, as_probability_matrix, check_pairs
from ct_vlm.text.labels import CT_RATE_LABELS

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

METHODS = ("f1", "youden", "fixed")
FIXED = 0.5
ORACLE = "oracle"


@dataclass(frozen=True)
class Thresholds:
    """One threshold a label: positive is ``probability >= threshold``.

    Args:
        values: The thresholds.
        label_names: Name of each label.
        method: How they were chosen.
        split: Name of the split they were chosen on; ``"oracle"`` if it is the evaluated one.
        fallback: Labels that the split says nothing about (one class only); they keep 0.5.
        num_samples: Size of the split.
        fingerprint: Digest of the split's probabilities and labels, in any order of the rows.
        patients: Digests of the split's patients, where they were given.

    Example:
        >>> from ct_vlm.metrics.functional import Thresholds, fit_thresholds
        >>> fitted = fit_thresholds([[0.2], [0.4], [0.9]], [[0], [1], [1]], ["Nodule"], split="calibration")
        >>> fitted.values, Thresholds.from_dict(fitted.to_dict()) == fitted
        ((0.4,), True)
    """

    values: tuple[float, ...]
    label_names: tuple[str, ...]
    method: str
    split: str
    fallback: tuple[str, ...] = ()
    num_samples: int = 0
    fingerprint: str = ""
    patients: tuple[str, ...] = ()

    @property
    def is_oracle(self) -> bool:
        """Whether they were fitted on the data they are used on."""
        return self.split == ORACLE

    def apply(self, probabilities: Any) -> NDArray[np.int64]:
        """Return 0/1 labels.

        Args:
            probabilities: Probability of each label.

        Shape:
            - probabilities, output: ``(B, K)``.
        """
        matrix = as_probability_matrix(probabilities, "probabilities", len(self.values)).double().numpy()
        return (matrix >= np.array(self.values)).astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build thresholds from what :meth:`to_dict` returned.

        Args:
            values: The dict.

        Raises:
            ConfigError: If it is none.
        """
        try:
            settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            found = cls(**settings)
        except TypeError as error:
            cause = f"Cannot read thresholds: {error}."
            raise ConfigError(cause, "Use the output of `Thresholds.to_dict`.") from error
        if len(found.values) != len(found.label_names):
            cause = f"{len(found.values)} thresholds have {len(found.label_names)} names."
            raise ConfigError(cause, "Use the output of `Thresholds.to_dict`.")
        return found

    def save(self, path: str | Path) -> None:
        """Write a JSON file.

        Args:
            path: Where to.
        """
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a JSON file that :meth:`save` wrote.

        Args:
            path: The file.
        """
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))


def fit_thresholds(
    probabilities: Any,
    labels: Any,
    label_names: Sequence[str] = CT_RATE_LABELS,
    *,
    split: str,
    method: str = "f1",
    patients: Sequence[Hashable] | None = None,
) -> Thresholds:
    """Choose one threshold a label on a calibration split.

    Every cut between two probabilities is tried, so the result is exact. Among cuts that score the
    same the highest is taken (fewest positives); the threshold is the lowest probability that is
    called positive. A label without a positive or without a negative in the split keeps 0.5 and is
    listed in ``fallback``.

    Args:
        probabilities: Probability of each label.
        labels: 0/1 labels, NaN where unknown: such a cell is left out.
        label_names: Name of each column.
        split: Name of the split, kept in the result. ``"oracle"`` says that the split is the one to
            be evaluated; :func:`threshold_scores` accepts no other thresholds of the same data.
        method: ``"f1"`` (highest F1), ``"youden"`` (highest sensitivity + specificity) or
            ``"fixed"`` (0.5).
        patients: Patient of each row, to detect patients that are also evaluated.

    Shape:
        - probabilities, labels: ``(B, K)``.

    Raises:
        ShapeError: If sizes differ.
        DatasetError: If a value is out of range, or there is no row.
        ConfigError: If the method is unknown or the split has no name.

    Example:
        >>> from ct_vlm.metrics.functional import fit_thresholds
        >>> fit_thresholds([[0.2], [0.4], [0.9]], [[0], [1], [1]], ["Nodule"], split="train/calibration").values
        (0.4,)
    """
    names = tuple(label_names)
    scored, known = _checked(probabilities, labels, names)
    if method not in METHODS or not split:
        cause = f"Expected a split's name and `method` in {METHODS}, but got {split!r} and {method!r}."
        raise ConfigError(cause, "Use e.g. split='train/calibration', method='f1'.")
    if not len(scored):
        cause = f"Split {split!r} has no rows."
        raise DatasetError(cause, "Pass the probabilities of a calibration split.")
    found = [_best_cut(scored[:, k], known[:, k], method) for k in range(len(names))]
    return Thresholds(
        values=tuple(FIXED if cut is None else cut for cut in found),
        label_names=names,
        method=method,
        split=split,
        fallback=tuple(name for name, cut in zip(names, found, strict=True) if cut is None),
        num_samples=len(scored),
        fingerprint=_fingerprint(scored, known),
        patients=() if patients is None else tuple(map(_digest, as_groups(patients, len(scored), "patients")[1])),
    )


def threshold_scores(
    probabilities: Any,
    labels: Any,
    thresholds: Thresholds,
    *,
    patients: Sequence[Hashable] | None = None,
    zero_division: float = 0.0,
) -> dict[str, Any]:
    """Score probabilities at frozen thresholds, with the fixed threshold 0.5 beside them.

    Args:
        probabilities: Probability of each label.
        labels: 0/1 labels, NaN where unknown.
        thresholds: From :func:`fit_thresholds` on another split.
        patients: Patient of each row, to detect patients of the calibration split.
        zero_division: As in :func:`~ct_vlm.metrics.functional.clinical_scores`.

    Returns:
        ``scores`` and ``fixed`` (each as of :func:`~ct_vlm.metrics.functional.clinical_scores`),
        ``thresholds`` by label, ``method``, ``split``, ``fallback`` and ``oracle``: True if the
        thresholds were fitted on these very data, which makes the scores too good.

    Shape:
        - probabilities, labels: ``(B, K)``.

    Raises:
        DatasetError: If the thresholds were fitted on these data or patients and are not named
            ``"oracle"``, or are so named and were fitted on others.

    Example:
        >>> from ct_vlm.metrics.functional import fit_thresholds, threshold_scores
        >>> fitted = fit_thresholds([[0.2], [0.4]], [[0], [1]], ["Nodule"], split="calibration")
        >>> found = threshold_scores([[0.3], [0.45]], [[0], [1]], fitted)
        >>> found["scores"]["macro_f1"], found["fixed"]["macro_f1"], found["oracle"]
        (1.0, 0.0, False)
    """
    scored, known = _checked(probabilities, labels, thresholds.label_names)
    _check_split(thresholds, _fingerprint(scored, known), patients, len(scored))

    def at(values: Any) -> dict[str, Any]:
        chosen = (scored >= np.asarray(values)).astype(np.float64)
        return clinical_scores(chosen, known, thresholds.label_names, zero_division=zero_division)

    return {
        "scores": at(thresholds.values),
        "fixed": at(FIXED),
        "thresholds": dict(zip(thresholds.label_names, thresholds.values, strict=True)),
        "method": thresholds.method,
        "split": thresholds.split,
        "fallback": list(thresholds.fallback),
        "oracle": thresholds.is_oracle,
    }


def _check_split(thresholds: Thresholds, fingerprint: str, patients: Sequence[Hashable] | None, num_rows: int) -> None:
    """Raise unless the thresholds come from other data, or say that they do not."""
    same = fingerprint == thresholds.fingerprint
    if thresholds.method == "fixed":
        return
    if thresholds.is_oracle:
        if not same:
            cause = "Thresholds named 'oracle' were fitted on other data than these."
            raise DatasetError(cause, "Name the split they were fitted on, or fit them on these data.")
        return
    if same:
        cause = f"Thresholds of split {thresholds.split!r} were fitted on the very data to be evaluated."
        raise DatasetError(cause, "Fit them on a calibration split, or name the split 'oracle' to say so.")
    if patients is None:
        return
    _, names = as_groups(patients, num_rows, "patients")
    calibrated = set(thresholds.patients)
    shared = [name for name in names if _digest(name) in calibrated]
    if shared:
        shown = ", ".join(map(repr, shared[:5]))
        cause = f"{len(shared)} patient(s) of split {thresholds.split!r} are evaluated too: {shown}."
        raise DatasetError(cause, "Calibrate on other patients.")


def _checked(probabilities: Any, labels: Any, names: tuple[str, ...]) -> tuple[Array, Array]:
    """Return checked matrices."""
    scored = as_probability_matrix(probabilities, "probabilities", len(names)).double().numpy()
    known = as_label_matrix(labels, "labels", len(names)).double().numpy()
    check_pairs(scored, known)
    return scored, known


def _best_cut(scores: Array, labels: Array, method: str) -> float | None:
    """Return the lowest score that the best cut calls positive; None if the labels are of one class."""
    rows = ~np.isnan(labels)
    scores, positive = scores[rows], labels[rows] == 1
    if method == "fixed":
        return FIXED
    if positive.all() or not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    tp, called = np.cumsum(positive[order]), np.arange(1, len(ranked) + 1)
    f1, youden = 2 * tp / (called + tp[-1]), tp / tp[-1] - (called - tp) / (len(ranked) - tp[-1])
    value = f1 if method == "f1" else youden
    # a cut lies behind the last of equal scores; argmax takes the first, that is the highest threshold
    cuts = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return float(ranked[cuts[np.argmax(value[cuts])]])


def _fingerprint(scored: Array, known: Array) -> str:
    """Return a digest of all rows that does not depend on their order."""
    rows = np.concatenate([scored, known], axis=1)
    rows = rows[np.lexsort(rows.T[::-1])] if rows.size else rows
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:32]


def _digest(patient: Hashable) -> str:
    """Return the digest of a patient: thresholds that are passed on name nobody."""
    return hashlib.sha256(repr(patient).encode()).hexdigest()[:16]
