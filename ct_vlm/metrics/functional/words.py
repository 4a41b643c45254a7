"""How scores split text into words; part of a score's protocol.

References:
    [1] NIST ``mteval-v13a``, as in ``sacrebleu`` (tokenizer ``13a``) and Hugging Face ``evaluate``.
    [2] ``rouge_score`` 0.1.2.
    [3] Stanford PTB tokenizer and the punctuation that ``pycocoevalcap`` 1.2 drops.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ct_vlm.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SIGNS = re.compile(r"""([!"#$%&()*+/:;<=>?@\[\\\]^_`{|}~])""")
_STOP_AFTER_TEXT = re.compile(r"([^0-9])([.,])")
_STOP_BEFORE_TEXT = re.compile(r"([.,])([^0-9])")
_DASH_AFTER_DIGIT = re.compile(r"([0-9])(-)")
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")
_PTB_JAR = "stanford-corenlp-3.4.1.jar"
_PTB_DROPPED = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)


def white_space_words(text: str) -> list[str]:
    """Split at white space.

    Args:
        text: A cleaned report.
    """
    return text.split()


def mteval_words(text: str) -> list[str]:
    """Split as ``mteval-v13a`` does: signs are words, points and commas inside numbers are not.

    Args:
        text: A cleaned report.

    Example:
        >>> from ct_vlm.metrics.functional.words import mteval_words
        >>> mteval_words("A 5.5 mm nodule, seen.")
        ['A', '5.5', 'mm', 'nodule', ',', 'seen', '.']
    """
    text = text.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, sign in _ENTITIES:
        text = text.replace(entity, sign)
    text = _SIGNS.sub(r" \1 ", f" {text} ")
    text = _STOP_AFTER_TEXT.sub(r"\1 \2 ", text)
    text = _STOP_BEFORE_TEXT.sub(r" \1 \2", text)
    return _DASH_AFTER_DIGIT.sub(r"\1 \2 ", text).split()


def alphanumeric_words(text: str) -> list[str]:
    """Split into lower-case runs of a-z and 0-9, as ``rouge_score`` does; "5.5" becomes two words.

    Args:
        text: A cleaned report.
    """
    return _NOT_ALPHANUMERIC.sub(" ", text.lower()).split()


def porter_stemmer() -> Callable[[str], str]:
    """Return the stemming of ``rouge_score``: Porter's, for words of more than three characters.

    Raises:
        MissingDependencyError: If ``nltk`` is not installed.
    """
    if importlib.util.find_spec("nltk") is None:
        cause = "Stemming needs the package `nltk`, which is not installed."
        raise MissingDependencyError(cause, 'Install it with `pip install "ct_vlm[metrics]"`, or do not stem.')
    from nltk.stem.porter import PorterStemmer

    stem = PorterStemmer().stem
    return functools.cache(lambda word: stem(word) if len(word) > 3 else word)


def ptb_words(texts: Sequence[str]) -> list[list[str]]:
    """Split as the evaluation of MS COCO captions does: Penn Treebank words in lower case, no punctuation.

    The only tokenizer here that starts Java; it does so once for all reports.

    Args:
        texts: Reports.

    Raises:
        MissingDependencyError: If Java or ``pycocoevalcap``, which carries the tokenizer, is missing.
    """
    if not texts:
        return []
    command = ["java", "-cp", str(_ptb_jar()), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "reports.txt")
        # one report a line: the tokenizer keeps only those line ends
        file.write_text(
            "\n".join(" ".join(text.splitlines()) for text in texts) + "\n", encoding="utf-8", errors="replace"
        )
        command.append(str(file))
        ended = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603
    lines = ended.stdout.split("\n")[: len(texts)]
    if ended.returncode or len(lines) < len(texts):
        cause = f"The PTB tokenizer ended with code {ended.returncode}: {ended.stderr.strip()[-500:]}"
        raise MissingDependencyError(cause, "Check that `java -version` works, or choose another protocol.")
    return [[word for word in line.split() if word not in _PTB_DROPPED] for line in lines]


def _ptb_jar() -> Path:
    """Find the tokenizer, and Java to run it."""
    found = importlib.util.find_spec("pycocoevalcap")
    folders = (found.submodule_search_locations or []) if found else []
    jar = next((file for folder in folders if (file := Path(folder, "tokenizer", _PTB_JAR)).is_file()), None)
    if jar is None or shutil.which("java") is None:
        missing = "Java" if jar is not None else "the package `pycocoevalcap`"
        cause = f"Penn Treebank words need {missing}, which was not found."
        raise MissingDependencyError(cause, 'Install Java and `pip install "ct_vlm[metrics]"`.')
    return jar
