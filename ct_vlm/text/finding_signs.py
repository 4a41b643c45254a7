"""Words that may mean a finding, far wider than how it is said: for doubt, never for writing.

They are for the question whether a patient could have a finding: what they find in vain costs one
wrong list fewer, what they miss tells something true as a mistake. All are inferred.
"""

from __future__ import annotations


def _near(first: str, second: str) -> str:
    """Return an expression of two words that stand close to one another, in any order."""
    return rf"(?:{first})\b.{{0,60}}?\b(?:{second})|(?:{second})\b.{{0,60}}?\b(?:{first})"


# a thickness that is measured says nothing: fluid has one, too
_THICK = (
    r"thicken\w*|thickness(?:es)?(?: \w+){0,3} increas\w*|increas\w+(?: \w+){0,3} thickness(?:es)?"
    r"|thick(?= (?:pericardium|pleurae?|wall\w*|bronch\w*))|(?:is|are|was|were|appears?) (?:\w+ )?thick"
)
_LARGE = r"larg\w+|enlarg\w+|increas\w+|dilat\w+|wid(?:e|er|en\w*)|above|big\w*|hypertroph\w*|megaly"
_FLUID = r"effusions?|fluids?|liquids?|collections?"
_CALCIUM = r"calci\w+|plaques?|ather\w+"
_TUMOUR = r"mass(?:es)?|tumou?r\w*|neoplas\w*|malignan\w*|carcinom\w*|cancer\w*|metasta\w*|lesions?"
_LESS = r"loss|lost|los[ei]\w*|decreas\w*|reduc\w*|diminish\w*"
_LIVER = r"liver|hepat\w*"

