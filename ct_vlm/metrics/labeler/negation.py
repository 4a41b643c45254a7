"""Decide whether words in a clause are denied.

References:
    [1] Chapman et al., NegEx, 2001: cues before, cues after and phrases that only look like cues.
"""

from __future__ import annotations

import re

from ct_vlm.metrics.labeler.doubt import OPEN

_SEEN = (
    r"(?:observed|detected|seen|identified|found|present|noted|encountered|monitored|visuali[sz]ed|evident|available"
    r"|distinguished|selected|determined|revealed|recorded|watched|traced|followed|existing|exist|noticed|discerned"
    r"|appreciated|suspected|described|demonstrated|established|spotted|reported|apparent|visible|viewed|diagnosed"
    r"|(?:considered|evaluated|assessed|examined)(?! (?:as |in favou?r of |in terms of )?(?:patholog|signific|malig))"
    r"|remarkable|occurred|developed|perceived|discriminated|draw\w*|drew|attract\w*|shown|defined|displayed|mentioned)"
)
_AUXILIARY = r"(?: (?:be|been|being|have|has|had|to|also|any|well|currently|\w+ly)){0,3}"
_EARLIER = r"(?:in|on|at|from) (?:the |his |her |a )?(?:previous|prior|old|former|earlier|past|last)|previously|before"
_CONTRAST_AGENT = (
    r"(?:iv |i v |intravenous |oral )?(?:contrast|opaque)\w*(?: (?:agent|material|medium|media|matter|substance)s?)?"
)
_CHANGE = r"(?:changes?|differences?|progression|regression|alterations?)"
_DEGREE = (
    r"(?:significant|obvious|marked|evident|clear|definite|interval|apparent|notable"
    r"|remarkable|major|considerable|meaningful"
    r"|new|any|other|visible|detectable|serious|great)"
)
_BE = r"(?:is|are|was|were|be|been|being|has been|have been|had been)"

_PSEUDO = re.compile(
    "|".join(
        (
            rf"(?:without|lack of|absence of|no) (?:the )?(?:administration of |giving |use of "
            rf"|using )?{_CONTRAST_AGENT}"
            rf"(?: (?:administration|injection|enhancement))?(?: {_BE} (?:given|administered|used|applied))?",
            rf"{_CONTRAST_AGENT}(?: \w+)? (?:{_BE} |could |can )?not(?: be)? (?:given|administered"
            rf"|used|applied|injected)",
            rf"\b(?:no|without|not)(?: {_DEGREE}){{0,2}} {_CHANGE}(?: {_BE} (?:\w+ly )?(?:observed"
            rf"|detected|seen|found|noted))?",
            r"\bnot (?:\w+ly )?changed",
            r"\bno increase in (?:the )?(?:amount|number|sizes?|dimensions?)(?: and \w+)? of",
            rf"\bno (?:{_DEGREE} )+"
            r"(?:increase|decrease|reduction|growth) in (?:the )?(?:sizes?|numbers?|dimensions?|diameters?|amounts?)",
            rf"\b(?:could |{_BE} )?not (?:be )?{_SEEN} (?:{_EARLIER})"
            r"(?: (?:examinations?|stud(?:y|ies)|ct|scans?|tomograph\w*))?",
            r"\b(?:not|cannot)(?: be)?(?: \w+ly)? (?:ruled? out|excluded?|distinguished from|differentiated|separated)",
            r"\b(?:not|cannot)(?: be)? \w+ly (?:ruled out|excluded)",
            r"\b(?:not|never) (?:yet )?(?:completely |fully |totally )?(?:resolv|regress|disappear|clear)\w*",
            r"\b(?:whose |the )?(?:nature|character\w*|origin|etiology|cause|border|contour"
            r"|distinction|differentia\w+)\w*"
            r"(?P<kept>(?: \w+){0,4}?) (?:could |can )?(?:not|cannot) (?:be )?(?:\w+ly )?\w+",
            r"\bnot only|\bwhether or not|\bno doubt|\bno (?:longer )?need"
            r"|\bpartial(?:ly)? (?:resolved|cleared|disappeared)",
        )
    )
)
# every phrase above has one of these words and one of these parts of words
_PSEUDO_WORDS = frozenset({"no", "not", "never", "without", "lack", "absence", "cannot", "partial", "partially"})
_PSEUDO_PARTS = (
    *("contrast", "opaque", "chang", "differen", "progress", "regress", "alterat", "increase", "decrease", "reduction"),
    *("growth", "previous", "prior", "old", "former", "earlier", "past", "last", "before", "rule", "exclude"),
    *("distin", "separated", "resolv", "disappear", "clear", "nature", "character", "origin", "etiology", "cause"),
    *("border", "contour", "only", "whether", "doubt", "need"),
)
_NOT_EXCLUDED = re.compile(r"\b(?:ruled? out|excluded?)\b")
_BEFORE = re.compile(
    r"\b(?:no|without|absence of|lack of|free (?:of|from)|devoid of|neither|nor|never|negative for"
    r"|clear(?:ed)? of|cannot be said|^(?:\w+ly |interval )?resolved"
    r"|not (?:any|have|contain\w*|show\w*|include\w*|reveal\w*|demonstrat\w*|suggest\w*|support\w*|in favou?r of)"
    rf"|not {_SEEN}(?= (?:any|a|an|the)\b)|denies|(?:disappearance|resolution) of)\b"
)
_AFTER = re.compile(
    rf"\b(?:not|cannot|never|no longer)\b{_AUXILIARY} {_SEEN}\b|\babsent\b|\bnone\b(?! of)"
    rf"|, (?:no|negative)$|\b(?:is|are|was|were) not$"
    r"|(?<!partially )(?<!partly )\b(?:resolved|disappeared|vanished)\b"
    r"|(?<!near )(?<!nearly )(?<!almost )\b(?:complete|total|full)(?:ly)? (?:regress|resorb|resol)\w+"
    rf"|\b(?:ruled out|excluded)\b|\b{_BE} (?:removed|extracted|negative)\b|\bnot (?:in question|the case)\b"
)
_ASSERTED = re.compile(
    rf"\b{_BE} (?:\w+ly )?(?:also )?(?:observed|seen|detected|present|noted|available|found"
    rf"|identified|watched|monitored)\b"
    rf"(?! (?:{_EARLIER}))"
)
# every cue of the patterns around has one of these; most clauses have none
_ANY_CUE = re.compile(
    r"\b(?:n(?:o|ot|or|one|ever|either|egative)\b|without|absen|lack|free|devoid|cleared|clear of|cannot|denies"
    r"|disappear|vanish|re(?:sol|gress|sorb|moved)|ruled|excluded|extracted|previous|prior|old\b)"
)
# a finding of an older examination only; "also" and "still" say that it is there now
_ONLY_EARLIER = re.compile(
    r"^(in (?:the|his|her) (?:previous|prior|old) [^,]{1,40}),? there (?:is|are|was|were)\b(?!.*\b(?:also|still)\b)"
    r"|\bthere (?:is|are|was|were)\b(?!.*\b(?:also|still)\b).* (?:at|in) this (?:level|area|localization|location)"
    r" (in (?:the|his|her) (?:previous|prior|old) \w+)(?:,|$)"
)


