"""Sentences that state one abnormality each, without saying where or how large; all invented."""

from __future__ import annotations

NORMAL_FINDINGS = "No significant thoracic abnormalities identified."
"""What is said of a scan without any of the labels."""

POSITIVE_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Medical material": (
        "Medical material is present in the chest.",
        "Medical material is visible within the thorax.",
        "Implanted medical material is seen.",
        "There is medical material in the imaged field.",
        "The scan shows medical material.",
    ),
    "Arterial wall calcification": (
        "Arterial wall calcification is present.",
        "Calcified plaques are seen in the arterial walls.",
        "The aorta has calcified walls.",
        "There are calcifications along the aortic wall.",
        "Calcified atheroma is visible in the thoracic aorta.",
    ),
    "Cardiomegaly": (
        "Cardiomegaly is present.",
        "The heart is enlarged.",
        "The size of the heart is above normal limits.",
        "There is enlargement of the heart.",
        "Heart size is increased.",
    ),
    "Pericardial effusion": (
        "Pericardial effusion is present.",
        "There is fluid in the pericardial space.",
        "A pericardial effusion surrounds the heart.",
        "Pericardial effusion is visible.",
        "Effusion is seen within the pericardium.",
    ),
    "Coronary artery wall calcification": (
        "Coronary artery wall calcification is present.",
        "The coronary arteries are calcified.",
        "Calcified plaques are seen in the coronary arteries.",
        "There is calcification of the coronary artery walls.",
        "Coronary calcifications are visible.",
    ),
    "Hiatal hernia": (
        "A hiatal hernia is present.",
        "There is a hiatal hernia.",
        "Hiatal hernia is seen at the lower end of the esophagus.",
        "The stomach herniates through the esophageal hiatus.",
        "A sliding hiatal hernia is visible.",
    ),
    "Lymphadenopathy": (
        "Lymphadenopathy is present.",
        "There are enlarged lymph nodes.",
        "Enlarged lymph nodes are seen in the chest.",
        "Lymph nodes of pathological size are visible.",
        "Thoracic lymphadenopathy is seen.",
    ),
    "Emphysema": (
        "Emphysema is present.",
        "Emphysematous changes are seen in the lungs.",
        "There is pulmonary emphysema.",
        "The lungs show emphysematous areas.",
        "Emphysematous destruction of the lung parenchyma is visible.",
    ),
    "Atelectasis": (
        "Atelectasis is present.",
        "Atelectatic changes are seen in the lung.",
        "There are areas of atelectasis.",
        "The lung shows atelectatic bands.",
        "Subsegmental atelectasis is visible.",
    ),
    "Lung nodule": (
        "A lung nodule is present.",
        "There is a pulmonary nodule.",
        "A nodule is seen in the lung parenchyma.",
        "Nodular lesions are visible in the lung.",
        "The lung contains a nodule.",
    ),
    "Lung opacity": (
        "Lung opacity is present.",
        "There are ground glass opacities in the lung.",
        "Opacities are seen in the lung parenchyma.",
        "The lungs show areas of ground glass density.",
        "Pulmonary opacities are visible.",
    ),
    "Pulmonary fibrotic sequela": (
        "Pulmonary fibrotic sequela is present.",
        "Fibrotic sequelae are seen in the lung.",
        "There are sequela fibrotic changes in the lung parenchyma.",
        "The lungs show pleuroparenchymal sequela changes.",
        "Sequela fibrotic bands are visible in the lung.",
    ),
    "Pleural effusion": (
        "Pleural effusion is present.",
        "There is fluid in the pleural space.",
        "A pleural effusion is seen.",
        "Free pleural effusion is visible.",
        "Effusion is seen in the pleural cavity.",
    ),
    "Mosaic attenuation pattern": (
        "A mosaic attenuation pattern is present.",
        "The lungs show mosaic attenuation.",
        "There is a mosaic pattern of lung attenuation.",
        "Mosaic attenuation is seen in the lungs.",
        "Lung attenuation has a mosaic appearance.",
    ),
    "Peribronchial thickening": (
        "Peribronchial thickening is present.",
        "There is peribronchial thickening.",
        "Peribronchial thickening is seen along the airways.",
        "The bronchi show peribronchial thickening.",
        "Thickening of the peribronchial tissue is visible.",
    ),
    "Consolidation": (
        "Consolidation is present.",
        "There is consolidation of the lung.",
        "A consolidated area is seen in the lung.",
        "The lung shows airspace consolidation.",
        "Parenchymal consolidation is visible.",
    ),
    "Bronchiectasis": (
        "Bronchiectasis is present.",
        "There are bronchiectatic changes.",
        "Dilated bronchi are seen in keeping with bronchiectasis.",
        "The airways show bronchiectasis.",
        "Bronchiectatic bronchi are visible.",
    ),
    "Interlobular septal thickening": (
        "Interlobular septal thickening is present.",
        "There is thickening of the interlobular septa.",
        "Thickened interlobular septa are seen.",
        "The lungs show interlobular septal thickening.",
        "Smooth interlobular septal thickening is visible.",
    ),
}
"""Label to sentences, in the order of ``CT_RATE_LABELS``."""
