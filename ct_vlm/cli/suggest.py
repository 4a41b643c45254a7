"""Answer a mistyped name with the nearest known ones."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def did_you_mean(typed: str, known: Sequence[str]) -> str:
    """Return a sentence with the nearest known names, or an empty string.

    Args:
        typed: What the user wrote.
        known: The names that exist.

    Example:
        >>> did_you_mean("genrate", ["generate", "fit"])
        'Did you mean `generate`?'
        >>> did_you_mean("xyz", ["generate", "fit"])
        ''
    """
    near = difflib.get_close_matches(typed, sorted(set(known)), n=2, cutoff=0.6)
    return "Did you mean " + " or ".join(f"`{name}`" for name in near) + "?" if near else ""
