"""Labels, regions, report sections and prompts."""

from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.laterality import swap_laterality
from ct_vlm.text.places import Places, find_places
from ct_vlm.text.positive_findings import mine_positive_sentences, positive_findings, positive_sentences
from ct_vlm.text.positive_templates import NORMAL_FINDINGS, POSITIVE_TEMPLATES
from ct_vlm.text.prompts import ReportPrompt
from ct_vlm.text.region_lexicon import find_region, merge_regions, split_regions
from ct_vlm.text.region_prompts import RegionPrompts
from ct_vlm.text.region_reports import merge_region_reports, parse_region_reports, strip_region_prefixes
from ct_vlm.text.region_scheme import RegionScheme, region_scheme
from ct_vlm.text.regions import MEDREGION_REGIONS, RADGENOME_REGIONS, RADGENOME_TO_MEDREGION
from ct_vlm.text.sections import ReportSections, clean_missing, join_sections, split_sections
from ct_vlm.text.sentences import split_sentences

__all__ = [
    "CT_RATE_LABELS",
    "MEDREGION_REGIONS",
    "NORMAL_FINDINGS",
    "POSITIVE_TEMPLATES",
    "RADGENOME_REGIONS",
    "RADGENOME_TO_MEDREGION",
    "Places",
    "RegionPrompts",
    "RegionScheme",
    "ReportPrompt",
    "ReportSections",
    "clean_missing",
    "find_places",
    "find_region",
    "join_sections",
    "merge_region_reports",
    "merge_regions",
    "mine_positive_sentences",
    "parse_region_reports",
    "positive_findings",
    "positive_sentences",
    "region_scheme",
    "split_regions",
    "split_sections",
    "split_sentences",
    "strip_region_prefixes",
    "swap_laterality",
]
