"""From a report to its list of abnormalities, without a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ct_vlm.datasets.steering.abnormal import AbnormalSentences
from ct_vlm.datasets.steering.statements import find_statements
from ct_vlm.errors import ConfigError
from ct_vlm.text.abnormality_lists import STEERING_REGIONS, Abnormality
from ct_vlm.text.region_lexicon import OTHER
from ct_vlm.text.region_scheme import TEXT_ONLY
from ct_vlm.text.sections import clean_missing, split_sections

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_ANYWHERE = frozenset({OTHER, *TEXT_ONLY, "whole"})


class BuiltList(NamedTuple):
    """A list of abnormalities, and what could not be put into it.

    Args:
        entries: The list, in the paper's order of regions, each entry once.
        unplaced: Sentences that state something abnormal, but of no region that could be found.
    """

    entries: tuple[Abnormality, ...]
    unplaced: tuple[str, ...] = ()


class AbnormalityBuilder:
    """Make lists of abnormalities out of reports.

    An abnormality is one sentence, as the report has it, that states something abnormal. Its region
    is the one that the data set links it to (RadGenome-ChestCT), or the one that the lexicon of
    :func:`ct_vlm.text.find_region` finds in it, or in the sentence before if it points back to that.
    Sentences that no region can be found for are left out; ``read_*`` return them beside the list.

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
        >>> build.read_report("There is scoliosis. A cyst is seen.").unplaced
        ('A cyst is seen.',)

    References:
        AbSteering, arXiv 2603.12469, has sentences sorted into the ten regions by a language model
        and checked by hand. Differs from the paper: links of the data set, or word lists.
    """

    def __init__(self, is_abnormal: Callable[[Sequence[str]], Sequence[bool]] | None = None) -> None:
        self._is_abnormal = AbnormalSentences() if is_abnormal is None else is_abnormal

    def from_report(self, report: str | None) -> tuple[Abnormality, ...]:
        """Return the list of a whole report.

        Args:
            report: See :meth:`read_report`.
        """
        return self.read_report(report).entries

    def read_report(self, report: str | None) -> BuiltList:
        """Return the list of a whole report, with the sentences that have no region.

        Args:
            report: The report; of one with headers the findings are read (the impressions where
                there are none). Missing text has no abnormality.
        """
        sections = split_sections(clean_missing(report))
        return _listed(self._abnormal(sections.findings or sections.impressions))

    def from_regions(self, region_reports: Mapping[str, str]) -> tuple[Abnormality, ...]:
        """Return the list of a report that comes by region.

        Args:
            region_reports: See :meth:`read_regions`.

        Raises:
            ConfigError: If a region is unknown.
        """
        return self.read_regions(region_reports).entries

    def read_regions(self, region_reports: Mapping[str, str]) -> BuiltList:
        """Return the list of a report that comes by region, with the sentences that have no region.

        Args:
            region_reports: RadGenome-ChestCT's region to its text; sentences of ``others`` go to the
                region that the lexicon finds.

        Raises:
            ConfigError: If a region is unknown.
        """
        unknown = sorted(set(region_reports) - STEERING_REGIONS.keys() - _ANYWHERE)
        if unknown:
            cause = f"No list of abnormalities has the regions {', '.join(map(repr, unknown))}."
            raise ConfigError(cause, f"Use RadGenome-ChestCT's regions: {', '.join(STEERING_REGIONS)}.")
        found: dict[tuple[str, str], None] = {}
        for name in sorted(region_reports, key=lambda name: name in _ANYWHERE):
            linked = {text for _, text in found}
            for region, text in self._abnormal(clean_missing(region_reports[name])):
                if name not in _ANYWHERE:
                    found[name, text] = None
                elif text not in linked:
                    found[region, text] = None
        return _listed(found)

    def _abnormal(self, text: str) -> list[tuple[str, str]]:
        """Return region and text of the statements that say something abnormal."""
        statements = find_statements(text)
        parts = [(place, part) for place, statement in enumerate(statements) for part in statement.parts]
        is_abnormal = self._is_abnormal([part for _, part in parts])
        kept = dict.fromkeys(place for (place, _), keep in zip(parts, is_abnormal, strict=True) if keep)
        return [(statements[place].region, statements[place].text) for place in kept]


def _listed(found: Iterable[tuple[str, str]]) -> BuiltList:
    """Return entries in the order of the regions, each once."""
    unique = dict.fromkeys(found)
    entries = [Abnormality(name, text) for name in STEERING_REGIONS for region, text in unique if region == name]
    return BuiltList(tuple(entries), tuple(text for region, text in unique if not region))