SIGNS: dict[str, str] = {
    # lung
    "consolidation": r"consolidat\w*|infiltrat\w*|pneumonias?|hepati[sz]ation",
    "ground glass opacity": r"glass|ggos?|crazy|paving|opacit\w*|opacification\w*|infiltrat\w*|sub ?solid|haz[ey]\w*"
    r"|veil\w*|alveolitis|pneumonitis|(?:density|attenuation) increases?|increas\w+ (?:in )?(?:density|attenuation)",
    "atelectasis": r"atelecta\w*|collaps\w*|volume loss|loss of volume|compressi(?:on|ve)"
    r"|(?:linear|band|plate|discoid)(?: like)? (?:densit\w+|opacit\w+|areas?|bands?|shadow\w*)",
    "emphysema": r"emphysem\w*|bull(?:ae?|ous)|blebs?|hyper ?(?:inflat|aerat|lucen)\w*|copd|over ?inflat\w*",
    "bronchiectasis": r"bronch\w*ecta\w*|tram|signet|traction\w*|"
    + _near(r"bronch\w*|airways?", r"\w*ecta\w*|" + _LARGE),
    "mosaic attenuation": r"mosaic\w*|trapp\w*|small airways?|patchwork|perfusion|olig[ae]+mi\w*"
    r"|(?:attenuation|density|aeration) differen\w*|differen\w+ (?:in|of) (?:attenuation|density|aeration)",
    "nodule": r"nodul\w*|nod\u00fcl\w*|granulom\w*|mass(?:es)?|metasta\w*|tumou?r\w*|tree in bud|cavit\w*|ggn",
    "sequela": r"sequel\w*|fibro\w*|scar\w*|recessions?|architectural|old (?:tb|tubercul\w*)",
    "septal thickening": r"septa\w*|septum|inter ?lobular|crazy|paving|kerley|reticul\w*|interstiti\w*|lymphangit\w*"
    r"|edema",
    "honeycombing": r"honey ?comb\w*|uip|usual interstitial|interstitial (?:lung|fibro\w*)|pulmonary fibrosis"
    r"|micro ?cyst\w*",
    "air cyst": r"cysts?|bull(?:ae?|ous)|blebs?|pneumatoc\w*|cavit\w*|air filled|thin walled",
    # airways
    "peribronchial thickening": r"peri ?bronch\w*|bronchitis|cuff\w*|" + _near(r"bronch\w*|airways?", _THICK),
    "mucus plug": r"muc(?:us|oid|ous|o)\w*|plug\w*|secret\w*|impact\w*|bronchoc\w+|glove|aspirat\w*|debris"
    r"|endo ?bronchial|intra ?luminal|obstruct\w*|occlu\w*|obliterat\w*",
    # heart
    "cardiomegaly": r"cardiomegal\w*|cardiac index|"
    + _near(r"hearts?|cardiac|cardiothoracic|atri\w+|ventric\w*|chambers?|cavit\w+", _LARGE),
    "pericardial effusion": r"\w*pericardium with|hydropericard\w*|h[ae]+mopericard\w*|tamponade|"
    + _near(r"pericard\w*|hearts?|cardiac", _FLUID),
    "pericardial thickening": r"pericarditis|constrict\w*|" + _near(r"pericard\w*", f"{_THICK}|{_CALCIUM}"),
    "coronary calcification": _near(r"coronar\w*|lad|lcx|rca|cx|circumflex|descending arter\w+", _CALCIUM),
    "coronary stent": r"stent\w*|bypass|cabg|pci|angioplast\w*|grafts?|revasculari[sz]\w*",
    # mediastinum
    "arterial calcification": _near(r"aort\w*|arter\w*|vascul\w*|vessels?|subclav\w*|carotid\w*", _CALCIUM),
    "mural thrombus": r"thromb\w*|filling defects?|embol\w*|mural (?:thick\w*|plaques?)",
    "intramural hematoma": r"h[ae]+matom\w*|h[ae]+morrhag\w*|dissect\w*|intra ?mural|crescent\w*|flaps?",
    "lymphadenopathy": r"lymph\w*|\w*adenopath\w*|laps?|nodal|conglomerat\w*|nodes?",
    "mediastinal cyst": r"cyst\w*|duplication",
    "soft tissue": r"soft tissues?|thym\w*|infiltrat\w*|mass(?:es)?|tumou?r\w*|fibrosis|conglomerat\w*",
    # esophagus
    "hiatal hernia": r"hernia\w*|hiat\w+|intra ?thoracic stomach|"
    + _near("stomach|gastric", r"protru\w*|thora\w*|above|upward"),
    "diverticulum": r"diverticul\w*|out ?pouch\w*|pouch\w*|zenker\w*|saccular",
    "esophageal mass": _near(r"o?esophag\w*", f"{_TUMOUR}|{_THICK}"),
    # pleura
    "pleural effusion": r"(?:hydro|h[ae]+mo|chylo|pyo)(?:pneumo)?thora\w*|empyem\w*|blunt\w*|"
    + _near(r"pleura[el]?|\w*thora(?:x|ces|cic)|costophrenic|sinus\w*|sulc\w*|fissur\w*", _FLUID),
    "pleural thickening": r"pachypleur\w*|fibrothora\w*|pleuri\w*|empyem\w*|mesotheliom\w*|"
    + _near(r"pleura[el]?|fissur\w*", rf"{_THICK}|{_CALCIUM}|nodul\w*|sequel\w*"),
    "pneumothorax": r"\w*pneumothora\w*|free air|(?:chest|thorac\w+|thorax) (?:tube|drain)\w*|"
    + _near(r"pleural?", r"air|gas|drain\w*"),
    # bone
    "osteophyte": r"osteophyt\w*|spurs?|spurring|degenerat\w*|spondyl\w*|bridg\w*|beak\w*|syndesmophyt\w*|taper\w*"
    r"|arthr\w*",
    "fracture": r"\w*fractur\w*|collaps\w*|compress(?:ion|ed)|wedg\w*|callus\w*|broken|displac\w*|fissur\w*|"
    + _near(r"heights?", _LESS),
    "sternal wire": r"wires?|sternotom\w*|sutur\w*|metal\w*|cerclage|bypass|operat\w*|surg\w*|post ?op\w*",
    "lytic lesion": r"\w*lytic|\w*lysis|destruct\w*|destroy\w*|lucen\w*|hypodens\w*|metasta\w*|ero(?:si|d)\w*"
    r"|myelom\w*",
    "sclerotic lesion": r"\w*sclero\w*|\w*blastic|hyperdens\w*|metasta\w*",
    "bone island": r"islands?|islets?|enostos\w*|compact",
    "vertebral hemangioma": r"h[ae]+mangiom\w*|angiom\w*|trabecul\w*|polka|corduroy",
    "schmorl node": r"schmorl\w*|schm\u00f6rl\w*|intra ?vertebral|discs? hernia\w*|"
    + _near(r"end ?plates?|plateaus?", r"indent\w*|depress\w*|irregular\w*|hernia\w*|defect\w*|impress\w*|concav\w*"),
    "scoliosis": r"\w*scolio\w*|curv\w*|s shaped|lateral (?:deviat|bend|angulat)\w*|tilt\w*|lean\w*",
    "kyphosis": r"\w*kypho\w*|gibb\w*|hunch\w*|hump\w*|angulat\w*|curv\w*",
    # glands
    "thyroid nodule": r"nodul\w*|goit\w*|mng|" + _near("thyroid", rf"{_TUMOUR}|h[yi]\w*dens\w*|heterogene\w*"),
    "thyroid cyst": r"cyst\w*|colloid\w*",
    "breast mass": r"mass(?:es)?|fibroadenom\w*|"
    + _near(r"breasts?|mammary|nipple", rf"{_TUMOUR}|nodul\w*|opacit\w*|densit\w*"),
    "breast cyst": r"cyst\w*",
    # abdomen
    "gallstone": r"\w*stones?|calcul[iu]\w*|\w*lithia\w*|" + _near("gall ?bladder", r"hyperdens\w*|calci\w*|sludge"),
    "gallbladder polyp": r"polyp\w*|" + _near("gall ?bladder", rf"{_TUMOUR}|protru\w*|nodul\w*"),
    "cyst": r"\w*cyst\w*|hypodens\w*|fluid (?:attenuation|density)|"
    + _near(r"liver|hepatic|kidneys?|renal|spl\w+", r"(?<!solid )lesions?"),
    "solid lesion": r"solid|mass(?:es)?|tumou?r\w*|neoplas\w*|malignan\w*|carcinom\w*|metasta\w*|h[ae]+mangiom\w*"
    r"|exophytic|angiomyolipom\w*|" + _near(r"liver|hepatic|kidneys?|renal|spl\w+", r"lesions?|nodul\w*"),
    "steatosis": r"\w*steato\w*|fat|fatty|adipos\w*|nafld|"
    + _near(_LIVER, r"densit\w*|attenuat\w*|hypodens\w*|hypoatt\w*"),
    "hepatomegaly": r"\w*megaly|" + _near(_LIVER, _LARGE + r"|(?:1[5-9]|2\d)(?:_\d)? cm|(?:1[5-9]|2\d)\d mm"),
    "adrenal adenoma": r"adenom\w*|" + _near(r"ad?renals?|surrenal\w*", rf"nodul\w*|{_THICK}|hyperplas\w*|mass\w*"),
    "adrenal metastasis": r"metasta\w*|secondar\w*|"
    + _near(r"ad?renals?|surrenal\w*", rf"mass\w*|malignan\w*|nodul\w*|{_THICK}"),
}
"""Name of a finding to an expression for text in lower case with hyphens as blanks."""
