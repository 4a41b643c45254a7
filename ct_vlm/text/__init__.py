"""Labels, regions, report sections and prompts."""

from ct_vlm.text.abnormality_lists import (
    STEERING_REGIONS,
    Abnormality,
    parse_abnormalities,
    render_abnormalities,
)
from ct_vlm.text.abnormality_reading import read_abnormalities
from ct_vlm.text.confusions import CONFUSIONS, Confusion, confusions_of, swap_finding
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
from ct_vlm.text.steering import LIST_PROMPT, STEERING_PROMPT, SteeredText, parse_cot, read_cot, render_cot, render_list

__all__ = [
    "CONFUSIONS",
    "CT_RATE_LABELS",
    "LIST_PROMPT",
    "MEDREGION_REGIONS",
    "NORMAL_FINDINGS",
    "POSITIVE_TEMPLATES",
    "RADGENOME_REGIONS",
    "RADGENOME_TO_MEDREGION",
    "STEERING_PROMPT",
    "STEERING_REGIONS",
    "Abnormality",
    "Confusion",
    "Places",
    "RegionPrompts",
    "RegionScheme",
    "ReportPrompt",
    "ReportSections",
    "SteeredText",
    "clean_missing",
    "confusions_of",
    "find_places",
    "find_region",
    "join_sections",
    "merge_region_reports",
    "merge_regions",
    "mine_positive_sentences",
    "parse_abnormalities",
    "parse_cot",
    "parse_region_reports",
    "positive_findings",
    "positive_sentences",
    "read_abnormalities",
    "read_cot",
    "region_scheme",
    "render_abnormalities",
    "render_cot",
    "render_list",
    "split_regions",
    "split_sections",
    "split_sentences",
    "strip_region_prefixes",
    "swap_finding",
    "swap_laterality",
]
