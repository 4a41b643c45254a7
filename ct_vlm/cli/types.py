"""Types of command-line values."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Parse an integer of at least 1.

    Args:
        text: What the user wrote.

    Returns:
        The number.

    Raises:
        ArgumentTypeError: If it is no integer or smaller.

    Example:
        >>> positive("3")
        3
    """
    if not text.isdecimal() or int(text) < 1:
        msg = f"expected an integer of at least 1, but got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)
