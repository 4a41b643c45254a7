"""Bring a sentence into the form that the patterns are written for, and cut it into clauses."""

from __future__ import annotations

import functools
import re

_DECIMAL = re.compile(r"(?<=\d)[.,](?=\d)")
_SHORT_NOT = re.compile(r"n['\u2019]t\b")
# "effusion - no thickening was seen" denies both
_DASHED_NO = re.compile(r"^([a-z /]{4,40}?) ?[-\u2013] no (?=\w+ (?:is|was|are|were)\b)")
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("-\u2013\u2014\u2010\u2011/\\_.'\u2018\u2019`+%=<>&~*", " "),
        **dict.fromkeys("()[]{}:", ","),
    }
)
_COMMAS = re.compile(r"(?: ?, ?)+")
_MAX_CLAUSE = 1500
_CONTRAST = re.compile(
    r"\b(?:but|however|except(?: for| that)?|although|though|whereas|while|apart from|other than|aside from"
    r"|nevertheless|on the other hand)\b|, only\b(?! (?:in|on|at)\b)"
)
_CONTRAST_WORDS = frozenset(
    {
        "but",
        "however",
        "except",
        "although",
        "though",
        "whereas",
        "while",
        "apart",
        "other",
        "aside",
        "nevertheless",
        "on",
        "only",
    }
)
_WEAK = re.compile(r", (?:and )?| and ")
_VERB = re.compile(
    r"\b(?:is|are|was|were|be|been|has|have|had|shows?|showed|continues?|persists?|remains?|reveals?|contains?|appears?|seems?"
    r"|draws?|attracts?|stands?|consists?|extends?|not (?:observed|detected|seen|found|noted|present|identified))\b"
    r"|\b(?:observed|detected|seen|noted|increased|decreased|enlarged|thickened|identified|found|present|noticed)$"
)
_STARTS_WITH_VERB = re.compile(r"(?:is|are|was|were|has|have|had|not)\b")
_OTHER_SIDE = re.compile(r"(?:on|in) the (?:right|left)\b(?! and)")
_DANGLING = re.compile(r"(?:[ ,]|\band(?=[ ,]*$))+$")
_PLURAL_VERB = re.compile(r"\b(?:are|were|have)\b")
_FINDING = re.compile(
    r"effusion|thick|nodul|consolid|opaci|atelect|infiltr|lymph|mass|emphys|ectas|hernia|pneumothora|densit|plaque"
    r"|calcif|lesion|glass|patholog|mosaic|sequel|fibro|cardiomeg"
)

_HEAD = re.compile(
    _FINDING.pattern
    + r"|dilat|aneurysm|\bwide\b|ather|enlarg|increase|widening|stenosis|thromb|cyst|fractur|osteophyt|stent"
    r"|steatosis|stone|bronchitis|pneumonia|surgery|operat|sutur|edema|change"
)


def normalise(sentence: str) -> str:
    """Lower the case, join decimals (``3.5`` to ``3_5``), blank hyphens and slashes, turn brackets into commas.

    Args:
        sentence: One sentence of a report.

    Example:
        >>> from ct_vlm.metrics.labeler.normalise import normalise
        >>> normalise("Pleural effusion/thickening (3.5 mm) was not observed.")
        'pleural effusion thickening, 3_5 mm, was not observed'
    """
    text = sentence.lower()
    if "'" in text or "\u2019" in text:
        text = _SHORT_NOT.sub(" not", text)
    if "." in text[:-1] or "," in text:
        text = _DECIMAL.sub("\x00", text)
    if " no " in text:
        text = _DASHED_NO.sub(r"no \1 or ", text)
    text = " ".join(text.replace("(-)", " absent").translate(_SIGNS).replace("\x00", "_").split())
    return _COMMAS.sub(", ", text).strip(" ,") if "," in text else text


def split_clauses(sentence: str) -> list[str]:
    """Cut a normalised sentence into the clauses within which a negation reaches.

    Words of contrast ("but", "except") always cut. Commas and "and" cut only between two parts that
    each have a verb, so that "no A, B or C was seen" stays in one piece.

    Args:
        sentence: Output of :func:`normalise`.

    Example:
        >>> from ct_vlm.metrics.labeler.normalise import split_clauses
        >>> split_clauses("no nodule, consolidation was seen and heart size is increased")
        ['no nodule, consolidation was seen', 'heart size is increased']
    """
    clauses: list[str] = []
    for segment in [sentence] if _CONTRAST_WORDS.isdisjoint(sentence.split()) else _CONTRAST.split(sentence):
        clauses.extend(_split_segment(segment.strip(" ,")))
    # a model that repeats itself without end must not make matching quadratic
    return [clause[start : start + _MAX_CLAUSE] for clause in clauses for start in range(0, len(clause), _MAX_CLAUSE)]


def list_item(clause: str, position: int) -> str:
    """Return the item around a position where a clause lists findings, each with words of its own.

    Args:
        clause: A clause from :func:`split_clauses`.
        position: Where a finding's words start.

    Example:
        >>> from ct_vlm.metrics.labeler.normalise import list_item
        >>> list_item("dilatation of the aorta, plaques in the coronary arteries", 25)
        'plaques in the coronary arteries'
    """
    return next(clause[start:end] for start, end in _items(clause) if position <= end)


@functools.lru_cache(maxsize=1024)
def _items(clause: str) -> list[tuple[int, int]]:
    """Return where the items of a clause start and end; each but the last names a finding."""
    cuts = [(match.start(), match.end()) for match in _WEAK.finditer(clause)]
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(clause)]
    items: list[tuple[int, int]] = []
    item_start, names_finding = 0, False
    for part, (start, end) in enumerate(zip(starts, ends, strict=True)):
        has_head = _HEAD.search(clause, start, end) is not None
        if has_head and names_finding:
            items.append((item_start, ends[part - 1]))
            item_start = start
        names_finding = names_finding or has_head
    return [*items, (item_start, len(clause))]


def _split_segment(segment: str) -> list[str]:
    """Cut at commas and "and" between parts with a verb."""
    cuts = [(match.start(), match.end()) for match in _WEAK.finditer(segment)]
    if not cuts:
        return [segment] if segment else []
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(segment)]
    clauses: list[str] = []
    clause_start, clause_end, has_verb = 0, 0, False
    pending: int | None = None  # where parts begin that may be the subjects of a verb still to come
    for start, end in zip(starts, ends, strict=True):
        part = segment[start:end]
        if _OTHER_SIDE.match(part) and start > clause_start and _VERB.search(part):
            clauses.append(segment[clause_start:start])
            clause_start, has_verb, pending = start, False, None
        if not _VERB.search(part):
            if has_verb and pending is None and _FINDING.search(part):
                pending = start
            clause_end = end
            continue
        if has_verb and not _STARTS_WITH_VERB.match(part):
            begin = pending if pending is not None and _PLURAL_VERB.search(part) else start
            clauses.append(segment[clause_start:begin])
            clause_start = begin
        clause_end, has_verb, pending = end, True, None
    clauses.append(segment[clause_start:clause_end])
    return [trimmed for clause in clauses if (trimmed := _DANGLING.sub("", clause))]
