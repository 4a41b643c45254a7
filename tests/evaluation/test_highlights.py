from ct_vlm.evaluation.cases import Case
from ct_vlm.evaluation.highlights import marked_reports
from ct_vlm.metrics import RuleLabeler

EXPLAIN = RuleLabeler().explain


def test_sentences_that_made_the_labels_are_marked() -> None:
    case = Case(
        "a",
        "a",
        "Heart size is increased. No pleural effusion & <none>. Lung nodule.",
        "Heart size increased. Pleural effusion. No lung nodule.",
        found=("Cardiomegaly",),
        missed=("Pleural effusion",),
        invented=("Lung nodule",),
    )
    prediction, reference = marked_reports(case, EXPLAIN)
    assert '<mark class="found" title="Cardiomegaly, positive: heart size is increased">' in prediction
    assert '<mark class="missed" title="Pleural effusion, negative: effusion">' in prediction
    assert '<mark class="invented" title="Lung nodule, positive: ' in prediction
    assert "&amp; &lt;none&gt;" in prediction
    assert '<mark class="missed" title="Pleural effusion, positive: effusion">' in reference
    assert '<mark class="invented" title="Lung nodule, negative: ' in reference
    assert "<b>effusion</b>" in reference


def test_what_matters_to_no_label_is_left_plain() -> None:
    case = Case("a", "a", "Heart size is normal. No nodule.", None)
    assert marked_reports(case, EXPLAIN) == ("Heart size is normal. No nodule.", None)


def test_words_over_line_breaks_and_hyphens_are_found() -> None:
    text = "There is ground-glass\nopacity in the lung."
    prediction, _ = marked_reports(Case("a", "a", text, None, invented=("Lung opacity",)), EXPLAIN)
    assert '<mark class="invented"' in prediction
    assert "<b>ground-glass" in prediction
