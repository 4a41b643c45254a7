"""Lists of abnormalities of a whole download, out of its tables alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from ct_vlm.datasets.layout import CTRateLayout
from ct_vlm.datasets.preferences import PreferencePair
from ct_vlm.datasets.radgenome.layout import RadGenomeLayout
from ct_vlm.datasets.radgenome.report import RadGenomeReport
from ct_vlm.datasets.radgenome.texts import WHOLE, RegionTexts, check_columns
from ct_vlm.datasets.steering.answers import check_answer, render_answer
from ct_vlm.datasets.steering.building import AbnormalityBuilder
from ct_vlm.datasets.tables import compose_report, parse_labels, read_table
from ct_vlm.errors import ConfigError
from ct_vlm.text.labels import CT_RATE_LABELS
from ct_vlm.text.region_scheme import region_scheme
from ct_vlm.text.steering import STEERING_PROMPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ct_vlm.datasets.steering.answers import Answer
    from ct_vlm.datasets.steering.negatives import HardNegatives
    from ct_vlm.text.abnormality_lists import Abnormality

Layout = Literal["auto", "ct_rate", "radgenome"]


@dataclass(frozen=True)
class SteeredScan:
    """A volume with its report and the list that was made of it.

    Args:
        id: The volume.
        abnormalities: The list.
        report: The report.
        labels: Labels that a table says are positive.
        unplaced: Abnormal sentences that are not in the list, since no region was found for them.
    """

    id: str
    abnormalities: tuple[Abnormality, ...]
    report: str
    labels: frozenset[str] = frozenset()
    unplaced: tuple[str, ...] = ()


def read_scans(
    root: str | Path,
    split: str = "train",
    layout: Layout = "auto",
    build: AbnormalityBuilder | None = None,
    on_scan: Callable[[], object] = lambda: None,
) -> list[SteeredScan]:
    """Read the reports of a download and make the list of each; volumes are not needed.

    Args:
        root: The folder that holds ``dataset/``, or that folder itself.
        split: ``train`` or ``valid``.
        layout: ``"radgenome"`` takes the regions that the data set links sentences to, ``"ct_rate"``
            finds regions by word lists, ``"auto"`` the former where its table lies there.
        build: Makes the lists.
        on_scan: Called after each scan.

    Returns:
        Volumes with a text, in the order of the table, each once.

    Raises:
        ConfigError: If ``layout`` is unknown.
        DatasetError: If a table is missing or malformed.
    """
    if layout not in get_args(Layout):
        cause = f"Unknown layout {layout!r}."
        raise ConfigError(cause, f"Choose from: {', '.join(get_args(Layout))}.")
    build = AbnormalityBuilder() if build is None else build
    if layout == "auto":
        tables = RadGenomeLayout(root).tables("region_report", split)
        layout = "radgenome" if any(path.is_file() for path in tables) else "ct_rate"
    scans = []
    for scan in (_radgenome if layout == "radgenome" else _ct_rate)(root, split, build):
        scans.append(scan)
        on_scan()
    return scans


def make_pairs(
    scans: Iterable[SteeredScan],
    negatives: HardNegatives,
    *,
    prompt: str = STEERING_PROMPT,
    answer: Answer = "list",
    epoch: int = 0,
    on_scan: Callable[[], object] = lambda: None,
) -> Iterator[PreferencePair]:
    r"""Yield a pair of the true list and a wrong one for each scan that a wrong one can be made of.

    Args:
        scans: The scans.
        negatives: Makes the wrong lists.
        prompt: Instruction; that of the first stage, whose answers start with the list.
        answer: ``"list"`` for the list alone with its heading, ``"list_and_heading"`` for the list and
            the heading of the report after it, ``"full"`` with the true report after either list. Of these
            ``"list"`` may end within a token of the first stage, see
            :func:`~ct_vlm.datasets.steering.answers.render_answer`.
        epoch: Decides, with the negatives' seed, which ones are made.
        on_scan: Called after each scan.

    Raises:
        ConfigError: If ``answer`` is unknown.

    Example:
        >>> from ct_vlm.datasets.steering import HardNegatives, SteeredScan, make_pairs
        >>> from ct_vlm.text import Abnormality
        >>> scan = SteeredScan("a_1", (Abnormality("pleura", "Left effusion."),), "Left effusion.")
        >>> next(make_pairs([scan], HardNegatives("side"))).rejected
        'Abnormalities:\n(Pleura: Right effusion.)'

    References:
        AbSteering, arXiv 2603.12469: the pair is the true and the wrong list. Inferred: the heading
        and the prompt of the first stage, since both parts are asked for when the model is used.
    """
    check_answer(answer)
    for scan in scans:
        negative = negatives(scan.abnormalities, scan.report, key=scan.id, epoch=epoch, labels=scan.labels)
        if negative is not None:
            texts = [render_answer(entries, scan.report, answer) for entries in (scan.abnormalities, negative.entries)]
            yield PreferencePair(scan.id, prompt, texts[0], texts[1], negative.changes)
        on_scan()


def _radgenome(root: str | Path, split: str, build: AbnormalityBuilder) -> Iterator[SteeredScan]:
    """Read RadGenome-ChestCT's region reports."""
    path = RadGenomeLayout(root).require_table("region_report", split)
    texts = RegionTexts(region_scheme(), RadGenomeReport(str(root), split, "preprocessed"))
    for volume, regions in texts.read(read_table(path), path).items():
        linked = {name: text for name, text in regions.items() if name != WHOLE}
        report = regions.get(WHOLE) or " ".join(linked.values())
        built = build.read_regions(linked) if linked else build.read_report(report)
        yield SteeredScan(volume, built.entries, report, unplaced=built.unplaced)


def _ct_rate(root: str | Path, split: str, build: AbnormalityBuilder) -> Iterator[SteeredScan]:
    """Read CT-RATE's reports, and its labels where they are there."""
    layout = CTRateLayout(root)
    path = layout.require_table("reports", split)
    table = read_table(path)
    check_columns(table, ("Findings_EN", "Impressions_EN"), path)
    table = table[~table.index.duplicated()]
    labels_path = layout.find_table("labels", split)
    labels = {} if labels_path is None else parse_labels(read_table(labels_path), labels_path)
    for volume, findings, impressions in zip(table.index, table["Findings_EN"], table["Impressions_EN"], strict=True):
        report = compose_report(findings, impressions)
        if report is not None:
            row = labels.get(str(volume), ())
            positive = frozenset(name for name, value in zip(CT_RATE_LABELS, row, strict=False) if value == 1)
            built = build.read_report(report)
            yield SteeredScan(str(volume), built.entries, report, positive, built.unplaced)
