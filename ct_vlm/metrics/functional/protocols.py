"""Named protocols: everything that a word-overlap score depends on besides the reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ct_vlm.errors import ConfigError
from ct_vlm.metrics.functional import cleaning
from ct_vlm.metrics.functional.words import mteval_words, ptb_words, white_space_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

METRICS = ("bleu", "rouge", "cider", "meteor", "bertscore")
"""Families of scores, in the order of the results."""


@dataclass(frozen=True)
class Protocol:
    """How one field's evaluation cleans, splits and scores reports.

    Args:
        source: Where it was read.
        in_source: Scores that the source computes; the others are computed on the same cleaned text,
            and results list them under ``not_in_source``.
        missing: What the source does with a missing prediction. Here it always counts as empty.
        clean_prediction: Cleaning of a prediction.
        clean_reference: Cleaning of a reference.
        words: Splits cleaned text into words for BLEU.
        smoothed: Whether BLEU is Hugging Face's with smoothing, and ROUGE ``rouge_score``'s; else
            both are ``pycocoevalcap``'s.
        meteor: Family of METEOR: ``"1.5"`` or ``"nltk"``.
        tokenize: Splits all texts at once before anything else; the words are joined by a space.
    """

    source: str
    in_source: tuple[str, ...]
    missing: str
    clean_prediction: Callable[[str], str] = cleaning.keep
    clean_reference: Callable[[str], str] = cleaning.keep
    words: Callable[[str], list[str]] = white_space_words
    smoothed: bool = False
    meteor: str = "1.5"
    tokenize: Callable[[Sequence[str]], list[list[str]]] | None = None

    def clean(self, predictions: Sequence[str], references: Sequence[str]) -> tuple[list[str], list[str]]:
        """Clean reports; an empty prediction stays empty, whatever the cleaning would add.

        Args:
            predictions: Predicted reports.
            references: True reports.
        """
        found = [self.clean_prediction(text) if text.strip() else "" for text in predictions]
        expected = [self.clean_reference(text) for text in references]
        if self.tokenize is not None:
            words = [" ".join(words) for words in self.tokenize([*found, *expected])]
            found, expected = words[: len(found)], words[len(found) :]
        return found, expected


_BLEU = tuple(f"bleu_{order}" for order in range(1, 5))
_OTHERS = ("rouge_l", "cider", "meteor")

PROTOCOLS: dict[str, Protocol] = {
    "vlm3d": Protocol(
        source="VLM3D challenge, reportgen_evaluation/nlg_metrics.py at 25f9c7b: pycocoevalcap on white-space words",
        in_source=(*_BLEU, "bleu_mean", *_OTHERS),
        missing="left out of the text scores, which inflates them (clinical scores count it)",
        clean_prediction=cleaning.vlm3d_prediction,
        clean_reference=cleaning.vlm3d_reference,
    ),
    "uvlm": Protocol(
        source="U-VLM, uvlm/evaluation/metrics/nlg.py at 5d7fde9: BLEU of pycocoevalcap",
        in_source=(*_BLEU, "bleu_mean"),
        missing="left out, which inflates the scores; a text that is not a string counts as empty",
        clean_prediction=cleaning.uvlm,
        clean_reference=cleaning.uvlm,
    ),
    "ct2rep": Protocol(
        source="CT2Rep, CT2Rep/modules/{metrics,tokenizers}.py at 9e85082: BLEU on R2Gen's cleaned text",
        in_source=_BLEU,
        missing="cannot occur: reports are scored as they are generated",
        clean_prediction=cleaning.ct2rep,
        clean_reference=cleaning.ct2rep,
    ),
    "hf_evaluate": Protocol(
        source="Reg2RG, evaluation/hf_nlg_evaluation.py at 4effe09: Hugging Face evaluate; CIDEr of pycocoevalcap",
        in_source=(*_BLEU, *(f"{name}_report_mean" for name in _BLEU), "rouge_1", "rouge_2", *_OTHERS),
        missing="not handled: an empty table cell reaches the scorers as NaN",
        words=mteval_words,
        smoothed=True,
        meteor="nltk",
    ),
    "raw": Protocol(
        source="CT-CHAT, evaluations/new_llm_metrics.py at 33c9b97: pycocoevalcap on texts as they are",
        in_source=("bleu_1", *_OTHERS),
        missing="not handled",
    ),
    "coco": Protocol(
        source="MS COCO caption evaluation, pycocoevalcap 1.2: Penn Treebank words without punctuation; needs Java",
        in_source=(*_BLEU, *_OTHERS),
        missing="raises",
        tokenize=ptb_words,
    ),
}
"""Protocol name to what it does."""


def get_protocol(name: str) -> Protocol:
    """Return a protocol.

    Args:
        name: Name in :data:`PROTOCOLS`.

    Raises:
        ConfigError: If there is no such protocol.
    """
    if name not in PROTOCOLS:
        cause = f"Unknown protocol {name!r}."
        raise ConfigError(cause, f"Known protocols are: {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
