"""Labels, regions, report sections and prompts."""

from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.laterality import swap_laterality
from ct_vlm.text.prompts import ReportPrompt
from ct_vlm.text.regions import RADGENOME_REGIONS
from ct_vlm.text.sections import ReportSections, clean_missing, join_sections, split_sections
from ct_vlm.text.sentences import split_sentences

__all__ = [
    "CT_RATE_LABELS",
    "RADGENOME_REGIONS",
    "ReportPrompt",
    "ReportSections",
    "clean_missing",
    "join_sections",
    "split_sections",
    "split_sentences",
    "swap_laterality",
]