def _without_cue(match: re.Match[str]) -> str:
    """Return what is left of a phrase that denies nothing: a word of doubt, or nothing."""
    return f" {OPEN} " if _NOT_EXCLUDED.search(match.group()) else f" {match['kept'] or ''} "


def drop_pseudo_negations(sentence: str, words: frozenset[str] | None = None) -> str:
    """Take out phrases that contain a cue and deny nothing ("no significant change").

    Args:
        sentence: Normalised sentence.
        words: Its words, if at hand.

    Example:
        >>> from ct_vlm.metrics.labeler.negation import drop_pseudo_negations
        >>> drop_pseudo_negations("no significant change was seen in the nodules")
        'in the nodules'
    """
    present = frozenset(sentence.split()) if words is None else words
    if _PSEUDO_WORDS.isdisjoint(present) or not any(part in sentence for part in _PSEUDO_PARTS):
        return sentence
    return " ".join(_PSEUDO.sub(_without_cue, sentence).split()).strip(" ,")


def find_negation(clause: str, start: int, end: int) -> str:
    """Return the cue that denies ``clause[start:end]``, or "" if none does.

    A cue before denies everything up to the end of the clause. A cue after denies back to the last
    statement that something *was* seen.

    Args:
        clause: Normalised clause.
        start: Where the finding's words start.
        end: Where they end.

    Example:
        >>> from ct_vlm.metrics.labeler.negation import find_negation
        >>> find_negation("pleural effusion was not observed", 0, 16)
        'not observed'
    """
    if _ANY_CUE.search(clause) is None:
        return ""
    earlier = _ONLY_EARLIER.search(clause)
    if earlier is not None:
        return earlier.group(1) or earlier.group(2)
    for before in _BEFORE.finditer(clause, 0, start):
        if not _is_finished(clause, before.end(), start, end):
            return before.group()
    for after in _AFTER.finditer(clause, end):
        if _ASSERTED.search(clause, end, after.start()) is None:
            return after.group().strip(" ,")
    return ""


def _is_finished(clause: str, cue_end: int, start: int, end: int) -> bool:
    """Tell whether a cue's statement ended before the finding, which has a positive statement of its own."""
    return _ASSERTED.search(clause, cue_end, start) is not None and _ASSERTED.search(clause, end) is not None
