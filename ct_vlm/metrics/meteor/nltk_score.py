"""METEOR as NLTK and Hugging Face evaluate compute it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from ct_vlm.errors import ConfigError, MissingDependencyError
from ct_vlm.metrics.meteor.resources import find_jar, read_exceptions, read_synsets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOKENIZERS = ("treebank", "whitespace", "punkt")
# alpha, beta and gamma of Hugging Face evaluate, which are NLTK's own defaults
ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5


def nltk_segments(
    predictions: Sequence[str], references: Sequence[str], tokenizer: str = "treebank", wordnet: str = "auto"
) -> tuple[list[float], str]:
    """Score each pair by ``nltk.translate.meteor_score``.

    Args:
        predictions: Generated reports, "" where missing.
        references: True reports.
        tokenizer: ``"treebank"`` (needs no data), ``"whitespace"``, or ``"punkt"``: the
            ``word_tokenize`` of Hugging Face evaluate, which needs NLTK's data and differs from
            ``"treebank"`` at sentence ends.
        wordnet: Where synonyms come from: ``"nltk"`` (NLTK's data), ``"jar"`` (the WordNet 3.0 sets
            that pycocoevalcap's METEOR carries), ``"none"``, or ``"auto"``, the first that is there.

    Returns:
        The scores, and where synonyms came from.

    Raises:
        MissingDependencyError: If NLTK or the data that are asked for are missing.
        ConfigError: If a name is unknown.
    """
    try:
        from nltk.translate.meteor_score import single_meteor_score
    except ImportError as error:
        cause = "METEOR of the NLTK family needs the package nltk, which is not installed."
        raise MissingDependencyError(cause, "Install the extra: pip install 'ct_vlm[metrics]'.") from error
    split = _tokenizer(tokenizer)
    reader, source = _wordnet(wordnet)
    settings = {"wordnet": reader, "alpha": ALPHA, "beta": BETA, "gamma": GAMMA}
    pairs = zip(predictions, references, strict=True)
    return [float(single_meteor_score(split(truth), split(text), **settings)) for text, truth in pairs], source


def _tokenizer(name: str) -> Callable[[str], list[str]]:
    """Return a tokenizer by name."""
    from nltk.tokenize import NLTKWordTokenizer, word_tokenize

    if name == "whitespace":
        return str.split
    if name == "treebank":
        return NLTKWordTokenizer().tokenize
    if name == "punkt":
        try:
            word_tokenize("a b")
        except LookupError as error:
            cause = "NLTK's sentence splitter needs its data `punkt_tab`, which was not found."
            raise MissingDependencyError(cause, "Run `nltk.download('punkt_tab')`, or take 'treebank'.") from error
        return word_tokenize
    msg = f"Expected `tokenizer` as one of {', '.join(TOKENIZERS)}, but got {name!r}."
    raise ConfigError(msg, "Choose one of them.")


def _wordnet(name: str) -> tuple[Any, str]:
    """Return a WordNet reader and its name."""
    readers: dict[str, Callable[[], Any]] = {"nltk": _nltk_wordnet, "jar": _jar_wordnet, "none": _NoWordNet}
    if name in readers:
        return readers[name](), name
    if name != "auto":
        msg = f"Expected `wordnet` as one of auto, {', '.join(readers)}, but got {name!r}."
        raise ConfigError(msg, "Choose one of them.")
    for source, reader in readers.items():
        try:
            return reader(), source
        except MissingDependencyError:
            continue
    return _NoWordNet(), "none"


def _nltk_wordnet() -> Any:
    """Return NLTK's WordNet, loaded."""
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except (LookupError, OSError) as error:
        cause = "NLTK's WordNet data were not found."
        raise MissingDependencyError(cause, "Run `nltk.download('wordnet')`, or take wordnet='jar'.") from error
    return wordnet


class _Named:
    """A lemma, as NLTK's scorer asks for it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def name(self) -> str:
        return self._text


class _Synset:
    """A synonym set, as NLTK's scorer asks for it."""

    def __init__(self, lemmas: list[str]) -> None:
        self._lemmas = [_Named(lemma) for lemma in lemmas]

    def lemmas(self) -> list[_Named]:
        return self._lemmas


class _NoWordNet:
    """A WordNet that knows no word."""

    def synsets(self, word: str) -> list[_Synset]:  # noqa: ARG002 - the interface of NLTK's reader
        return []


class _JarWordNet:
    """WordNet 3.0's sets out of the METEOR jar, found by a word or its base form."""

    def __init__(self) -> None:
        from ct_vlm.metrics.meteor.synonyms import base_forms

        jar = find_jar()
        self._sets, exceptions = read_synsets(jar), read_exceptions(jar)
        self._bases = functools.partial(base_forms, synsets=self._sets, exceptions=exceptions)
        self._lemmas: dict[str, list[str]] = {}
        for lemma, found in self._sets.items():
            for synset in found:
                self._lemmas.setdefault(synset, []).append(lemma)

    def synsets(self, word: str) -> list[_Synset]:
        found = dict.fromkeys(synset for form in (word, *self._bases(word)) for synset in self._sets.get(form, ()))
        return [_Synset(self._lemmas[synset]) for synset in found]


@functools.cache
def _jar_wordnet() -> _JarWordNet:
    """Return the jar's WordNet, read once."""
    return _JarWordNet()
