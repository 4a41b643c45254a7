import math
from html.parser import HTMLParser

from ct_vlm.evaluation import ReportTable, Settings, compare, evaluate, pair_reports, write_html
from ct_vlm.evaluation.html import Page
from ct_vlm.metrics import RelianceResult, RuleLabeler
from ct_vlm.metrics.functional import Interval

FEW = Settings(metrics=["bleu", "rouge"], n_resamples=20)
VOID = {"meta", "img", "br", "link", "input"}


class Checker(HTMLParser):
    """Collects tags and addresses, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def parse(text: str) -> Checker:
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    return checker


def test_one_system(tmp_path, predictions, references) -> None:
    found = evaluate(pair_reports(predictions, references), FEW)
    path = tmp_path / "new" / "report.html"
    arms = {"real": {"crg": Interval(0.5, 0.4, 0.6, 0.05)}, "zeroed": {"crg": Interval(0.4, math.nan, math.nan, 0.0)}}
    study = RelianceResult(arms, {"zeroed": {"crg": arms["zeroed"]["crg"]}}, {}, (0,), 0.95, 9, 4, 3, "labels (rules)")
    write_html(path, Page({"ours": found.scores}, found.cases, reliance=study, explain=RuleLabeler().explain))
    text = path.read_text()
    checker = parse(text)
    assert len(checker.images) == 3
    assert all(image.startswith("data:image/png;base64,") for image in checker.images)
    assert "script" not in checker.tags
    assert "http" not in text
    for expected in (
        "Worst cases",
        "Best cases",
        "Pleural effusion: invented",
        "missing predictions",
        "Visual reliance",
        '<mark class="invented" title="Pleural effusion, positive: ',
        '<mark class="invented" title="Pleural effusion, negative: ',
    ):
        assert expected in text


def test_two_systems_show_differences(tmp_path, predictions, references) -> None:
    pairs = pair_reports(predictions, references)
    others = pair_reports(ReportTable(references.ids, references.reports), references)
    found, second = evaluate(pairs, FEW), evaluate(others, FEW)
    comparison = compare((pairs, found), (others, second), FEW, 10)
    path = tmp_path / "report.html"
    write_html(path, Page({"a": found.scores, "b": second.scores}, found.cases, comparison))
    text = path.read_text()
    parse(text)
    assert "a minus b" in text
    assert f"{comparison['difference']['micro_f1']['value']:+.3f}" in text


def test_reports_cannot_break_the_page(tmp_path) -> None:
    evil = '<script>alert(1)</script> & "quotes"'
    table = ReportTable(("<b>",), (evil,))
    found = evaluate(pair_reports(table, table), Settings(metrics=["bleu"], n_resamples=0))
    path = tmp_path / "report.html"
    write_html(path, Page({"<i>": found.scores}, found.cases))
    text = path.read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    parse(text)


def test_labels_alone_leave_texts_out(tmp_path, references) -> None:
    import numpy as np

    labels = np.zeros((4, 18))
    labels[:, 1] = 1
    pairs = pair_reports(ReportTable(references.ids, labels=labels), ReportTable(references.ids, labels=labels))
    found = evaluate(pairs, Settings(labeler="given", n_resamples=10))
    path = tmp_path / "report.html"
    write_html(path, Page({"labels": found.scores}, found.cases))
    text = path.read_text()
    assert len(parse(text).images) == 1
    assert "Lengths" not in text
