"""GREEN: read an evaluator's answer and count its errors."""

from __future__ import annotations

import re
from dataclasses import dataclass

ERROR_LETTERS = "abcdef"
_SECTION = r"\[{name}\]\s*:?(.*?)(?=\n\s*\[|\Z)"
_COUNT = re.compile(r":\s*(\d+)\s*\.?(?!\d)")


@dataclass(frozen=True)
class GreenAnswer:
    """What an evaluator's answer counts.

    Attributes:
        matched: Findings that agree.
        significant_errors: Clinically significant errors of the kinds (a) to (f).
        readable: Whether the sections that the score needs were found.
    """

    matched: int
    significant_errors: tuple[int, ...]
    readable: bool

    @property
    def score(self) -> float:
        """Return matched / (matched + significant errors), 0 without a match."""
        return self.matched / (self.matched + sum(self.significant_errors)) if self.matched else 0.0


def parse_green(answer: str) -> GreenAnswer:
    r"""Read the counts out of a GREEN evaluator's answer.

    Args:
        answer: Text with the sections ``[Clinically Significant Errors]`` and ``[Matched Findings]``.

    Example:
        >>> from ct_vlm.metrics.adapters.green import parse_green
        >>> answer = "[Clinically Significant Errors]:\n(a) False report: 1. Nodule\n[Matched Findings]:\n1. Effusion"
        >>> parse_green(answer).score
        0.5

    References:
        [1] Ostmeier et al., GREEN, 2024, https://arxiv.org/abs/2405.03595.
    """
    errors, matches = _section(answer, "Clinically Significant Errors"), _section(answer, "Matched Findings")
    counts = tuple(_error_count(errors or "", letter) for letter in ERROR_LETTERS)
    first = re.search(r"\d+", matches or "")
    return GreenAnswer(int(first[0]) if first else 0, counts, errors is not None and matches is not None)


def _section(answer: str, name: str) -> str | None:
    """Return a section's text."""
    found = re.search(_SECTION.format(name=re.escape(name)), answer, re.DOTALL | re.IGNORECASE)
    return found[1] if found else None


def _error_count(section: str, letter: str) -> int:
    """Return how many errors of a kind a section counts."""
    line = re.search(rf"^\s*\({letter}\)(.*)$", section, re.MULTILINE | re.IGNORECASE)
    number = _COUNT.search(line[1]) if line else None
    return int(number[1]) if number else 0
