"""The page: valid, self-contained, and safe against the text in it."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tfsono.report.page import Files, Html, Figure, table_html, write_page
from tfsono.report.tables import Summary, Table

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
VOID = {"meta", "img", "br"}


class Reader(HTMLParser):
    """Checks that every element is closed in order; collects elements, attributes and text."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def page(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a_b.png").write_bytes(PNG)
    table = Table(
        "Table <2>",
        ("Variant", "Source", "Dice <i>"),
        (("x & y", "ours", Summary(0.5, 0.1, 0.4, 0.6, 5, 1)), ("x & y", "paper", Summary(0.7))),
        "n < 6",
        (None, None, 2),
    )
    sections = [
        (
            "Results & more",
            [table, Files([tmp_path / "t 1.csv", tmp_path / "sub" / "a#b.tex"], "The same table")],
        ),
        (
            "Images",
            (Figure(tmp_path / "figures" / "a_b.png", 'A "caption" <i>'), tmp_path / "figures" / "a_b.png"),
        ),
        (
            "Text",
            "First <script>alert(1)</script> line\nsecond line\n\nnext paragraph; see http://example.org/x",
        ),
        ("Own", Html("<p>own <b>markup</b></p>")),
        ("Files", tmp_path / "cases.csv"),
    ]
    return write_page(tmp_path / "report.html", 'hip: <femur> & "quotes"', sections)


def test_the_page_is_well_formed(page):
    reader = read(page)
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    tags = [tag for tag, _ in reader.elements]
    assert (
        tags.count("h1") == 1
        and tags.count("h2") == 5
        and tags.count("table") == 1
        and tags.count("img") == 2
    )
    identifiers = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers)) == 5
    anchors = {a["href"][1:] for tag, a in reader.elements if tag == "a" and a["href"].startswith("#")}
    assert anchors == set(identifiers)


def test_the_page_loads_nothing_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    reader = read(page)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in reader.elements}
    for tag, attributes in reader.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name, "")
            assert value == "" or value.startswith(("data:image/png;base64,", "#", "./")), (tag, value)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in text and not re.search(r"url\s*\(", text)
    # The one address in the page is the user's own text, and it is no link.
    assert re.findall(r"https?://[^\s<\"]+", text) == ["http://example.org/x"]
    policy = next(
        a["content"] for tag, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")


def test_text_is_escaped(page):
    text, reader = page.read_text(encoding="utf-8"), read(page)
    assert "<script" not in text and "<i>" not in text and "<femur>" not in text
    assert "First <script>alert(1)</script> line" in reader.text and "Table <2>" in reader.text
    assert "<title>hip: &lt;femur&gt; &amp; &quot;quotes&quot;</title>" in text
    assert "line<br>second line</p>\n<p>next paragraph" in text


def test_figures_are_embedded_whole(page):
    images = [a for tag, a in read(page).elements if tag == "img"]
    assert [base64.b64decode(a["src"].split(",")[1]) for a in images] == [PNG, PNG]
    assert [a["alt"] for a in images] == ['A "caption" <i>', "a b"]


def test_links_are_relative_to_the_page(page):
    links = [a["href"] for tag, a in read(page).elements if tag == "a" and not a["href"].startswith("#")]
    assert links == ["./t%201.csv", "./sub/a%23b.tex", "./cases.csv"]


def test_the_papers_row_is_marked(page):
    text = page.read_text(encoding="utf-8")
    assert text.count('<tr class="paper">') == 1
    assert '0.50 ± 0.10<span class="below">0.40 to 0.60</span><span class="below">1 undefined</span>' in text
    assert '<td class="number">0.70</td>' in text


def test_light_and_dark(page):
    assert "prefers-color-scheme: dark" in page.read_text(encoding="utf-8")


def test_a_table_alone():
    markup = table_html(Table("t", ("a",), ((float("nan"),),)))
    assert "<td" not in markup and '<th scope="row" class="number">–</th>' in markup


def test_few_sections_need_no_navigation(tmp_path):
    reader = read(write_page(tmp_path / "new" / "p.html", "t", [("One", "text"), ("Two", "")]))
    assert "nav" not in [tag for tag, _ in reader.elements]


def test_what_a_page_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="found int"):
        write_page(tmp_path / "p.html", "t", [("One", 3)])
    with pytest.raises(ValueError, match="found .svg"):
        write_page(tmp_path / "p.html", "t", [("One", Figure(tmp_path / "a.svg"))])
    with pytest.raises(FileNotFoundError):
        write_page(tmp_path / "p.html", "t", [("One", Figure(tmp_path / "a.png"))])
    assert not list(tmp_path.iterdir())
