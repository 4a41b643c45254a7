"""Medical material."""

from __future__ import annotations

from ct_vlm.metrics.labeler.rules import Finding, LabelRule, any_of, rewrite, stems, words

_SUPPORT = any_of(
    r"\bcatheter(?!i[sz])\w*",
    r"\bports?\b",
    r"\bporta? ?a? ?cath\w*",
    r"\bchemo ?port",
    r"\bpicc\b",
    r"\b(?:venous|vein|arterial) lines?\b",
    r"\bdrains?\b(?! (?:in|into|to)\b)",
    r"\bdrainage (?:tubes?|catheters?|materials?)",
    r"\b(?<!eustachian )(?<!fallopian )tubes?\b",
    r"\bintubat\w+",
    r"\btracheosto\w+",
    r"\bcannul\w+",
    r"\bkanul\w*",
    r"\bnaso ?gastric",
    r"\bnaso ?jejunal",
    r"\bgastrosto\w+",
    r"\bnephrosto\w+",
    r"\bsond[ae]s?\b",
    r"\bairway device",
)
_CARDIAC = any_of(
    r"\bpace ?makers?\b",
    r"\bpacing\b",
    r"\b(?:cardiac|heart|pacemaker) batter\w+",
    r"\bbatter(?:y|ies)\b",
    r"\belectrodes?\b",
    r"\bi ?c ?d\b",
    r"\bcrt(?: d)?\b",
    r"\bdefibrillat\w+",
    r"\bleads?\b(?! to\b)(?!s to\b)",
    r"\bloop recorder",
    r"\bstents?\b",
    r"\bstent(?:ed|ing)\b",
    r"\blvad\b",
    r"\bventricular assist",
    r"\bballoon pump",
    r"\b(?:aortic|mitral|tricuspid|heart|cardiac)?\s?valves? (?:\w+ )?(?:replace\w+|prosth\w+|repair\w*)",
    r"\b(?:replaced|artificial|metallic|mechanical|bio ?prosthetic) (?:\w+ )?valves?",
    r"\bvalvuloplast\w+",
    r"\bannuloplast\w+",
    r"\btav[ir]\b",
    r"\bby ?pass graft\w*",
)
_SURGICAL = any_of(
    r"\bsutur\w+",
    r"\bstern(?:o|a)tom\w+",
    r"\bstaple\w*",
    r"\bclips?\b",
    r"\bclipping\b",
    r"\bcoils?\b",
    r"\bprosthe\w+",
    r"\bprothe\w+",
    r"\bimplant\w*",
    r"\bgrafts?\b",
    r"\bendo ?graft\w*",
    r"\bt?evar\b",
    r"\b(?:cava\w*|caval|ivc) filters?",
    r"\bmesh\b",
    r"\bsilicon\w*",
    r"\bexpanders?\b",
    r"\bgastric band",
    r"\bshunts?\b(?=.*\b(?:peritoneal|catheter))",
    r"\bmetal\w*",
    r"\bscrews?\b",
    r"\bfixat\w+",
    r"\b(?:fixation|titanium|orthop\w+|osteosynthesis) (?:\w+ )?plates?",
    r"\binstrument\w*",
    r"\brods?\b",
    r"\bhardware",
    r"\bstabili[sz](?:er|ation)\w*",
    r"\bcement\w*",
    r"\bvertebro ?plast\w+",
    r"\bkypho ?plast\w+",
    r"\bcerclage",
    r"\bwires?\b",
    r"\bintramedullary nail",
    r"\bspacers?\b",
)
_MATERIAL = any_of(
    r"\b(?:surgical|surgery|operation|operative|post ?operative|post ?op|suture|fixation"
    r"|stabili[sz]ation|medical|foreign|osteosynthesis|implant|prosthetic|embol\w+|orthop\w+"
    r"|stapler?|radio ?opaque|instrumentation"
    r"|hemostatic)(?: \w+)? (?:materials?|devices?)",
    r"\b(?:foreign|radio ?opaque) bod(?:y|ies)",
    r"\bmedical (?:device|equipment|apparatus)\w*",
)

MEDICAL = LabelRule(
    label="Medical material",
    stems=stems(
        r"cath ^port picc ^lines?\b drain ^tube intubat tracheo cannul kanul naso stom sond pacema ^pac(?:e|ing)\b"
        r" batter electrod ^icd crt defib ^leads?\b ^loop\b ^stent lvad assist balloon valv tavi tavr pass\b"
        " sutur stern(?:o|a) stapl ^clip ^coil prosth proth implant graft evar filter mesh silic expander"
        " ^band shunt metal screw fixat ^plate instrum ^rods? hardw stabil cement plast cercl ^wire nail"
        r" spacer material device ^bod(?:y|ies) opaque equip ^i\b ^d\b"
    ),
    rewrites=(
        rewrite(
            r"(?<!radio )\b(?:contrast|opaque)(?: \w+)? (?:materials?|substances?|agents?|medi\w+)",
            r"\bcatheteri[sz]\w+",
        ),
        # tumour spread, bone and vessel words that only look like devices
        rewrite(
            r"\b(?:in favou?r of|belong\w* to|compatible with|consistent with|suggest\w* of|defined as)"
            r" (?:the |an? )?(?:\w+ )?implants?\b"
        ),
        rewrite(r"\b(?:periton\w+|pleural|oment\w+|tumou?r\w*|metasta\w+|seeding) implant\w*", r"\bimplantation\b"),
        rewrite(
            r"\bt tubes? sign",
            r"\btubes? (?:shaped|like)",
            r"\bleads? (?:to|us)\b",
            r"\bmetallic densit\w+ artifact\w*",
            r"\bsilicosis\w*",
            r"\bgrafts? versus",
        ),
        rewrite(r"\bsternal wires? (?:not|absent)"),
    ),
    findings=(
        Finding("tube, line or drain", words(_SUPPORT)),
        Finding("heart device", words(_CARDIAC)),
        Finding("surgical material", words(_SURGICAL)),
        Finding("material", words(_MATERIAL)),
    ),
)
