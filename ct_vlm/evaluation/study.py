"""A whole evaluation of files in one call: read, score, compare, write."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import DatasetError
from ct_vlm.evaluation import names
from ct_vlm.evaluation.comparing import compare
from ct_vlm.evaluation.export import write_cases, write_challenge, write_json
from ct_vlm.evaluation.html import Page, write_html
from ct_vlm.evaluation.labelers import get_labeler
from ct_vlm.evaluation.pairing import Pairs, pair_reports
from ct_vlm.evaluation.reading import read_rows
from ct_vlm.evaluation.reliance import read_reliance
from ct_vlm.evaluation.scoring import Evaluation, Settings, evaluate
from ct_vlm.evaluation.tables import ReportTable, read_reports
from ct_vlm.evaluation.values import json_values
from ct_vlm.metrics import RelianceResult, RuleLabeler
from ct_vlm.text.region_reports import strip_region_prefixes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ct_vlm.evaluation.tables import Role

SCHEMES = {"six": "medregion", "ten": "radgenome"}
_INPUTS = ("predictions", "references", "labels", "compare", "train_reports", "train_labels", "scores", "calibration",
           "calibration_labels", "reliance")  # fmt: skip


@dataclass(frozen=True)
class Files:
    """Where everything is read from.

    Args:
        predictions: Generated reports, or predicted labels.
        references: True reports; the column ``reference`` of the predictions unless given.
        labels: True labels, if they lie in a file of their own.
        compare: Reports of a second system.
        train_reports: Training reports, for baselines.
        train_labels: Their labels; the labeler's unless given.
        scores: Label probabilities of the first system.
        calibration: Label probabilities of a calibration split, or ``"oracle"``.
        calibration_labels: True labels of the calibration split.
        reliance: A visual-reliance study of the first system.
        id_column: Name of the id's column, if unusual.
        text_column: Name of the predicted text's column, if unusual.
        reference_column: Name of the true text's column, if unusual.
        sections: ``findings``, ``impressions`` or ``both``, of references with sections.
        strip_region_headings: Whether "Lung:" and other headings of regions are taken out of all
            reports: references mostly have none, and they would count as words.
    """

    predictions: str | Path
    references: str | Path | None = None
    labels: str | Path | None = None
    compare: str | Path | None = None
    train_reports: str | Path | None = None
    train_labels: str | Path | None = None
    scores: str | Path | None = None
    calibration: str | Path | None = None
    calibration_labels: str | Path | None = None
    reliance: str | Path | None = None
    id_column: str | None = None
    text_column: str | None = None
    reference_column: str | None = None
    sections: str = "findings"
    strip_region_headings: bool = False

    def read(self, path: str | Path, role: Role, column: str | None = None) -> ReportTable:
        """Read one of the files.

        Args:
            path: The file.
            role: Whether it holds predictions or references.
            column: Name of the text's column, if unusual.
        """
        table = read_reports(path, role, id_column=self.id_column, text_column=column, sections=self.sections)
        if not self.strip_region_headings or table.reports is None:
            return table
        return replace(table, reports=tuple(text and strip_region_prefixes(text) for text in table.reports))

    def inputs(self) -> dict[str, Any]:
        """Return names and checksums of the files, so that results say what they are of."""
        given = {name: Path(str(getattr(self, name))) for name in _INPUTS if getattr(self, name)}
        return {
            name: {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for name, path in given.items()
            if path.is_file()
        }


@dataclass(frozen=True)
class Extras:
    """What is computed besides the scores of :func:`ct_vlm.evaluation.evaluate`.

    Args:
        regions: ``six`` or ``ten``: scores by region.
        scorers: Outside scorers: ``green``, ``ratescore``, ``radgraph``.
        scorer_models: Scorer to the folders of its models.
        n_permutations: Swaps of the test of two systems; 0 for none.
    """

    regions: str | None = None
    scorers: tuple[str, ...] = ()
    scorer_models: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    n_permutations: int = 1000


@dataclass(frozen=True)
class Study:
    """An evaluation of one system, or of two.

    Args:
        systems: Name of each system to its scores; the first is the one that is looked at closely.
        pairs: Reports of the first.
        comparison: From :func:`ct_vlm.evaluation.compare`, if there are two.
        reliance: Visual-reliance study of the first, if there is one.
        inputs: Files and their checksums.
        settings: As the systems were scored.
    """

    systems: dict[str, Evaluation]
    pairs: Pairs
    comparison: dict[str, Any] | None
    reliance: RelianceResult | None
    inputs: dict[str, Any]
    settings: Settings

    @property
    def results(self) -> dict[str, Any]:
        """All results as JSON values: the scores of the first system, and beside them the rest."""
        first, *others = (found.scores for found in self.systems.values())
        found = {**first, "inputs": self.inputs, "comparison": self.comparison}
        if others:
            found["compared"] = others[0]
        if self.reliance is not None:
            found["reliance"] = self.reliance.to_dict()
        return dict(json_values(found))

    def write(self, folder: str | Path, num_cases: int = 5, challenge: str | Path | None = None) -> list[Path]:
        """Write ``metrics.json``, ``cases.csv`` and ``report.html``.

        Args:
            folder: Where to; made if it does not exist.
            num_cases: Worst and best cases shown in the page, each.
            challenge: Also write the first system's reports there, in the VLM3D challenge's format.

        Returns:
            The files.
        """
        out = Path(folder)
        files = [out / name for name in ("metrics.json", "cases.csv", "report.html")]
        cases = next(iter(self.systems.values())).cases
        if challenge is not None:
            reports = dict(zip(self.pairs.ids, self.pairs.predictions or (), strict=True))
            write_challenge(Path(challenge), reports)
            files.append(Path(challenge))
        write_json(files[0], self.results)
        write_cases(files[1], cases)
        labeler = get_labeler(self.settings.labeler)
        explain = labeler.explain if isinstance(labeler, RuleLabeler) else None
        scores = {name: found.scores for name, found in self.systems.items()}
        write_html(files[2], Page(scores, cases, self.comparison, self.reliance, num_cases, explain=explain))
        return files


def evaluate_files(files: Files, settings: Settings | None = None, extras: Extras | None = None) -> Study:
    r"""Read, score and compare; what ``ct-vlm evaluate`` does.

    Args:
        files: Where everything is read from.
        settings: Protocol, labeler, resamples.
        extras: Regions, outside scorers, permutations.

    Raises:
        DatasetError: If a file is malformed or files do not fit each other; the message names rows.
        ConfigError: If a setting is unknown.

    Example:
        >>> import pathlib, tempfile
        >>> from ct_vlm.evaluation import Files, Settings, evaluate_files
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "system.csv")
        ...     _ = file.write_text("id,prediction,reference\na,No nodule.,No nodule.\nb,Nodule.,Nodule.\n")
        ...     study = evaluate_files(Files(file), Settings(metrics=["bleu"], n_resamples=10))
        ...     _ = study.write(pathlib.Path(folder, "out"))
        >>> round(study.results["nlg"]["bleu_1"], 3), study.results["clinical"]["micro_f1"]
        (1.0, 1.0)
    """
    chosen, more = settings or Settings(), extras or Extras()
    references = _references(files)
    labels = files.read(files.labels, "references") if files.labels else None
    reliance = read_reliance(files.reliance) if files.reliance else None
    pairs = _pairs(files, files.predictions, references, labels)
    found = evaluate(pairs, chosen)
    _add_extras(files, pairs, found, chosen, more)
    systems, comparison = {_name(files.predictions): found}, None
    if files.compare:
        others = _pairs(files, files.compare, references, labels)
        second = evaluate(others, chosen)
        systems[_name(files.compare, systems)] = second
        comparison = compare((pairs, found), (others, second), chosen, more.n_permutations)
    return Study(systems, pairs, comparison, reliance, files.inputs(), chosen)


def _references(files: Files) -> ReportTable:
    """Return the true reports, or the true labels alone."""
    if files.references:
        return files.read(files.references, "references", files.reference_column)
    column = files.reference_column or read_rows(files.predictions).find(names.REFERENCE_NAMES[:2])
    if column is not None:
        return files.read(files.predictions, "references", column)
    if files.labels:
        return files.read(files.labels, "references")
    cause = f"`{files.predictions}` has no column {names.REFERENCE_NAMES[0]!r}, and there is no file of references."
    raise DatasetError(cause, "Pass `--references FILE`, or `--labels FILE` for clinical scores alone.")


def _pairs(files: Files, path: str | Path, references: ReportTable, labels: ReportTable | None) -> Pairs:
    """Read a system's reports and put them beside the references."""
    return pair_reports(files.read(path, "predictions", files.text_column), references, labels)


