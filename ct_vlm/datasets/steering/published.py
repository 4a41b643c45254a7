"""Reading published files of steered targets and preferences (CT-RATE-AB), whatever their fields are called."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ct_vlm.datasets.preferences import PreferencePair
from ct_vlm.datasets.steering.answers import check_answer, render_answer
from ct_vlm.errors import ConfigError, DatasetError
from ct_vlm.text.steering import SteeredText, read_cot
from ct_vlm.transforms.metadata import volume_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ct_vlm.datasets.steering.answers import Answer

DEFAULT_FIELDS: dict[str, str] = {
    "id": "id",
    "video": "videos.0|videos|video",
    "prompt": "conversations.0.value|messages.0.content",
    "answer": "conversations.1.value|messages.1.content|chosen.value|chosen",
    "rejected": "rejected_response|rejected.value|rejected",
}
"""Where each value stands in a row: steps with dots, numbers for places in lists, ``|`` before another way."""

_REQUIRED = ("id", "prompt", "answer")
_MARKERS = re.compile(r"\s*<(?:video|image)>\s*")
_CHUNK = 1 << 20


class RowProblem(NamedTuple):
    """Why a row was left out.

    Args:
        row: Its number, from 0.
        field: Which value.
        why: What is wrong with it.
    """

    row: int
    field: str
    why: str


@dataclass(frozen=True)
class PublishedRow:
    """One row.

    Args:
        id: The volume, without folder and suffix.
        prompt: Instruction, without markers of the video.
        answer: What the model should write; of a preference file the better text.
        rejected: The worse text, if the row has one.
        video: File of the video, if the row names one.
    """

    id: str
    prompt: str
    answer: str
    rejected: str | None = None
    video: str | None = None

    @property
    def target(self) -> SteeredText:
        """The answer as a list and a report, with what could not be read."""
        return read_cot(self.answer)

    def to_pair(self, answer: Answer = "full", prompt: str | None = None) -> PreferencePair:
        r"""Return the row as a preference pair.

        Args:
            answer: ``"full"`` for both texts as they are published, report and all. ``"list_and_heading"``
                (or ``"list"``) reads the lists of both and writes them as the targets of the first stage
                start, see :func:`~ct_vlm.datasets.steering.answers.render_answer`.
            prompt: Instruction in place of the row's own, such as the one of the first stage.

        Raises:
            ConfigError: If ``answer`` is unknown.
            DatasetError: If it has no worse text, the list of a text to be cut cannot be
                read in full, or both are the same.

        Example:
            >>> from ct_vlm.datasets.steering import PublishedRow
            >>> row = PublishedRow("a_1", "Tell.", "(Lung: A nodule.)\nReport: A nodule.", "(Lung: A mass.)")
            >>> row.to_pair("list_and_heading", "List, then tell.").chosen
            'Abnormalities:\n(Lung: A nodule.)\n\nReport:\n'
        """
        check_answer(answer)
        if self.rejected is None:
            cause = f"The row of {self.id!r} has no worse text."
            raise DatasetError(cause, "Read a preference file, or name its field in `fields`.")
        texts = (self.answer, self.rejected)
        if answer != "full":
            texts = (self._start(self.answer, answer), self._start(self.rejected, answer))
        return PreferencePair(self.id, self.prompt if prompt is None else prompt, *texts)

    def _start(self, text: str, answer: Answer) -> str:
        """Return the list of a text, as targets of the first stage start."""
        found = read_cot(text)
        if found.lost:
            cause = f"A text of {self.id!r} has no list that can be read in full ({found.lost[0].kind}): {text[:60]!r}."
            raise DatasetError(cause, "Leave the row out, or take the whole texts with `answer='full'`.")
        return render_answer(found.abnormalities, "", answer)


@dataclass(frozen=True)
class PublishedFile:
    """The rows of a file.

    Args:
        rows: Rows that could be read.
        problems: Why others were left out.
    """

    rows: tuple[PublishedRow, ...]
    problems: tuple[RowProblem, ...] = ()


def read_steered_json(
    path: str | Path, fields: Mapping[str, str] | None = None, *, strict: bool = True
) -> PublishedFile:
    r"""Read a file of targets or preferences: a JSON list of objects, or one object a line.

    The file is read piece by piece, so only the texts are held.

    Args:
        path: E.g. ``CT-RATE-AB-train.json``, ``-valid.json`` or ``-DPO.json``.
        fields: Where a row holds ``id``, ``video``, ``prompt``, ``answer`` and ``rejected``; those left
            out are looked for as in :data:`DEFAULT_FIELDS`.
        strict: Raise at the first row that lacks a value or stands twice; else it is left out and
            listed.

    Raises:
        ConfigError: If ``fields`` has an unknown name.
        DatasetError: If the file is no such JSON, holds no readable row or, if strict, at a bad row.

    Example:
        >>> import json, pathlib, tempfile
        >>> from ct_vlm.datasets.steering import read_steered_json
        >>> turns = [{"from": "human", "value": "<video>\nDescribe."}, {"from": "gpt", "value": "(None)"}]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder, "valid.json")
        ...     _ = file.write_text(json.dumps([{"id": "valid_1_a_1", "conversations": turns}]))
        ...     row = read_steered_json(file).rows[0]
        >>> row.id, row.prompt, row.answer
        ('valid_1_a_1', 'Describe.', '(None)')

    References:
        CT-RATE-AB, the data set of AbSteering. Its files' schema is known from their description alone
        (``id``, ``videos``, ``conversations`` with ``<video>``); all else is inferred, hence ``fields``.
    """
    unknown = sorted(set(fields or {}) - DEFAULT_FIELDS.keys())
    if unknown:
        cause = f"Unknown fields {', '.join(map(repr, unknown))}."
        raise ConfigError(cause, f"Choose from: {', '.join(DEFAULT_FIELDS)}.")
    where = {**DEFAULT_FIELDS, **(fields or {})}
    rows: list[PublishedRow] = []
    problems: list[RowProblem] = []
    known: dict[tuple[str, str | None], int] = {}
    for number, raw in enumerate(_objects(Path(path))):
        found = _row(raw, number, where)
        if isinstance(found, PublishedRow):
            # one volume may have several worse texts, but only one answer
            before = known.setdefault((found.id, found.rejected), number)
            if before != number:
                found = RowProblem(number, "id", f"{found.id!r} stands in row {before} already")
        if isinstance(found, PublishedRow):
            rows.append(found)
            continue
        if strict:
            cause = f"Row {found.row} of `{path}`, {found.field} (`{where[found.field]}`): {found.why}."
            raise DatasetError(cause, "Name the field's place in `fields`, or pass `strict=False` to leave it out.")
        problems.append(found)
    if not rows:
        cause = f"`{path}` holds no row that can be read{f': {problems[0].why}' if problems else ''}."
        raise DatasetError(cause, "Name where its values stand in `fields`.")
    return PublishedFile(tuple(rows), tuple(problems))


def _row(raw: Any, number: int, where: Mapping[str, str]) -> PublishedRow | RowProblem:
    """Return a row, or why it cannot be read."""
    values: dict[str, str | None] = {}
    for name, paths in where.items():
        value = _look_up(raw, paths)
        if value is not None and not isinstance(value, str | int):
            return RowProblem(number, name, f"{str(value)[:60]!r} is no text")
        values[name] = None if value is None or not str(value).strip() else str(value)
    for name in _REQUIRED:
        if values[name] is None:
            return RowProblem(number, name, "missing or blank")
    prompt = _MARKERS.sub(" ", values["prompt"] or "").strip()
    if not prompt:
        return RowProblem(number, "prompt", "nothing but the marker of the video")
    name = volume_id((values["id"] or "").removesuffix(".mp4"))
    return PublishedRow(name, prompt, values["answer"] or "", values["rejected"], values["video"])


def _look_up(raw: Any, paths: str) -> Any:
    """Return the first value that one of several ways leads to; None if none does, or it is NaN."""
    for path in paths.split("|"):
        value = raw
        for step in path.split("."):
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
                value = value[int(step)]
            else:
                value = None
        is_other_shape = isinstance(value, dict | list) and path != paths.rsplit("|", maxsplit=1)[-1]
        if value is not None and not is_other_shape and not (isinstance(value, float) and math.isnan(value)):
            return value
    return None


def _objects(path: Path) -> Iterator[Any]:
    """Yield the objects of a list or of lines, reading a piece at a time."""
    decoder = json.JSONDecoder()
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_CHUNK).lstrip()
            is_list = text.startswith("[")
            text = text[1:] if is_list else text
            count = 0
            while True:
                text = text.lstrip(" \t\r\n,")
                try:
                    if is_list and text.startswith("]"):
                        return
                    value, end = decoder.raw_decode(text)
                except json.JSONDecodeError as error:
                    more = file.read(_CHUNK)
                    if more:
                        text += more
                        continue
                    if text or is_list or not count:
                        raise _broken(path, count, error.msg) from error
                    return
                yield value
                text = text[end:]
                count += 1
    except (OSError, UnicodeDecodeError) as error:
        cause = f"Cannot read `{path}`: {error}."
        raise DatasetError(cause, "Check the path; the file should be JSON in UTF-8.") from error


def _broken(path: Path, count: int, why: str) -> DatasetError:
    """Return the error about a file that is no JSON, or was cut off."""
    cause = f"`{path}` is no JSON list of objects after {count} rows: {why}."
    return DatasetError(cause, "Download it again; it should be a list, or one object a line.")
