"""The page in one file: it needs nothing else, and runs nothing."""

from html.parser import HTMLParser

import pytest
from helpers.made_up_runs import thirty_texts, write_run

from fastprune.app.report import RunFolder, write_report
from fastprune.app.report.html import html_page

pytest.importorskip("markdown_it")


class Seen(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


VOID = {"meta", "img", "br", "hr", "link", "input"}


class Nested(HTMLParser):
    """Fails where tags are not closed in their order; ``widths`` are the cells of each row, by table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.widths: list[list[int]] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag not in ("td", "th") or self.open[-1] == "tr"
        assert not {"colspan", "rowspan"} & dict(attrs).keys()
        if tag == "table":
            self.widths.append([])
        elif tag == "tr":
            self.widths[-1].append(0)
        elif tag in ("td", "th"):
            self.widths[-1][-1] += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


HARD = ["a | b", "a\\| b", "a || b", "|", "`a | b`", "a\nb | c", "a<td>b</tr></table>"]


@pytest.mark.parametrize("text", HARD)
def test_rows_are_as_wide_as_their_headers(tmp_path, text, no_picture):
    folder = RunFolder.open(write_run(tmp_path / "run", data=text))
    folder.write_texts({i: (text, text) for i in range(30)})
    folder.write_classes({text: {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}})
    nested = Nested(write_report(folder.path).html.read_text())
    assert len(nested.widths) >= 4
    for widths in nested.widths:
        assert len(widths) > 1 and len(set(widths)) == 1


def test_the_page_needs_no_other_file(tmp_path):
    report = write_report(write_run(tmp_path / "run"), data=thirty_texts())
    page = report.html.read_text()
    seen = Seen(page)
    (picture,) = [attributes for tag, attributes in seen.tags if tag == "img"]
    assert picture["src"].startswith("data:image/png;base64,iVBORw0KGgo")
    links = [attributes for _, attributes in seen.tags if {"href", "src"} & attributes.keys()]
    assert links == [picture] and "default-src 'none'" in str(seen.tags)
    assert {tag for tag, _ in seen.tags} >= {"table", "th", "h1", "h2", "strong", "style"}
    assert "saved 39 % of the time" in seen.text and "play | some <b> jazz" in seen.text
    assert "made by fastprune" not in seen.text and page.startswith("<!doctype html>")


EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "![x](http://a.example/p.png)",
    "<http://a.example>",
    "- item",
    "1. item",
    "# heading",
    "&lt;script&gt;",
    "` `` ***",
    "x</title><script>",
    "--- | ---",
]


@pytest.mark.parametrize("text", EVIL)
def test_foreign_text_stays_text(tmp_path, text, no_picture):
    folder = RunFolder.open(write_run(tmp_path / "run", data=text))
    rows = [
        {"run": run, "method": text, "seed": 0, "epoch": 1, "split": text, "seconds": seconds, "accuracy": 0.5}
        for run, seconds in (("full", 2.0), (text, 1.0))
    ]
    folder.write_config({"data": text, "model": text, "metrics": ["accuracy"], "reported": [text]})
    folder.write_metrics(rows)
    folder.write_texts({29: (text, text)})
    folder.write_classes({text: {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}})
    seen = Seen(write_report(folder.path).html.read_text())
    tags = {tag for tag, _ in seen.tags}
    assert not tags & {"script", "a", "ul", "ol", "li", "code", "em", "hr"}
    assert [tag for tag, _ in seen.tags].count("img") == 1 and [tag for tag, _ in seen.tags].count("h1") == 1
    assert seen.text.count(text) >= 5, "in title, heading, sentence and tables, letter by letter"


def test_only_the_pictures_that_are_given_are_put_in():
    page = html_page("![a](report.png) ![b](other.png)", "t", {"report.png": b"png"})
    assert 'src="data:image/png;base64,cG5n"' in page and 'src="other.png"' in page
