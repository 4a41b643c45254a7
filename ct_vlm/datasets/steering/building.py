"""From a report to its list of abnormalities, without a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_vlm.datasets.steering.abnormal import AbnormalSentences
from ct_vlm.errors import ConfigError
from ct_vlm.text.abnormality_lists import STEERING_REGIONS, Abnormality
from ct_vlm.text.region_lexicon import OTHER, find_region
from ct_vlm.text.region_scheme import TEXT_ONLY
from ct_vlm.text.sections import clean_missing, split_sections
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ANYWHERE = frozenset({OTHER, *TEXT_ONLY, "whole"})


class AbnormalityBuilder:
    """Make lists of abnormalities out of reports.

    An abnormality is one sentence, as the report has it, that states something abnormal. Its region
    is the one that the data set links it to (RadGenome-ChestCT), or the one that the lexicon of
    :func:`ct_vlm.text.find_region` finds. Sentences that no region can be found for are left out.

    Args:
        is_abnormal: Sentences to whether each states something abnormal; by default
            :class:`AbnormalSentences`.

    Example:
        >>> from ct_vlm.datasets.steering import AbnormalityBuilder
        >>> build = AbnormalityBuilder()
        >>> build.from_report("Lungs are clear. Heart size is increased. No pleural effusion.")
        (Abnormality(region='heart', text='Heart size is increased.'),)
        >>> build.from_regions({"pleura": "Effusion on the left.", "lung": "No nodule is seen."})
        (Abnormality(region='pleura', text='Effusion on the left.'),)

    References:
        AbSteering, arXiv 2603.12469, has sentences sorted into the ten regions by a language model
        and checked by hand. Differs from the paper: links of the data set, or word lists.
    """

    def __init__(self, is_abnormal: Callable[[Sequence[str]], Sequence[bool]] | None = None) -> None:
        self._is_abnormal = AbnormalSentences() if is_abnormal is None else is_abnormal

    def from_report(self, report: str | None) -> tuple[Abnormality, ...]:
        """Return the list of a whole report.

        Args:
            report: The report; of one with headers the findings are read (the impressions where
                there are none). Missing text has no abnormality.
        """
        sections = split_sections(clean_missing(report))
        sentences = split_sentences(sections.findings or sections.impressions)
        found: dict[str, dict[str, None]] = {region: {} for region in STEERING_REGIONS}
        before = ""
        for sentence, keep in zip(sentences, self._is_abnormal(sentences), strict=True):
            # a sentence without a word of any region goes on about the one before
            before = find_region(sentence) or before
            if keep and before:
                found[before][sentence] = None
        return _listed(found)

    def from_regions(self, region_reports: Mapping[str, str]) -> tuple[Abnormality, ...]:
        """Return the list of a report that comes by region.

        Args:
            region_reports: RadGenome-ChestCT's region to its text; sentences of ``others`` go to the
                region that the lexicon finds.

        Returns:
            Abnormalities in the paper's order of regions, each once.

        Raises:
            ConfigError: If a region is unknown.
        """
        unknown = sorted(set(region_reports) - STEERING_REGIONS.keys() - _ANYWHERE)
        if unknown:
            cause = f"No list of abnormalities has the regions {', '.join(map(repr, unknown))}."
            raise ConfigError(cause, f"Use RadGenome-ChestCT's regions: {', '.join(STEERING_REGIONS)}.")
        found: dict[str, dict[str, None]] = {region: {} for region in STEERING_REGIONS}
        for name in sorted(region_reports, key=lambda name: name in _ANYWHERE):
            for sentence in self._abnormal(region_reports[name]):
                region = name
                if name in _ANYWHERE:
                    is_known = any(sentence in texts for texts in found.values())
                    region = "" if is_known else find_region(sentence) or ""
                if region:
                    found[region][sentence] = None
        return _listed(found)

    def _abnormal(self, text: str) -> list[str]:
        """Return the sentences of a text that state something abnormal."""
        sentences = split_sentences(clean_missing(text))
        return [sentence for sentence, keep in zip(sentences, self._is_abnormal(sentences), strict=True) if keep]


def _listed(found: Mapping[str, Mapping[str, None]]) -> tuple[Abnormality, ...]:
    """Return entries in the order of the regions."""
    return tuple(Abnormality(region, text) for region, texts in found.items() for text in texts)
