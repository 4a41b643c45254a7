"""The 18 abnormality labels of CT-RATE, in the order every public tool uses.

References:
    CT-CLIP ``text_classifier/infer.py``; CT-RATE ``multi_abnormality_labels``.
"""

from __future__ import annotations

CT_RATE_LABELS: tuple[str, ...] = (
    "Medical material",
    "Arterial wall calcification",
    "Cardiomegaly",
    "Pericardial effusion",
    "Coronary artery wall calcification",
    "Hiatal hernia",
    "Lymphadenopathy",
    "Emphysema",
    "Atelectasis",
    "Lung nodule",
    "Lung opacity",
    "Pulmonary fibrotic sequela",
    "Pleural effusion",
    "Mosaic attenuation pattern",
    "Peribronchial thickening",
    "Consolidation",
    "Bronchiectasis",
    "Interlobular septal thickening",
)
"""Column names of the label CSVs, in order."""
