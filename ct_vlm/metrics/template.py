"""Labels to a report, sentence by sentence out of training reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.metrics.functional.inputs import as_label_matrix, as_reference_texts, check_pairs
from ct_vlm.metrics.labeler import RuleLabeler
from ct_vlm.text.region_lexicon import find_region
from ct_vlm.text.sections import split_sections
from ct_vlm.text.sentences import split_sentences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_DENIED = 0.5
_EVIDENCE = 5


@dataclass(frozen=True)
class TemplateWriter:
    """Write reports from labels alone: the most common sentence of each label, normal ones elsewhere.

    A model that sees the image must beat this at word overlap; given its own predicted labels, also
    at clinical efficacy.

    Args:
        label_names: The labels.
        positive: Label to the sentence that states it most often in training reports.
        normal: Region to its most common sentence that states no label.
        denies: Region to the labels that its normal sentence goes without: it stands (almost) never in
            reports with them.
        frequencies: Share of training reports with each label.
        order: Sentences in the order in which reports have them.
        invented: Labels that no training sentence states; their sentence is "<label> is seen."

    Example:
        >>> from ct_vlm.metrics import TemplateWriter
        >>> reports = ["Heart size is normal. Lungs are clear."] * 3 + ["Cardiomegaly. Lungs are clear."] * 2
        >>> writer = TemplateWriter.fit(reports)
        >>> labels = [[int(name == "Cardiomegaly") for name in writer.label_names], [0] * 18]
        >>> writer.write(labels)
        ['Cardiomegaly. Lungs are clear.', 'Heart size is normal. Lungs are clear.']
    """

    label_names: tuple[str, ...]
    positive: dict[str, str]
    normal: dict[str, str]
    denies: dict[str, list[str]]
    frequencies: dict[str, float]
    order: list[str]
    invented: tuple[str, ...] = ()

    @classmethod
    def fit(cls, train_reports: Sequence[str], labels: Any = None, labeler: Any = None) -> Self:
        """Learn the sentences of training reports (of their findings sections, where they have one).

        Args:
            train_reports: The reports.
            labels: Their labels; the labeler's unless given.
            labeler: Labels sentences; the rule labeler unless given.

        Shape:
            - labels: ``(N, K)``.

        Raises:
            DatasetError: If there is no training report.
        """
        labeler = RuleLabeler() if labeler is None else labeler
        names = tuple(labeler.label_names)
        reports = [_sentences(text) for text in as_reference_texts(train_reports)]
        if not any(reports):
            cause = "No training report holds a sentence."
            raise DatasetError(cause, "Pass the reports of the training split.")
        given = np.asarray(labeler(list(train_reports))) if labels is None else labels
        known = np.nan_to_num(as_label_matrix(given, "labels", len(names)).double().numpy())
        check_pairs(reports, known)
        corpus = _Corpus(reports, labeler)
        positive, invented = corpus.positive(names)
        normal, denies = corpus.normal(known, names)
        chosen = [*positive.values(), *normal.values()]
        return cls(
            label_names=names,
            positive=positive,
            normal=normal,
            denies=denies,
            frequencies=dict(zip(names, known.mean(axis=0).tolist(), strict=True)),
            order=sorted(dict.fromkeys(chosen), key=lambda sentence: corpus.place.get(sentence, 1.0)),
            invented=invented,
        )

    def write(self, labels: Any) -> list[str]:
        """Write one report a row of labels.

        Args:
            labels: 0/1 labels.

        Shape:
            - labels: ``(B, K)``.
        """
        matrix = as_label_matrix(labels, "labels", len(self.label_names)).numpy() == 1
        return [
            self._write({name for name, value in zip(self.label_names, row, strict=True) if value}) for row in matrix
        ]

    def write_frequent(self, count: int) -> list[str]:
        """Write the report of the labels that most training reports have, again and again.

        Args:
            count: How many reports to write.
        """
        return [self._write({name for name, share in self.frequencies.items() if share > 0.5})] * count

    def write_random(self, count: int, seed: int = 0) -> list[str]:
        """Write reports of labels drawn, one by one, with their frequency in training.

        Args:
            count: How many reports to write.
            seed: Seed of the draw.
        """
        share = np.array([self.frequencies[name] for name in self.label_names])
        return self.write((np.random.default_rng(seed).random((count, len(share))) < share).astype(int))

    def _write(self, present: set[str]) -> str:
        """Write one report."""
        chosen = {self.positive[name] for name in present}
        chosen |= {text for region, text in self.normal.items() if present.isdisjoint(self.denies[region])}
        return " ".join(sentence for sentence in self.order if sentence in chosen)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build a writer from what :meth:`to_dict` returned.

        Args:
            values: The dict.

        Raises:
            ConfigError: If it is none.
        """
        try:
            names, invented = tuple(values["label_names"]), tuple(values["invented"])
            return cls(**{**values, "label_names": names, "invented": invented})
        except (KeyError, TypeError) as error:
            cause = f"Cannot read a template: {error}."
            raise ConfigError(cause, "Use the output of `TemplateWriter.to_dict`.") from error


class _Corpus:
    """The sentences of training reports: how often, where, and what they state."""

    def __init__(self, reports: Sequence[Sequence[str]], labeler: Any) -> None:
        self.reports = [set(report) for report in reports]
        self.counts = Counter(sentence for report in self.reports for sentence in sorted(report))
        places: dict[str, list[float]] = {}
        for report in reports:
            for position, sentence in enumerate(report):
                places.setdefault(sentence, []).append(position / len(report))
        self.place = {sentence: float(np.mean(found)) for sentence, found in places.items()}
        self.sentences = [sentence for sentence, _ in self.counts.most_common()]
        self.states = np.asarray(labeler(self.sentences)) == 1

    def positive(self, names: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
        """Return the commonest sentence of each label, one that states no other if there is any."""
        found: dict[str, str] = {}
        invented = []
        for column, name in enumerate(names):
            rows = np.flatnonzero(self.states[:, column])
            if len(rows):
                # sentences stand by falling frequency, so the first of the fewest labels is the commonest
                found[name] = self.sentences[rows[np.argmin(self.states[rows].sum(axis=1))]]
            else:
                found[name] = f"{name} is seen."
                invented.append(name)
        return found, tuple(invented)

    def normal(self, known: NDArray[np.float64], names: Sequence[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
        """Return the commonest label-free sentence of each region, and the labels it does not go with."""
        chosen: dict[str, str] = {}
        for row, sentence in enumerate(self.sentences):
            region = None if self.states[row].any() else find_region(sentence)
            if region is not None:
                chosen.setdefault(region, sentence)
        denies = {}
        for region, sentence in chosen.items():
            holds = np.array([sentence in report for report in self.reports], dtype=float)
            with_label, expected = holds @ known, holds.mean() * known.sum(axis=0)
            rare = (with_label < _DENIED * expected) & ((expected >= _EVIDENCE) | (with_label == 0))
            denies[region] = [name for name, is_rare in zip(names, rare, strict=True) if is_rare]
        return chosen, denies


def _sentences(report: str) -> list[str]:
    """Return the sentences of a report's findings, or of its impressions where there are none."""
    sections = split_sections(report)
    return split_sentences(sections.findings or sections.impressions)
