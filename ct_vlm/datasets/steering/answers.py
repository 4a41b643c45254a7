"""Which part of the first stage's answer the texts of a pair hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from ct_vlm.errors import ConfigError
from ct_vlm.text.steering import render_cot, render_list

if TYPE_CHECKING:
    from collections.abc import Iterable

Answer = Literal["list", "list_and_heading", "full"]
"""The list alone, the list up to the report's first word, or list and report."""


def render_answer(entries: Iterable[tuple[str, str]], report: str, answer: Answer) -> str:
    r"""Write a part of an answer of the first stage.

    ``"list"`` ends with the last bracket, where many tokenizers put no end between two tokens: those of Qwen
    join ``.)`` and the two line ends that come next to one token. Its last token is then one that the first
    stage never writes there. ``"list_and_heading"`` goes on through ``Report:`` and its line end; its tokens are the
    first ones of the whole answer.

    Args:
        entries: Region and text of each abnormality.
        report: The report, for ``"full"``.
        answer: Which part.

    Raises:
        ConfigError: If ``answer`` or a region is unknown.

    Example:
        >>> from ct_vlm.datasets.steering.answers import render_answer
        >>> render_answer([("lung", "A nodule.")], "A nodule is seen.", "list_and_heading")
        'Abnormalities:\n(Lung: A nodule.)\n\nReport:\n'
    """
    check_answer(answer)
    if answer == "list":
        return render_list(entries)
    return render_cot(entries, report if answer == "full" else "")


def check_answer(answer: str) -> None:
    """Raise unless a part is known.

    Args:
        answer: ``"list"``, ``"list_and_heading"`` or ``"full"``.

    Raises:
        ConfigError: If it is none of them.
    """
    if answer not in get_args(Answer):
        cause = f"Unknown answer {answer!r}."
        raise ConfigError(cause, f"Choose from: {', '.join(get_args(Answer))}.")
