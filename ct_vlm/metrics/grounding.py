"""Is a finding stated where it is: the side and lobe of a sentence against the evidence mask."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_vlm.errors import DatasetError, ShapeError
from ct_vlm.metrics.labeler import RuleLabeler
from ct_vlm.text.places import find_places
from ct_vlm.text.region_lexicon import find_region
from ct_vlm.text.sections import split_sections
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

PRESENT_SHARE = 0.05
"""A place holds evidence if this share of the evidence lies in it. Inferred."""

MAIN_SHARE = 0.25
"""A lobe is where a finding is if this share of the evidence lies in it. Inferred: findings reach over fissures."""


@dataclass(frozen=True)
class GroundingCase:
    """A report and what is known of where its findings are.

    Args:
        report: The report; of one with headers the findings are read.
        evidence: Label to the mask of its finding; labels without a finding are absent.
        places: Place to mask: lobes named as in :data:`ct_vlm.text.places.LOBES`, and where there are
            no lobes ``"right"`` and ``"left"``.
        regions: Region (of :data:`ct_vlm.text.RADGENOME_REGIONS`) to mask; optional.
        spacing: Voxel size in mm.
        name: Put beside the statements, e.g. the volume's id.

    Shape:
        - masks: ``(D, H, W)``, boolean.

    Raises:
        ShapeError: If masks differ in shape.
    """

    report: str
    evidence: Mapping[str, Mask]
    places: Mapping[str, Mask]
    regions: Mapping[str, Mask] = field(default_factory=dict)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    name: str = ""

    def __post_init__(self) -> None:
        """Check that all masks lie on one grid."""
        masks = {**self.evidence, **self.places, **self.regions}
        shapes = {name: np.shape(mask) for name, mask in masks.items()}
        if len(set(shapes.values())) > 1:
            cause = f"The masks of case {self.name!r} differ in shape: {shapes}."
            raise ShapeError(cause, "Resample them to one grid.")


@dataclass(frozen=True)
class GroundedStatement:
    """One finding that a sentence states, and where its evidence is.

    Args:
        case: Name of the case.
        label: The finding.
        sentence: The sentence.
        places: Lobes, or sides, that the sentence names for it.
        share: Share of the evidence's volume in those places; None without evidence or place.
        supported: Share of those places that hold evidence.
        side_correct: Whether the sides are those of the evidence; None where none is named.
        lobe_correct: Whether the lobes are those that hold a quarter of the evidence; None where none
            is named.
        region: Region that the sentence is about.
        region_share: Share of the evidence's volume in that region; None without its mask.
        has_evidence: Whether the case has a mask of the finding.
    """

    case: str
    label: str
    sentence: str
    places: tuple[str, ...]
    share: float | None = None
    supported: float | None = None
    side_correct: bool | None = None
    lobe_correct: bool | None = None
    region: str | None = None
    region_share: float | None = None
    has_evidence: bool = False


@dataclass(frozen=True)
class GroundingScores:
    """How well reports say where findings are; see :func:`grounding_scores`.

    Args:
        scores: Over all statements.
        per_label: The same of each label that is stated or shown.
        statements: Every statement.
        labeler: Name of the labeler.
    """

    scores: dict[str, float | None]
    per_label: dict[str, dict[str, float | None]]
    statements: list[GroundedStatement]
    labeler: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def grounding_scores(cases: Iterable[GroundingCase], labeler: Any = None, *, min_share: float = 0.5) -> GroundingScores:
    """Compare the places that reports name with masks of the evidence.

    Each sentence that states a finding (denied ones are left out) is read for sides and lobes. An
    evidence voxel that lies in no place (the pleural space, or a finding that was cut out of its
    lobe's mask) counts as in the nearest one.

    Args:
        cases: Reports with masks; read one by one.
        labeler: Finds what a sentence states; the rule labeler unless given.
        min_share: Share of the evidence that must lie in the named places. Inferred.

    Returns:
        ``num_statements``, ``num_placed`` (that name a place and have evidence), ``mean_share``,
        ``hit_rate`` (share of the placed whose share is at least ``min_share`` and whose every
        named place holds evidence), ``side_accuracy``, ``lobe_accuracy``, ``mean_region_share``,
        ``unplaced`` (share of the statements with evidence that name no place), ``unfounded``
        (share of the statements without evidence) and ``missed`` (share of the evidence masks that
        no sentence states).

    Raises:
        DatasetError: If an evidence mask is empty, or its label unknown to the labeler.
        ShapeError: If the masks of a case differ in shape.

    Example:
        >>> import numpy as np
        >>> from ct_vlm.metrics import GroundingCase, grounding_scores
        >>> right, left = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
        >>> right[..., :2], left[..., 2:] = True, True
        >>> nodule = np.zeros((2, 4, 4), bool)
        >>> nodule[0, 0, 3] = True
        >>> case = GroundingCase("Nodule in the left lung.", {"Lung nodule": nodule}, {"right": right, "left": left})
        >>> grounding_scores([case]).scores["hit_rate"]
        1.0
    """
    labeler = RuleLabeler() if labeler is None else labeler
    names = list(labeler.label_names)
    statements: list[GroundedStatement] = []
    shown: list[tuple[str, bool]] = []
    for number, case in enumerate(cases):
        _check(case, number, names)
        stated = _statements(case, labeler, names)
        statements.extend(stated)
        shown.extend((label, any(s.label == label for s in stated)) for label in case.evidence)
    used = [name for name in names if any(s.label == name for s in statements) or any(n == name for n, _ in shown)]
    per_label = {
        name: _summary([s for s in statements if s.label == name], [x for x in shown if x[0] == name], min_share)
        for name in used
    }
    return GroundingScores(_summary(statements, shown, min_share), per_label, statements, labeler.name)


def _check(case: GroundingCase, number: int, names: Sequence[str]) -> None:
    """Check the evidence of a case."""
    for label, mask in case.evidence.items():
        if label not in names or not np.any(mask):
            fault = "is empty" if label in names else "is of no label of the labeler"
            cause = f"The evidence mask {label!r} of case {case.name or number!r} {fault}."
            raise DatasetError(cause, "Leave findings that are not there out of `evidence`.")


def _statements(case: GroundingCase, labeler: Any, names: Sequence[str]) -> list[GroundedStatement]:
    """Return what the sentences of a report state, compared with the evidence."""
    sections = split_sections(case.report)
    sentences = split_sentences(sections.findings or sections.impressions)
    if not sentences:
        return []
    labels = np.asarray(labeler(sentences))
    by_place = {label: _spread(case, mask, case.places) for label, mask in case.evidence.items()}
    by_region = {label: _spread(case, mask, case.regions) for label, mask in case.evidence.items()}
    return [
        _ground(case.name, names[column], sentence, by_place.get(names[column]), by_region.get(names[column], {}))
        for sentence, row in zip(sentences, labels, strict=True)
        for column in np.flatnonzero(row).tolist()
    ]


def _ground(
    case: str, label: str, sentence: str, spread: dict[str, float] | None, regions: dict[str, float]
) -> GroundedStatement:
    """Compare one statement with the shares of the evidence in each place and region."""
    named, region = find_places(sentence), find_region(sentence)
    places = tuple(sorted(named.finest))
    if spread is None:
        return GroundedStatement(case, label, sentence, places, region=region)
    shares = {place: sum(v for name, v in spread.items() if _within(name, place)) for place in places}
    sides = {name.split()[0] for name, v in spread.items() if v >= PRESENT_SHARE}
    lobes = {name for name, v in spread.items() if v >= MAIN_SHARE and " " in name}
    return GroundedStatement(
        case=case,
        label=label,
        sentence=sentence,
        places=places,
        share=min(1.0, sum(shares.values())) if places else None,
        supported=float(np.mean([v >= PRESENT_SHARE for v in shares.values()])) if places else None,
        side_correct=named.sides == sides if named.sides else None,
        lobe_correct=named.lobes == lobes if named.lobes and lobes else None,
        region=region,
        region_share=regions.get(region or ""),
        has_evidence=True,
    )


def _within(name: str, place: str) -> bool:
    """Tell whether a mask's name is a place or lies in it ("left lower lobe" in "left")."""
    return name == place or name.startswith(f"{place} ")


def _spread(case: GroundingCase, evidence: Mask, masks: Mapping[str, Mask]) -> dict[str, float]:
    """Return the share of the evidence's volume in each mask, or nearest to it."""
    if not masks:
        return {}
    voxels = np.argwhere(evidence)
    inside = np.stack([np.asarray(mask, dtype=bool)[tuple(voxels.T)] for mask in masks.values()], axis=1)
    lost = ~inside.any(axis=1)
    if lost.any() and any(np.any(mask) for mask in masks.values()):
        inside[lost, _nearest(voxels[lost], masks, case.spacing)] = True
    counted = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1)
    return dict(zip(masks, (counted.sum(axis=0) / len(voxels)).tolist(), strict=True))


