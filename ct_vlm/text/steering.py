r"""Targets that name the abnormalities before they tell the report, and the two parts of such a text.

References:
    AbSteering, arXiv 2603.12469: the target is ``[R_AB; R_Full]``, the list and then the full report.
    Inferred: the headings ``Abnormalities:`` and ``Report:``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct_vlm.errors import DatasetError
from ct_vlm.text.abnormality_lists import Abnormality, parse_abnormalities, render_abnormalities
from ct_vlm.text.abnormality_reading import Problem, read_abnormalities

if TYPE_CHECKING:
    from collections.abc import Iterable

_LIST_HEAD = "Abnormalities:\n"
_REPORT_HEAD = "\n\nReport:\n"
_ANY_LIST_HEAD = re.compile(r"\s*abnormalit(?:ies|y)[ \t]*:[ \t]*\n?", re.IGNORECASE)
_ANY_REPORT_HEAD = re.compile(r"(?:^|\n|(?<=\)))[ \t]*(?:full )?report[ \t]*:[ \t]*\n?", re.IGNORECASE)

STEERING_PROMPT = "List the abnormalities by region, then write the full report."
"""Instruction for both parts (inferred)."""

LIST_PROMPT = "List the abnormalities by region."
"""Instruction for the list alone (inferred)."""


@dataclass(frozen=True)
class SteeredText:
    """A list of abnormalities and the report after it.

    Args:
        abnormalities: Entries of the list.
        report: The report.
        list_text: The list as it stood.
        problems: What could not be read (``("truncated", "")`` where the report is missing).
    """

    abnormalities: tuple[Abnormality, ...]
    report: str
    list_text: str = ""
    problems: tuple[Problem, ...] = ()

    @property
    def lost(self) -> tuple[Problem, ...]:
        """Problems that take something from the list: a missing report and an entry twice do not."""
        return tuple(p for p in self.problems if p.kind != "duplicate" and p != ("truncated", ""))


def render_list(abnormalities: Iterable[tuple[str, str]]) -> str:
    r"""Write the first part of a target: the list with its heading.

    Args:
        abnormalities: Region and text of each abnormality.

    Raises:
        ConfigError: If a region is unknown.

    Example:
        >>> from ct_vlm.text import render_list
        >>> render_list([("lung", "A 4 mm nodule.")])
        'Abnormalities:\n(Lung: A 4 mm nodule.)'
    """
    return f"{_LIST_HEAD}{render_abnormalities(abnormalities)}"


def render_cot(abnormalities: Iterable[tuple[str, str]], report: str) -> str:
    r"""Write the target: the list, then the report.

    Args:
        abnormalities: Region and text of each abnormality.
        report: The full report.

    Raises:
        ConfigError: If a region is unknown.

    Example:
        >>> from ct_vlm.text import render_cot
        >>> render_cot([("lung", "A 4 mm nodule.")], "A 4 mm nodule. Heart size is normal.")
        'Abnormalities:\n(Lung: A 4 mm nodule.)\n\nReport:\nA 4 mm nodule. Heart size is normal.'
    """
    return f"{render_list(abnormalities)}{_REPORT_HEAD}{report}"


def parse_cot(text: str) -> SteeredText:
    """Read exactly what :func:`render_cot` wrote, whatever list and report hold.

    Args:
        text: The target.

    Raises:
        DatasetError: If it has not that form.

    Example:
        >>> from ct_vlm.text import parse_cot, render_cot
        >>> parse_cot(render_cot([], "Lungs are clear.")).report
        'Lungs are clear.'
    """
    # no line of a list starts with anything but a bracket or a space, so the first heading is the report's
    listed, mark, report = text.removeprefix(_LIST_HEAD).partition(_REPORT_HEAD)
    if not text.startswith(_LIST_HEAD) or not mark:
        cause = f"`{text[:60]}` is no list of abnormalities with a report after it."
        raise DatasetError(cause, "It should start with `Abnormalities:`; read a model's text with `read_cot`.")
    return SteeredText(parse_abnormalities(listed), report, listed)


def read_cot(text: str) -> SteeredText:
    r"""Read list and report from any text.

    A text without the heading of a report is a list if it starts like one (it was cut off, or has no
    report), and else a report without a list.

    Args:
        text: A model's text.

    Example:
        >>> from ct_vlm.text import read_cot
        >>> read_cot("Abnormalities: (Lung: A nodule.)\nReport: A nodule is seen.").report
        'A nodule is seen.'
        >>> read_cot("Lungs are clear.").report
        'Lungs are clear.'
    """
    try:
        exact = parse_cot(text)
    except DatasetError:
        return _read_any(text)
    return _steered(exact.list_text, exact.report)


def _read_any(text: str) -> SteeredText:
    """Read a text of another form."""
    head = _ANY_LIST_HEAD.match(text)
    body = text[head.end() :] if head else text
    found = _ANY_REPORT_HEAD.search(body)
    if found is None and head is None and not text.lstrip().startswith("("):
        return SteeredText((), text.strip(), "", (Problem("empty", ""),))
    listed = (body if found is None else body[: found.start()]).strip()
    report = "" if found is None else body[found.end() :].strip()
    return _steered(listed, report)


def _steered(listed: str, report: str) -> SteeredText:
    """Return both parts with what is wrong with them."""
    found = read_abnormalities(listed)
    problems = found.problems if report.strip() else (*found.problems, Problem("truncated", ""))
    return SteeredText(found.entries, report, listed, problems)
