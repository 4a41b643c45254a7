"""Questions about the scans of a RadGenome-ChestCT data set, as items to train on."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

from torch.utils.data import Dataset

from ct_vlm.datasets.epoch_index import EpochIndex, draw_seed, epoch_of
from ct_vlm.datasets.radgenome.questions import TASKS, TEMPLATES, read_questions
from ct_vlm.datasets.radgenome.report import RadGenomeReport
from ct_vlm.datasets.radgenome.texts import WHOLE
from ct_vlm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from ct_vlm.datasets.radgenome.dataset import RadGenomeDataset
    from ct_vlm.datasets.radgenome.questions import Question


class RadGenomeVQA(Dataset[dict[str, Any]]):
    """The questions of some tasks about the scans of a data set.

    Items are those of the data set with ``prompt`` (the question), the answer, ``task``,
    ``anatomy`` and ``subject``.

    Args:
        dataset: The scans.
        tasks: Some of ``report``, ``abnormality``, ``presence``, ``location``, ``size`` and
            ``disorder``.
        templates: Task to wording or wordings with the fields ``{region}`` and ``{subject}``; of
            several one is drawn. Tasks it does not name take
            :data:`ct_vlm.datasets.radgenome.TEMPLATES`, which are our own wording.
        answer_key: Key of the answer; ``report`` makes it the target of report training.
        volumes: Whether items hold image and masks.
        seed: Decides the wording, with epoch and index.

    Raises:
        DatasetError: If a table is missing or malformed.
        ConfigError: If a task or a template is unknown or cannot be filled in, or the data set's
            augmentation mirrors scans (questions and answers name sides).
    """

    def __init__(
        self,
        dataset: RadGenomeDataset,
        tasks: Sequence[str] = TASKS,
        *,
        templates: Mapping[str, str | Sequence[str]] | None = None,
        answer_key: str = "answer",
        volumes: bool = True,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.tasks = tuple(tasks)
        self.templates = _templates(self.tasks, templates or {})
        self.answer_key = answer_key
        self.volumes = volumes
        self.seed = seed
        _check_flips(dataset)
        self.reports: dict[str, RadGenomeReport] = {}
        self._all: list[Question] = []
        for task in self.tasks:
            report = RadGenomeReport(str(dataset.layout.root), dataset.split, "preprocessed")
            questions = read_questions(dataset.layout, dataset.split, task, report)
            self._all.extend(questions)
            self.reports[task] = report
        self._select()

    def _select(self) -> None:
        """Keep the questions about scans of the data set."""
        self._place = {sample.name.volume_id: place for place, sample in enumerate(self.dataset.samples)}
        self.questions = [question for question in self._all if question.volume_id in self._place]
        for task, report in self.reports.items():
            report.samples = sum(question.task == task for question in self.questions)

    def __len__(self) -> int:
        """Return the number of questions."""
        return len(self.questions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a question with its scan.

        Args:
            index: Position; an :class:`ct_vlm.datasets.EpochIndex` also decides wording and augmentation.
        """
        item = self.record(index)
        if self.volumes:
            place = EpochIndex(self._place[item["volume_id"]], epoch_of(index))
            item = {**self.dataset[place], **item}
        return item

    def record(self, index: int) -> dict[str, Any]:
        """Return a question without what is read from its volume and masks.

        Args:
            index: As in indexing.
        """
        question = self.questions[index]
        wordings = self.templates[question.task]
        draw = draw_seed(self.seed, "wording", epoch_of(index), int(index)) % len(wordings)
        region = "scan" if question.anatomy == WHOLE else question.region
        return {
            **self.dataset.record(self._place[question.volume_id]),
            "prompt": wordings[draw].format(region=region, subject=question.subject),
            self.answer_key: question.answer,
            "task": question.task,
            "anatomy": question.anatomy,
            "subject": question.subject,
        }

    def sample(self, index: int) -> Any:
        """Return what the index knows of the scan of a question."""
        return self.dataset.sample(self._place[self.questions[index].volume_id])

    def patient_ids(self) -> list[str]:
        """Return the patients with a question, sorted."""
        return sorted({self.sample(index).name.patient_id for index in range(len(self))})

    def subset(self, patients: Collection[str], **changes: Any) -> Self:
        """Return the questions about some of the patients.

        Args:
            patients: Patients to keep.
            **changes: As in :meth:`ct_vlm.datasets.RadGenomeDataset.subset`.
        """
        part = copy.copy(self)
        part.dataset = self.dataset.subset(patients, **changes)
        _check_flips(part.dataset)
        part.reports = copy.deepcopy(self.reports)
        part._select()
        return part


def _templates(tasks: Sequence[str], given: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the wordings of each task.

    Raises:
        ConfigError: If a task is unknown, or a wording cannot be filled in.
    """
    unknown = sorted({*tasks, *given} - set(TASKS))
    if unknown or not tasks:
        cause = f"Unknown tasks {unknown}." if unknown else "No tasks are given."
        raise ConfigError(cause, f"Use {', '.join(TASKS)}.")
    wordings: dict[str, tuple[str, ...]] = {}
    for task in tasks:
        wanted = given.get(task) or TEMPLATES[task]
        wordings[task] = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        for text in wordings[task]:
            try:
                text.format(region="", subject="")
            except (KeyError, IndexError, ValueError) as error:
                cause = f"The template {text!r} of {task!r} cannot be filled in: {error}."
                raise ConfigError(cause, "Its fields are {region} and {subject}.") from error
    return wordings


def _check_flips(dataset: RadGenomeDataset) -> None:
    """Raise if scans are mirrored under questions that name sides.

    Raises:
        ConfigError: If they are.
    """
    if getattr(dataset.augment, "flip_probability", 0) > 0:
        cause = "Questions and answers name sides, but the data set's augmentation mirrors scans."
        raise ConfigError(cause, "Pass an augmentation with `flip_probability=0`.")
