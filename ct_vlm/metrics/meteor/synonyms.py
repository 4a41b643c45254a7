"""Base forms of English words, as WordNet's detachment rules give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# WordNet's endings of nouns, verbs and adjectives, in its order; no part of speech is known here
_ENDINGS = (
    ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y"),
    ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""),
    ("er", ""), ("est", ""), ("er", "e"), ("est", "e"),
)  # fmt: skip


def base_forms(
    word: str, synsets: Mapping[str, tuple[str, ...]], exceptions: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the base forms under which METEOR 1.5 looks a word's synonyms up, besides the word itself.

    An irregular form has the bases that WordNet lists; any other word the first that exists when
    an ending is taken off.

    Args:
        word: A word in lower case.
        synsets: Synonym sets of each lemma.
        exceptions: Base forms of irregular forms.

    Example:
        >>> from ct_vlm.metrics.meteor.synonyms import base_forms
        >>> base_forms("nodules", {"nodule": ("1",)}, {}), base_forms("was", {}, {"was": ("be",)})
        (('nodule',), ('be',))

    References:
        [1] WordNet 3.0, morphy(7WN).
    """
    if word in exceptions:
        return exceptions[word]
    if len(word) <= 2 or word.endswith("ss"):
        return ()
    stripped = (word[: -len(ending)] + base for ending, base in _ENDINGS if word.endswith(ending))
    return tuple(form for form in stripped if form in synsets)[:1]


def synonym_sets(
    word: str, synsets: Mapping[str, tuple[str, ...]], exceptions: Mapping[str, tuple[str, ...]]
) -> frozenset[str]:
    """Return every synonym set that a word or its base form is in.

    Args:
        word: A word in lower case.
        synsets: Synonym sets of each lemma.
        exceptions: Base forms of irregular forms.
    """
    forms = (word, *base_forms(word, synsets, exceptions))
    return frozenset(synset for form in forms for synset in synsets.get(form, ()))
