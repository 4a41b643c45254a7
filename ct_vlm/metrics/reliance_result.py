"""What a reliance run found: scores of each arm and the reliance they give, with intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ct_vlm.errors import ConfigError
from ct_vlm.metrics.functional.resampling import Interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ct_vlm.metrics.functional.statistics import Statistics

    Array = NDArray[np.float64]

REAL = "real"


@dataclass(frozen=True)
class RelianceResult:
    """Scores of a model with the right volumes and with others.

    Args:
        arms: Arm to score name to the score; the mean over seeds where chance decides.
        reliance: Arm to score name to 1 - arm / real: 0 for a model that does not read volumes.
        seed_spread: Arm to score name to the standard deviation over seeds.
        seeds: Seeds of the arms that chance decides.
        confidence: Nominal coverage of the intervals.
        n_resamples: Bootstrap resamples of patients.
        num_samples: Number of reports an arm.
        num_patients: Number of patients.
        scorer: Name of what scored.
        reports: Reports of each arm, one list a seed; not part of :meth:`to_dict`.
    """

    arms: dict[str, dict[str, Interval]]
    reliance: dict[str, dict[str, Interval]]
    seed_spread: dict[str, dict[str, float]]
    seeds: tuple[int, ...]
    confidence: float
    n_resamples: int
    num_samples: int
    num_patients: int
    scorer: str
    reports: dict[str, list[list[str]]] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        tables = {
            name: {arm: {score: value.to_dict() for score, value in row.items()} for arm, row in table.items()}
            for name, table in (("arms", self.arms), ("reliance", self.reliance))
        }
        plain = {k: v for k, v in asdict(self).items() if k not in ("arms", "reliance", "reports")}
        return {**plain, **tables, "seeds": list(self.seeds)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build a result from what :meth:`to_dict` returned; without reports.

        Args:
            values: The dict.

        Raises:
            ConfigError: If it is none.

        Example:
            >>> from ct_vlm.metrics import RelianceResult
            >>> from ct_vlm.metrics.functional import Interval
            >>> arms = {"real": {"crg": Interval(0.5, 0.4, 0.6, 0.05)}}
            >>> found = RelianceResult(arms, {}, {}, (0,), 0.95, 1000, 8, 8, "labels (rules)")
            >>> RelianceResult.from_dict(found.to_dict()) == found
            True
        """
        try:
            tables = {
                name: {
                    arm: {score: _interval(found) for score, found in row.items()} for arm, row in values[name].items()
                }
                for name in ("arms", "reliance")
            }
            return cls(**{**values, **tables, "seeds": tuple(values["seeds"])})
        except (KeyError, TypeError, AttributeError) as error:
            cause = f"Cannot read a reliance run: {error!r}."
            raise ConfigError(cause, "Use the output of `RelianceResult.to_dict`.") from error

    def __str__(self) -> str:
        """Return one line an arm and score."""
        lines = [f"{self.num_samples} reports of {self.num_patients} patients, scored by {self.scorer}"]
        lines += [
            f"{arm:<14} {score:<12} {_shown(value)}" for arm, row in self.arms.items() for score, value in row.items()
        ]
        lines += [
            f"reliance = 1 - {arm}/{REAL}  {score:<12} {_shown(value)}"
            for arm, row in self.reliance.items()
            for score, value in row.items()
        ]
        return "\n".join(lines)


def _interval(values: Mapping[str, Any]) -> Interval:
    """Return an interval; what JSON had no number for is NaN."""
    known: dict[str, Any] = {k: np.nan if v is None and k != "p_value" else v for k, v in values.items()}
    return Interval(**known)


def _shown(value: Interval) -> str:
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


class ArmStatistics:
    """The scores of all arms on the same resamples, and the reliance of each.

    Args:
        arms: Arm to the statistics of its seeds.
        scores: Names of the scores to keep; all but those of single labels unless given.
    """

    def __init__(self, arms: Mapping[str, Sequence[Statistics]], scores: Sequence[str] | None = None) -> None:
        self.arms = {arm: list(runs) for arm, runs in arms.items()}
        self._scores = scores

    @property
    def num_samples(self) -> int:
        """Number of reports an arm."""
        return self.arms[REAL][0].num_samples

    def by_seed(self, weights: Array) -> dict[str, dict[str, Array]]:
        """Return arm to score name to values of each seed.

        Args:
            weights: How often each report is in each set.

        Shape:
            - weights: ``(R, N)``.
            - Output: ``(seeds, R)`` each.
        """
        found = {}
        for arm, runs in self.arms.items():
            scored = [run.resample(weights) for run in runs]
            names = self._scores or [name for name in scored[0] if "/" not in name]
            found[arm] = {name: np.stack([scores[name] for scores in scored]) for name in names}
        return found

    def resample(self, weights: Array) -> dict[str, Array]:
        """Return ``arm/score`` and ``reliance/arm/score`` of weighted sets of reports."""
        found = {
            f"{arm}/{name}": v.mean(axis=0) for arm, row in self.by_seed(weights).items() for name, v in row.items()
        }
        reliance = {}
        for key, values in found.items():
            arm, name = key.split("/", 1)
            real = found[f"{REAL}/{name}"]
            if arm != REAL:
                ratio = np.divide(values, real, out=np.full(len(values), np.nan), where=real != 0)
                reliance[f"reliance/{key}"] = 1 - ratio
        return {**found, **reliance}
