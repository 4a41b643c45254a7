"""The 18 findings: each draws itself and returns the facts as drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_vlm.phantoms.findings.airways import bronchiectasis, peribronchial_thickening
from ct_vlm.phantoms.findings.devices import medical_material
from ct_vlm.phantoms.findings.diffuse import emphysema, fibrotic_sequela, mosaic, pleural_effusion, septal_thickening
from ct_vlm.phantoms.findings.focal import atelectasis, consolidation, nodule, opacity
from ct_vlm.phantoms.findings.heart import cardiomegaly, coronary_calcification, pericardial_effusion
from ct_vlm.phantoms.findings.mediastinum import arterial_calcification, hiatal_hernia, lymphadenopathy
from ct_vlm.phantoms.findings.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Callable

    from ct_vlm.phantoms.schema import Finding

PAINTERS: dict[str, Callable[[Scene], Finding]] = {
    "Mosaic attenuation pattern": mosaic,
    "Emphysema": emphysema,
    "Pulmonary fibrotic sequela": fibrotic_sequela,
    "Interlobular septal thickening": septal_thickening,
    "Cardiomegaly": cardiomegaly,
    "Pericardial effusion": pericardial_effusion,
    "Pleural effusion": pleural_effusion,
    "Lung opacity": opacity,
    "Atelectasis": atelectasis,
    "Consolidation": consolidation,
    "Peribronchial thickening": peribronchial_thickening,
    "Bronchiectasis": bronchiectasis,
    "Hiatal hernia": hiatal_hernia,
    "Lymphadenopathy": lymphadenopathy,
    "Lung nodule": nodule,
    "Coronary artery wall calcification": coronary_calcification,
    "Arterial wall calcification": arterial_calcification,
    "Medical material": medical_material,
}
"""Label to painter, in drawing order: spread-out findings first, small ones last and on top."""

__all__ = ["PAINTERS", "Scene"]