def _nearest(voxels: NDArray[np.int64], masks: Mapping[str, Mask], spacing: tuple[float, float, float]) -> Any:
    """Return the number of the mask that is nearest to each voxel."""
    from scipy.ndimage import binary_erosion
    from scipy.spatial import cKDTree

    scale = np.array(spacing)
    distances = np.full((len(voxels), len(masks)), np.inf)
    for column, mask in enumerate(masks.values()):
        solid = np.asarray(mask, dtype=bool)
        surface = np.argwhere(solid & ~binary_erosion(solid))
        if len(surface):
            distances[:, column] = cKDTree(surface * scale).query(voxels * scale)[0]
    return distances.argmin(axis=1)


def _summary(
    statements: Sequence[GroundedStatement], shown: Sequence[tuple[str, bool]], min_share: float
) -> dict[str, float | None]:
    """Summarise statements and shown findings."""
    founded = [s for s in statements if s.has_evidence]
    placed = [s for s in founded if s.share is not None]
    hits = [s.share >= min_share and s.supported == 1 for s in placed if s.share is not None]
    return {
        "num_statements": len(statements),
        "num_placed": len(placed),
        "mean_share": _mean(s.share for s in placed),
        "hit_rate": _mean(hits),
        "side_accuracy": _mean(s.side_correct for s in founded),
        "lobe_accuracy": _mean(s.lobe_correct for s in founded),
        "mean_region_share": _mean(s.region_share for s in founded),
        "unplaced": _mean(s.share is None for s in founded),
        "unfounded": _mean(not s.has_evidence for s in statements),
        "missed": _mean(not is_stated for _, is_stated in shown),
    }


def _mean(values: Iterable[float | bool | None]) -> float | None:
    """Return the mean of what is known, None without any."""
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None