def _add_extras(files: Files, pairs: Pairs, found: Evaluation, settings: Settings, extras: Extras) -> None:
    """Add what was asked for to the scores."""
    scores = found.scores
    if extras.regions:
        scores["regions"] = _regions(pairs, settings, extras.regions)
    if files.train_reports:
        from ct_vlm.evaluation.beating import baseline_scores

        train = _train(files, files.train_reports)
        scores["baselines"] = baseline_scores(pairs, found, train, settings)
    if files.scores:
        from ct_vlm.evaluation.classifier import score_probabilities

        truth = ReportTable(pairs.ids, labels=found.target_labels, source=str(files.labels or files.references))
        known = files.read(files.calibration_labels, "references") if files.calibration_labels else None
        scores["classifier"] = score_probabilities(
            files.scores, truth, files.calibration, known, zero_division=settings.zero_division
        )
    if extras.scorers:
        from ct_vlm.evaluation.scorers import outside_scores

        scores["scorers"] = outside_scores(pairs, extras.scorers, extras.scorer_models, progress=settings.progress)


def _train(files: Files, path: str | Path) -> ReportTable:
    """Return training reports, with labels where a file of them is given."""
    train = files.read(path, "references", files.reference_column)
    if not files.train_labels:
        return train
    labels = files.read(files.train_labels, "references")
    joined = pair_reports(train, train, labels)
    return ReportTable(train.ids, train.reports, joined.target_labels, train.patients, train.scans, train.source)


def _regions(pairs: Pairs, settings: Settings, scheme: str) -> dict[str, Any]:
    """Return scores by region."""
    from ct_vlm.evaluation.progress import step
    from ct_vlm.metrics import region_scores

    if pairs.predictions is None or pairs.references is None:
        cause = "Scores by region need reports on both sides."
        raise DatasetError(cause, "Pass files with reports.")
    labeler = get_labeler(settings.labeler)
    with step("Scoring regions", show=settings.progress):
        found = region_scores(
            pairs.predictions,
            pairs.references,
            SCHEMES.get(scheme, scheme),
            labeler=labeler if hasattr(labeler, "label_names") else None,
            protocol=settings.protocol,
        )
    return dict(json_values(found.to_dict()))


def _name(path: str | Path, taken: Any = ()) -> str:
    """Return a short name of a system: its file's, with its folder (or a number) where two are alike."""
    choices = (Path(path).stem, str(Path(path).with_suffix("")), f"{Path(path).stem} (2)")
    return next(name for name in choices if name not in taken)
