"""From facts to a report: one slot an organ, filled with a finding or with a normal sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from ct_vlm.phantoms.report.normal import NORMAL, NORMAL_IMPRESSION
from ct_vlm.phantoms.report.positive import IMPRESSION, POSITIVE
from ct_vlm.phantoms.streams import stream
from ct_vlm.text.regions import RADGENOME_REGIONS

if TYPE_CHECKING:
    from ct_vlm.phantoms.schema import Finding
    from ct_vlm.phantoms.shapes import Array

_LUNG_LABELS = (
    "Emphysema",
    "Pulmonary fibrotic sequela",
    "Mosaic attenuation pattern",
    "Interlobular septal thickening",
    "Bronchiectasis",
    "Lung opacity",
    "Consolidation",
    "Atelectasis",
    "Lung nodule",
)
_NEGATIVES = (
    {"Lung nodule": "nodule", "Consolidation": "consolidation"},
    {"Emphysema": "emphysema", "Bronchiectasis": "bronchiectasis", "Lung opacity": "ground glass opacity"},
)

# slot: (region, labels that may fill it, chance of a normal sentence otherwise)
_SLOTS: dict[str, tuple[str, tuple[str, ...], float]] = {
    "airways": ("trachea and bronchie", ("Peribronchial thickening",), 1.0),
    "device": ("heart", ("Medical material",), 0.0),
    "aorta": ("mediastinum", ("Arterial wall calcification",), 0.85),
    "heart": ("heart", ("Cardiomegaly",), 1.0),
    "pericardium": ("heart", ("Pericardial effusion",), 1.0),
    "coronary": ("heart", ("Coronary artery wall calcification",), 0.5),
    "esophagus": ("esophagus", ("Hiatal hernia",), 1.0),
    "lymph": ("mediastinum", ("Lymphadenopathy",), 1.0),
    "lung": ("lung", _LUNG_LABELS, 1.0),
    "lung negatives": ("lung", (), 1.0),
    "pleura": ("pleura", ("Pleural effusion",), 1.0),
    "thyroid": ("thyroid", (), 0.3),
    "breast": ("breast", (), 0.4),
    "abdomen": ("abdomen", (), 0.85),
    "bone": ("bone", (), 0.85),
}
_DEVICE_REGION = {"pacemaker": "heart", "port catheter": "mediastinum", "sternotomy wires": "bone"}
_DEVICE_NAMES = {
    "pacemaker": ("pacemaker", "cardiac pacemaker", "pacemaker with lead"),
    "port catheter": ("port catheter", "venous port catheter", "central venous port"),
    "sternotomy wires": ("sternotomy wires", "sternal wires", "sternotomy wire sutures"),
}
_IMPRESSION_SENTENCES = 4
_CHOICES_PER_ROW = 6
_ROWS: dict[tuple[str, ...], int] = {
    purpose: index
    for index, purpose in enumerate(
        chain(
            (("slot", slot) for slot in _SLOTS),
            (("finding", label) for label in POSITIVE),
            (("impression", label) for label in POSITIVE),
            [("impressions",)],
        )
    )
}


@dataclass
class Report:
    """Text of one scan.

    Args:
        findings: Findings section.
        impressions: Impressions section.
        regions: Sentences of the findings section by region.
    """

    findings: str
    impressions: str
    regions: dict[str, str] = field(default_factory=dict)


class Choices:
    """Random choices of one scan's text, a fixed row of numbers for each purpose.

    A row is drawn whether or not it is used, so a sentence that comes or goes shifts no other.

    Args:
        seed: Seed of the patient.
        scan: Index of the scan.
    """

    def __init__(self, seed: int, scan: int) -> None:
        self._numbers = stream(seed, "text", scan).random((len(_ROWS), _CHOICES_PER_ROW))

    def row(self, *purpose: str) -> Row:
        """Return the choices of a purpose, from its first on."""
        return Row(self._numbers[_ROWS[purpose]])


class Row:
    """A few choices, taken one after the other."""

    def __init__(self, numbers: Array) -> None:
        self._numbers = iter(numbers.tolist())

    def chance(self) -> float:
        """Return a number in [0, 1)."""
        return float(next(self._numbers))

    def pick(self, options: tuple[str, ...]) -> str:
        """Choose one of several wordings."""
        return options[int(self.chance() * len(options))]


def write_report(findings: list[Finding], sex: str, seed: int, scan: int = 0) -> Report:
    """Write the report of a scan from its facts.

    Adding a finding changes the sentences of its slot, the list of absent lung findings and the
    impressions, nothing else.

    Args:
        findings: What was drawn.
        sex: ``"F"`` or ``"M"``; breasts are only mentioned for the former.
        seed: Seed of the patient.
        scan: Index of the scan.

    Returns:
        Both sections, and the first one by region.
    """
    facts = {finding.label: finding for finding in findings}
    choices = Choices(seed, scan)
    sentences: list[tuple[str, str]] = []
    for slot, (region, labels, chance) in _SLOTS.items():
        present = [label for label in labels if label in facts]
        for label in present:
            row = choices.row("finding", label)
            where = _DEVICE_REGION[facts[label].kind or ""] if slot == "device" else region
            sentences.append((where, _fill(row.pick(POSITIVE[label]), facts[label], row)))
        row = choices.row("slot", slot)
        if present or row.chance() >= chance or (slot == "breast" and sex != "F"):
            continue
        if slot == "lung negatives":
            sentences.extend((region, text) for text in _lung_negatives(facts, row))
        else:
            sentences.append((region, row.pick(NORMAL[slot])))
    regions = {name: " ".join(s for r, s in sentences if r == name) for name in RADGENOME_REGIONS}
    return Report(
        findings=" ".join(text for _, text in sentences),
        impressions=_impressions(findings, choices),
        regions={name: text for name, text in regions.items() if text},
    )


def finding_region(finding: Finding) -> str:
    """Return the region (one of ``RADGENOME_REGIONS``) whose text states a finding.

    Args:
        finding: The fact.

    Example:
        >>> from ct_vlm.phantoms import Finding
        >>> from ct_vlm.phantoms.report.compose import finding_region
        >>> finding_region(Finding("Medical material", kind="sternotomy wires"))
        'bone'
    """
    if finding.kind in _DEVICE_REGION:
        return _DEVICE_REGION[finding.kind]
    return next(region for region, labels, _ in _SLOTS.values() if finding.label in labels)


def _lung_negatives(facts: dict[str, Finding], row: Row) -> list[str]:
    """Deny findings that are absent: first focal ones, then some others."""
    texts = []
    for index, group in enumerate(_NEGATIVES):
        template, keep = row.pick(NORMAL["lung negatives"]), row.chance()
        words = [word for label, word in group.items() if label not in facts]
        if index == 0:
            words.insert(1, "mass")
        elif keep < 0.5:
            continue
        if words:
            listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
            texts.append(_capital(template.format(list=listed)))
    return texts


def _impressions(findings: list[Finding], choices: Choices) -> str:
    """Sum up the findings in at most four sentences."""
    if not findings:
        return choices.row("impressions").pick(NORMAL_IMPRESSION)
    phrases = []
    for finding in findings:
        row = choices.row("impression", finding.label)
        phrases.append(_fill(row.pick(IMPRESSION[finding.label]), finding, row, capital=False))
    # dealing them out in turn keeps neighbours in label order (aortic and coronary plaques) apart
    groups = [phrases[start::_IMPRESSION_SENTENCES] for start in range(_IMPRESSION_SENTENCES)]
    return " ".join(_capital("; ".join(group)) + "." for group in groups if group)


def _fill(template: str, finding: Finding, row: Row, *, capital: bool = True) -> str:
    """Put the facts into a template."""
    side = finding.side or ""
    device = row.pick(_DEVICE_NAMES[finding.kind]) if finding.kind else ""
    text = template.format(
        side=side,
        on="on both sides" if side == "bilateral" else f"on the {side}",
        lung="both lungs" if side == "bilateral" else f"the {side} lung",
        lobe=_lobe(finding),
        in_lobe=_in_lobe(finding, row),
        place=finding.location or "",
        size=finding.size_mm,
        device=device,
        verb="are" if device.endswith("s") else "is",
        where=_device_place(finding),
    )
    return _capital(text) if capital else text


def _lobe(finding: Finding) -> str:
    """Return e.g. "left upper lobe" or "bilateral lower lobe"."""
    if finding.lobe:
        return finding.lobe
    return f"bilateral {(finding.location or '').removesuffix('s')}"


def _in_lobe(finding: Finding, row: Row) -> str:
    """Return the place in one of several wordings."""
    if finding.lobe:
        side, level, _ = finding.lobe.split()
        options: tuple[str, ...] = (
            f"in the {side} {level} lobe",
            f"in the {level} lobe of the {side} lung",
            f"in the {side} lung {level} lobe",
        )
    else:
        level = (finding.location or "").split(" ")[0]
        options = (f"in the {level} lobes of both lungs", f"in both {level} lobes", f"in the bilateral {level} lobes")
    return row.pick(options)


def _device_place(finding: Finding) -> str:
    if finding.side in {"left", "right"}:
        return f"on the {finding.side} chest wall"
    return f"in the {finding.location}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
