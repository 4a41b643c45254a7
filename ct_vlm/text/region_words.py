"""The words by which a sentence is told to be about a region.

The lists and their order are inferred: no published tool for CT-RATE reports states its own. Three tiers are asked
one after another, and the first word of a sentence that a tier knows decides: phrases before organs, organs before
findings. "Right lung pleural effusion" is about the pleura, and "thyroid nodule" about the thyroid.
"""

from __future__ import annotations

PHRASES = {
    "pleura": r"pleural effusions?|\w*pneumothora\w*|h[ae]+mothorax|hydrothorax|chylothorax|empyema|costophrenic"
    r"|(?:chest|thorax|thoracic|thoracostomy|drainage) (?:tube|drain|catheter)s?|fissural (?:effusion|fluid)s?",
    "heart": r"pericardial effusions?|coronar\w+|cardiothoracic|circumflex"
    r"|(?:aortic|mitral|tricuspid|pulmonary) valv\w+|(?:inter|atrio|intra)-?(?:atrial|ventricular)",
    "esophagus": r"hiat(?:al|us)|(?:gastro|para)-?o?esophageal (?:reflux|junction|hernia\w*|varic\w+)"
    r"|sliding(?:[ -]type)? hernia\w*|nasogastric|zenker\w*",
    "mediastinum": r"lymph\w*|pulmonary (?:arter|trunk|vein)\w*|pneumomediastin\w+",
    "trachea and bronchie": r"peribronchial|bronchial wall|main bronch\w+|endobronchial|endotracheal"
    r"|paratracheal (?:air\w*|diverticul)[\w-]*",
    "bone": r"soft tissue of the chest wall|stern(?:al|otomy) wires?|subcutaneous|intramuscular",
    "abdomen": r"diaphragmatic hernia\w*|bochdalek|morgagni",
    "lung": r"sub-?pleural|pleuro-?parenchymal|bronchiecta\w+|bronchiol\w+|bronchopneumoni\w+|bronchovascular"
    r"|mosaic|small[ -](?:airways?|vessels?)|azygos (?:lobe|fissure)|pneumonectom\w+|lobectom\w+|segmentectom\w+"
    r"|wedge resection",
}
"""Words that decide whatever else a sentence names, by region."""

ORGANS = {
    "thyroid": r"thyroid\w*|parathyroid\w*|goit\w+",
    "breast": r"breasts?|mammary|nipples?|mastectom\w+|lumpectom\w+|mammoplast\w+|gyn[ae]+comastia"
    r"|retroareolar|areola\w*",
    "esophagus": r"o?esophag\w+|(?:para|gastro)-?o?esophageal",
    "heart": r"hearts?|cardi\w+|(?:peri|myo|endo|epi)cardi\w+|ventric\w+|atri(?:um|al|a)|pacemaker|defibrillator|cabg"
    r"|left anterior descending|valv\w+|mitral|tricuspid|rca|lcx|lmca",
    "pleura": r"pleurae?|pleural|pleurodesis|mesothelioma\w*",
    "trachea and bronchie": r"trache\w+|bronch(?:us|i|ial)|airways?|carina\w*",
    "mediastinum": r"mediastin\w+|hil(?:um|a|ar)|aort\w+|arterial|great vessels|main vascular\w*|vascular structures"
    r"|vena cava|thym(?:us|ic|oma\w*)|port|catheter|subclavian|brachiocephalic|carotids?|jugular|azygos|pulmonary conus"
    r"|truncus|paratracheal|subcarinal|prevascular|aortopulmonary",
    "bone": r"bones?|bony|osseous|vertebra\w*|intervertebral|ribs?|stern\w+|fractures?|scolio\w+|\w*kypho\w+|osteo\w+"
    r"|skelet\w+|clavic\w+|scapul\w+|humerus|humeral|spin(?:e|al)|lytic|sclerotic|costae?|pectus|manubri\w+|xiphoid"
    r"|spondyl\w+|syndesmophyt\w+|schmorl\w*|end ?plates?|facet|enostos\w+|exostos\w+|shoulders?|acromi\w+|glenoid"
    r"|costochondral|costovertebral|costosternal|dis[ck] (?:herniat\w+|spaces?|protrusions?|bulging|heights?)"
    r"|(?:in|of|into|invading) (?:the )?(?:\w+ ){0,2}chest wall|pectoral\w*|muscles?|muscular",
    "abdomen": r"\w*abdom\w+|liver|hepat\w+|perihepatic|spleen|splen\w+|perisplenic|kidneys?|renal|adrenals?"
    r"|surrenal\w*|gall ?bladder|gall ?stones?|cholecyst\w+|cholelith\w+|choledoch\w+|\w*pancrea\w+|stomach|gastric"
    r"|gastrectom\w+|gastrostom\w+|duoden\w+|bowel|colon\w*|intestin\w+|biliary|bile|ascites|\w*periton\w+|omentum"
    r"|omental|mesenter\w+|nephr\w+|\w+nephrosis|ureter\w*|urolith\w+|pelvicalyceal|pelvicaly\w+|celiac|umbilic\w+|steatosis",
    "lung": r"lungs?|lob(?:e|es|ar)(?! of (?:the )?(?:thyroid|liver))|parenchym\w+|lingul\w+|pulmonary|pulmonum",
}
"""Names of organs and what is said of nothing else, by region."""

FINDINGS = {
    "heart": r"lad|stents?|bypass\w*",
    "abdomen": r"(?:gall ?)?stones?|calcul(?:us|i)|lithiasis|cortical cysts?",
    "breast": r"silicone|implants?",
    "mediastinum": r"ather\w+|aneurysm\w*|retrosternal",
    "bone": r"degenerat\w+|(?:loss of|decreased?|vertebral) height|height loss|th?(?:1[0-2]|[1-9])|l[1-5]",
    "pleura": r"effusions?|(?:hemi)?diaphragm\w*",
    "trachea and bronchie": r"secretions?|muc(?:us|oid)\w*",
    "lung": r"nodul\w+|mass(?:es)?|consolidat\w+|ground[ -]glass|frosted[ -]glass|opacit\w+|emphysem\w+|atelecta\w+"
    r"|infiltrat\w+|fibro\w+|sequela\w*|septa\w*|interlobular|honeycomb\w*|crazy|pneumoni\w+|bronch\w+|aerat\w+"
    r"|ventilation|tree[ -]in[ -]bud|cavit\w+|apex|apices|apical|bases|basal|basilar|bi-?bas(?:al|ilar)|reticul\w+"
    r"|bulla\w*|bullous|blebs?|air trapping|air cysts?|granulom\w+|hamartom\w*|hyperinflat\w+|hyperaerat\w+|volume loss"
    r"|loss of volume|hemithora\w+|interstiti\w+|covid\w*|tubercul\w+|centrilobular|paraseptal|centriacinar|fissures?",
}
"""Words for findings that are mostly of one region, for sentences that name no organ."""
