"""Pieces of a self-contained HTML page: no scripts, no addresses, text escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.figure import Figure

STYLE = """\
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #ddd}h3{font-size:1rem}
.table{overflow-x:auto}table{border-collapse:collapse;margin:.6rem 0}li{overflow-wrap:anywhere}
th,td{padding:.2rem .6rem;text-align:right;border-bottom:1px solid #eee}
th:first-child,td:first-child{text-align:left}img{max-width:100%}small,.note{color:#666}
.case{border:1px solid #ddd;border-radius:6px;margin:.8rem 0;padding:.6rem .9rem}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:1rem}.pair p{white-space:pre-wrap;margin:.2rem 0}
.pair div{min-width:0;overflow-wrap:anywhere}mark{color:inherit;border-radius:3px;padding:0 .1rem}
.chip{display:inline-block;border-radius:9px;padding:0 .55rem;margin:.1rem .2rem .1rem 0;font-size:.85rem}
.found,.tp{background:#d9ecd9}.missed,.fn{background:#f6d5d5}.invented,.fp{background:#fbe6c4}
@media(max-width:700px){.pair{grid-template-columns:1fr}body{margin:1rem auto}}"""


def document(title: str, parts: Iterable[str]) -> str:
    """Return a whole page.

    Args:
        title: Its title; escaped here.
        parts: HTML of the body, in order.
    """
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{view}<title>{escape(title)}</title>'
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], classes: Sequence[str] = ()) -> str:
    """Return a table.

    Args:
        head: Names of the columns.
        rows: Cells; numbers are written with three digits.
        classes: Style of each column.
    """
    styles = [f' class="{name}"' if name else "" for name in classes] or [""] * len(head)
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "\n".join(
        "<tr>" + "".join(f"<td{style}>{cell(value)}</td>" for style, value in zip(styles, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="table"><table><thead><tr>{top}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def cell(value: Any) -> str:
    """Return a value as escaped text: three digits for a fraction, a hyphen for nothing.

    Args:
        value: A cell.

    Example:
        >>> from ct_vlm.evaluation.page import cell
        >>> cell(0.12345), cell(3), cell(None), cell("<b>")
        ('0.123', '3', '-', '&lt;b&gt;')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) > 1 else f"{value:.3f}"
    return escape(str(value))


def picture(figure: Figure, title: str) -> str:
    """Return a figure as part of the page.

    Args:
        figure: The figure.
        title: Said to those who cannot see it.
    """
    from ct_vlm.evaluation.pictures import as_data_uri

    return f'<img alt="{escape(title)}" src="{as_data_uri(figure)}">'
