"""The lexicon of each label, as data."""

from ct_vlm.metrics.labeler.lexicon.airways import BRONCHIECTASIS, MOSAIC, PERIBRONCHIAL, SEPTAL
from ct_vlm.metrics.labeler.lexicon.heart import CARDIOMEGALY, PERICARDIAL
from ct_vlm.metrics.labeler.lexicon.hernia import HERNIA
from ct_vlm.metrics.labeler.lexicon.medical import MEDICAL
from ct_vlm.metrics.labeler.lexicon.nodes import NODES
from ct_vlm.metrics.labeler.lexicon.opacity import CONSOLIDATION, OPACITY
from ct_vlm.metrics.labeler.lexicon.parenchyma import ATELECTASIS, EMPHYSEMA, NODULE
from ct_vlm.metrics.labeler.lexicon.pleura import PLEURAL
from ct_vlm.metrics.labeler.lexicon.sequela import SEQUELA
from ct_vlm.metrics.labeler.lexicon.vessels import ARTERIAL, CORONARY

LABEL_RULES = (
    MEDICAL,
    ARTERIAL,
    CARDIOMEGALY,
    PERICARDIAL,
    CORONARY,
    HERNIA,
    NODES,
    EMPHYSEMA,
    ATELECTASIS,
    NODULE,
    OPACITY,
    SEQUELA,
    PLEURAL,
    MOSAIC,
    PERIBRONCHIAL,
    CONSOLIDATION,
    BRONCHIECTASIS,
    SEPTAL,
)
"""One rule a label, in the order of ``CT_RATE_LABELS``."""
