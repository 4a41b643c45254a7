"""From facts to a report: one slot an organ, filled with a finding or with a normal sentence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ct_vlm.phantoms.report.normal import NORMAL, NORMAL_IMPRESSION
from ct_vlm.phantoms.report.positive import IMPRESSION, POSITIVE
from ct_vlm.phantoms.streams import stream
from ct_vlm.text.regions import RADGENOME_REGIONS

if TYPE_CHECKING:
    import numpy as np

    from ct_vlm.phantoms.schema import Finding

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


def write_report(findings: list[Finding], sex: str, seed: int, scan: int = 0) -> Report:
    """Write the report of a scan from its facts.

    Every slot has its own random stream: adding a finding changes the sentences of its slot, the
    list of absent lung findings and the impressions, nothing else.

    Args:
        findings: What was drawn.
        sex: ``"F"`` or ``"M"``; breasts are only mentioned for the former.
        seed: Seed of the patient.
        scan: Index of the scan.
    """
    facts = {finding.label: finding for finding in findings}
    sentences: list[tuple[str, str]] = []
    for slot, (region, labels, chance) in _SLOTS.items():
        present = [label for label in labels if label in facts]
        for label in present:
            rng = stream(seed, "text", label, scan)
            where = _DEVICE_REGION[facts[label].kind or ""] if slot == "device" else region
            sentences.append((where, _fill(_pick(rng, POSITIVE[label]), facts[label], rng)))
        rng = stream(seed, "text", slot, scan)
        if present or rng.random() >= chance or (slot == "breast" and sex != "F"):
            continue
        if slot == "lung negatives":
            sentences.extend((region, text) for text in _lung_negatives(facts, rng))
        else:
            sentences.append((region, _pick(rng, NORMAL[slot])))
    regions = {name: " ".join(s for r, s in sentences if r == name) for name in RADGENOME_REGIONS}
    return Report(
        findings=" ".join(text for _, text in sentences),
        impressions=_impressions(findings, seed, scan),
        regions={name: text for name, text in regions.items() if text},
    )


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _lung_negatives(facts: dict[str, Finding], rng: np.random.Generator) -> list[str]:
    """Deny findings that are absent: first focal ones, then some others."""
    texts = []
    for index, group in enumerate(_NEGATIVES):
        template, keep = _pick(rng, NORMAL["lung negatives"]), rng.random()
        words = [word for label, word in group.items() if label not in facts]
        if index == 0:
            words.insert(1, "mass")
        elif keep < 0.5:
            continue
        if words:
            listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
            texts.append(_capital(template.format(list=listed)))
    return texts


def _impressions(findings: list[Finding], seed: int, scan: int) -> str:
    """Sum up the findings in at most four sentences."""
    rng = stream(seed, "text", "impressions", scan)
    if not findings:
        return _pick(rng, NORMAL_IMPRESSION)
    phrases = []
    for finding in findings:
        own = stream(seed, "text", "impression", finding.label, scan)
        phrases.append(_fill(_pick(own, IMPRESSION[finding.label]), finding, own, capital=False))
    # dealing them out in turn keeps neighbours in label order (aortic and coronary plaques) apart
    groups = [phrases[start::_IMPRESSION_SENTENCES] for start in range(_IMPRESSION_SENTENCES)]
    return " ".join(_capital("; ".join(group)) + "." for group in groups if group)


def _fill(template: str, finding: Finding, rng: np.random.Generator, *, capital: bool = True) -> str:
    """Put the facts into a template."""
    side = finding.side or ""
    device = _pick(rng, _DEVICE_NAMES[finding.kind]) if finding.kind else ""
    text = template.format(
        side=side,
        on="on both sides" if side == "bilateral" else f"on the {side}",
        lung="both lungs" if side == "bilateral" else f"the {side} lung",
        lobe=_lobe(finding),
        in_lobe=_in_lobe(finding, rng),
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


def _in_lobe(finding: Finding, rng: np.random.Generator) -> str:
    """Return the place in one of several wordings."""
    if finding.lobe:
        side, level, _ = finding.lobe.split()
        options = (
            f"in the {side} {level} lobe",
            f"in the {level} lobe of the {side} lung",
            f"in the {side} lung {level} lobe",
        )
    else:
        level = (finding.location or "").split(" ")[0]
        options = (f"in the {level} lobes of both lungs", f"in both {level} lobes", f"in the bilateral {level} lobes")
    return _pick(rng, options)


def _device_place(finding: Finding) -> str:
    if finding.side in {"left", "right"}:
        return f"on the {finding.side} chest wall"
    return f"in the {finding.location}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
