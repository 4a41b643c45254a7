"""Let a language model judge reports, through any callable."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError, CTVLMError
from ct_vlm.metrics.functional.inputs import as_predicted_texts, as_reference_texts, check_pairs
from ct_vlm.text.sections import clean_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NUMBER = r"(?<![\w.\-])(\d+(?:\.\d+)?)(?![\w]|\.\d)"
_STATED = re.compile(rf"(?:score|rating)\s*(?:is|of|=|:)?\s*\**\s*{_NUMBER}", re.IGNORECASE)
_ALONE = re.compile(rf"^\W*{_NUMBER}\s*(?:/\s*\d+|%)?\W*$")

_PROMPT = """\
You compare a generated chest CT report with the reference report of the same scan.
Judge only clinical content: findings that are present, absent or missing, their place, size and
severity, and the conclusions. Wording and order do not matter; a finding that is denied in one
report and stated in the other is a serious error.

Reference report:
{reference}

Generated report:
{prediction}

Give {highest} if the generated report states the same as the reference and 0 if nothing agrees.
Answer with one line: "Score: " and a number from 0 to {highest}."""


@dataclass(frozen=True)
class JudgeProtocol:
    """How reports are judged; scores of different protocols do not belong in one column.

    Attributes:
        name: What results call it.
        highest: Score of a perfect report; the lowest is 0.
        prompt: Text with ``{reference}``, ``{prediction}`` and ``{highest}``.
    """

    name: str
    highest: float
    prompt: str = _PROMPT

    def ask(self, prediction: str, reference: str) -> str:
        """Return the prompt for one pair.

        Args:
            prediction: Generated report.
            reference: True report.
        """
        fields = {"reference": reference, "prediction": prediction, "highest": f"{self.highest:g}"}
        # one pass, so that braces inside a report stay as they are
        return re.sub(r"\{(reference|prediction|highest)\}", lambda found: fields[found[1]], self.prompt)

    def read(self, answer: str) -> float | None:
        r"""Return the score in an answer, or ``None`` where it states none in range.

        Args:
            answer: What the model wrote.

        Example:
            >>> from ct_vlm.metrics.adapters.judge import PROTOCOLS
            >>> protocol = PROTOCOLS["judge_0_100"]
            >>> protocol.read("Two findings agree.\nScore: 65/100"), protocol.read("Score: 650"), protocol.read("good")
            (65.0, None, None)
        """
        stated = [found[1] for found in _STATED.finditer(answer)]
        lines = [line for line in answer.splitlines() if line.strip()]
        if not stated and len(lines) == 1 and (alone := _ALONE.match(lines[0])):
            stated = [alone[1]]
        values = {float(value) for value in stated}
        # an answer that states two different scores states none
        value = values.pop() if len(values) == 1 else None
        return value if value is not None and value <= self.highest else None


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        JudgeProtocol("judge_0_100", 100.0),
        JudgeProtocol("judge_0_10", 10.0),
    )
}


@dataclass(frozen=True)
class JudgeScores:
    """Judged reports.

    Attributes:
        score: Mean over all reports: missing predictions count 0, and so do invalid answers.
        valid_score: Mean over the reports with a valid answer; NaN without any.
        segments: Score of each report, ``None`` where no answer was valid.
        invalid: Reports whose answers stated no score.
        errors: What the callable raised, by report.
        missing_predictions: Reports without a prediction; they are not asked about.
        protocol: Name of the protocol.
        judge: Name of the model that judged.
    """

    score: float
    valid_score: float
    segments: list[float | None]
    invalid: list[int] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    missing_predictions: int = 0
    protocol: str = ""
    judge: str = ""


def judge_scores(
    predictions: Sequence[str | None],
    references: Sequence[str],
    ask: Callable[[str], str],
    judge: str,
    *,
    protocol: str | JudgeProtocol = "judge_0_100",
    retries: int = 2,
) -> JudgeScores:
    """Judge reports with a language model behind a callable.

    ``judge_0_100`` has the range of MedRegion-CT's GPT-4 score and ``judge_0_10`` that of CT-CHAT's
    judge. Both differ from the papers: the wording of the prompt is ours; pass a
    :class:`JudgeProtocol` with a paper's own prompt to repeat it.

    Args:
        predictions: Generated reports; a missing one (``None``, NaN, blank) scores 0 unasked.
        references: True reports.
        ask: Takes a prompt and returns the model's answer; the model, its key and its settings are
            the caller's. Greedy decoding makes scores repeatable.
        judge: Name and version of the model, put beside every score.
        protocol: Name of a protocol, or one of your own.
        retries: How often to ask again after an answer without a score or an exception.

    Raises:
        ConfigError: If the protocol is unknown or the judge has no name.
        ShapeError: If there are not as many predictions as references.

    Example:
        >>> from ct_vlm.metrics.adapters import judge_scores
        >>> texts, truths = ["Clear lungs.", None], ["Lungs are clear.", "Nodule."]
        >>> scores = judge_scores(texts, truths, lambda prompt: "Score: 90", "echo")
        >>> scores.score, scores.segments, scores.protocol
        (45.0, [90.0, 0.0], 'judge_0_100')

    References:
        [1] Bai et al., M3D, 2024, https://arxiv.org/abs/2404.00578 (an LLM that judges from 0 to 100).
    """
    if isinstance(protocol, str) and protocol not in PROTOCOLS:
        msg = f"Expected `protocol` as one of {', '.join(PROTOCOLS)} or a JudgeProtocol, but got {protocol!r}."
        raise ConfigError(msg, "Choose one of them.")
    if not judge.strip() or retries < 0:
        msg = f"Expected a name of the judge and `retries` of at least 0, but got {judge!r} and {retries}."
        raise ConfigError(msg, "Name model and version: scores of different judges do not compare.")
    chosen = PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    texts, missing = as_predicted_texts(predictions)
    truths = as_reference_texts(references)
    check_pairs(texts, truths)
    segments: list[float | None] = []
    errors: dict[int, str] = {}
    for row, (text, truth) in enumerate(zip(texts, truths, strict=True)):
        if not clean_missing(text):
            segments.append(0.0)
            continue
        value, error = _ask(chosen, ask, chosen.ask(text, truth), retries)
        segments.append(value)
        if error:
            errors[row] = error
    valid = [value for value in segments if value is not None]
    return JudgeScores(
        score=sum(valid) / len(segments) if segments else 0.0,
        valid_score=statistics.fmean(valid) if valid else float("nan"),
        segments=segments,
        invalid=[row for row, value in enumerate(segments) if value is None],
        errors=errors,
        missing_predictions=missing,
        protocol=chosen.name,
        judge=judge,
    )


def _ask(
    protocol: JudgeProtocol, ask: Callable[[str], str], prompt: str, retries: int
) -> tuple[float | None, str | None]:
    """Ask until an answer states a score; return it, or why there is none."""
    reason: str | None = None
    for _ in range(retries + 1):
        try:
            answer: Any = ask(prompt)
        except CTVLMError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            continue
        value = protocol.read(str(answer))
        if value is not None:
            return value, None
        reason = f"no score in: {str(answer)[:200]!r}"
    return None, reason
