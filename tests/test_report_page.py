"""The page: valid, self-contained, and safe against the text in it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tfsono.config import choose
from tfsono.configs.hip import HIP
from tfsono.report.evaluation_page import Tables, settings_table, write_evaluation_page
from tfsono.report.orderings import COLUMNS, FAILS, HOLDS, UNDECIDED
from tfsono.report.page import SCRIPT, CaseList, Figure, Files, Html, table_html, write_page
from tfsono.report.tables import Metric, Summary, Table

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
VOID = {"meta", "img", "br"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
               os.environ.get("CHROME_PATH"))


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
    assert not {"link", "iframe", "object", "base"} & {tag for tag, _ in reader.elements}
    assert [(tag, attributes) for tag, attributes in reader.elements if tag == "script"] == [("script", {})]
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
    script, = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert script == SCRIPT and f"script-src 'sha256-{digest}'" in policy and "//" not in script


def test_text_is_escaped(page):
    text, reader = page.read_text(encoding="utf-8"), read(page)
    assert text.count("<script") == 1 and "<i>" not in text and "<femur>" not in text
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
    markup = table_html(Table("t", ("a",), ((float("nan"),),)), "")
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


# --- the page of an evaluation

METRICS = (Metric("assd_mm", "ASSD mm", 2), Metric("dice", "Dice %", 1, 100.0))
MEANS = {"one & only": [{"case": "a", "assd_mm": 0.5, "dice": 0.9}, {"case": "b", "assd_mm": 11.0, "dice": 0.5}],
         "other": [{"case": "a", "assd_mm": float("nan"), "dice": float("nan")},
                   {"case": "b", "assd_mm": 2.0, "dice": 0.8}]}


def wide_table(title: str, note: str) -> Table:
    """Fifteen columns, as Table 2 of `hip` has."""
    headings = ("Variant", "Source", "Cases", "Undefined", "Absent", *(f"Distance {place} mm" for place in range(10)))
    row = ("with transfer (stand-in, not C3D), tuned, widths 16,32,64", "ours", 20, 0, 0,
           *[Summary(123.45, 123.45, 100.0, 140.0, 20)] * 10)
    return Table(title, headings, (row, row), note, (None, None, 0, 0, 0, *[2] * 10))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated")
    (out / "a.png").write_bytes(PNG)
    verdicts = Table("Orderings", COLUMNS, tuple(
        (f"A > {place}", "Table 1", "2 > 1", "dice", verdict, 9, Summary(0.1), 0.01)
        for place, verdict in enumerate((HOLDS, HOLDS, FAILS, UNDECIDED))))
    tables = Tables(verdicts, [wide_table("Main", "Of all. Only here."), wide_table("Second", "Of all.")],
                    [Table("Further", ("a",), (("b",),), "Of all.")])
    settings = {"one": choose(HIP, "quick", "paper"), "two": choose(HIP, "quick", "paper", {"seed": "1"})}
    write_evaluation_page(out, "hip: data", tables=tables, cases=CaseList(MEANS, METRICS, "assd_mm"),
                          figures=[Figure(out / "a.png", "overlay of b", "b", "other"), Figure(out / "a.png", "plot")],
                          histories=[Figure(out / "a.png", "Training of one.")], runs=["one: run"], settings=settings)
    return out / "report.html"


def test_an_evaluations_page_begins_with_the_verdicts(evaluated):
    reader, text = read(evaluated), evaluated.read_text(encoding="utf-8")
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert headings == ["Verdicts", "Results", "Further tables", "Cases", "Figures", "Training", "Runs and settings",
                        "Files"]
    assert "Of 4 orderings of the paper, hold: 2; do not hold: 1; not decided: 1." in reader.text
    assert text.count('<span class="holds">holds</span>') == 2 and text.count('<span class="undecided">') == 1


def test_a_note_is_printed_once(evaluated):
    text = evaluated.read_text(encoding="utf-8")
    assert text.count("Of all.") == 1 and text.count('<p class="note">Only here.</p>') == 1
    assert text.index("<h2>Results") < text.index("Of all.") < text.index("<caption>Main")


def test_a_wide_table_is_split_with_its_first_columns_repeated(evaluated):
    text = evaluated.read_text(encoding="utf-8")
    heads = {title: re.findall(">([^<]+)</th>", re.search(rf"<caption>{title}</caption>\n(.*)", text)[1])
             for title in ("Main [(]1 of 2[)]", "Main [(]2 of 2[)]")}
    first, second = heads.values()
    assert first[:5] == ["Variant", "Source", "Cases", "Undefined", "Absent"] and second[:2] == ["Variant", "Source"]
    assert first[5:] + second[2:] == [f"Distance {place} mm" for place in range(10)]


def test_cases_are_listed_by_error_with_their_overlays(evaluated):
    text = evaluated.read_text(encoding="utf-8")
    bodies = re.findall(r"<tbody><tr><th scope=\"row\">(.)</th><td>(.*?)</td>(.*?)</tbody>", text)
    assert [body[:2] for body in bodies] == [("b", "one &amp; only"), ("b", "other"), ("a", "one &amp; only"),
                                             ("a", "other")], "the undefined one last"
    assert [("Overlay of b" in body[2], "overlay of b" in body[2]) for body in bodies] == [
        (False, False), (True, True), (False, False), (False, False)]
    assert 'data-value="80.0">80.0<' in bodies[1][2] and 'data-value="nan">–<' in bodies[3][2]


def test_every_setting_has_its_origin():
    table = settings_table({"one": choose(HIP, "quick", "paper"), "two": choose(HIP, "quick", "paper", {"seed": "1"})})
    rows = {(row[0], row[4]): row[1:4] for row in table.rows}
    assert rows["batch", "all"] == ("2", "the paper", "Sec. 3.2")
    assert rows["seed", "one"] == ("0", "our choice", "not stated")
    assert rows["seed", "two"] == ("1", "command line", "")
    assert rows["iterations", "all"][1] == "differs from the paper"


PROBE = """
const wide = [...document.querySelectorAll(".wide")].filter((one) => one.scrollWidth > one.clientWidth).length;
const order = () => [...document.querySelectorAll(".cases tbody")].map((one) => one.rows[0].cells[2].textContent);
const heads = document.querySelectorAll(".cases button"), found = [order()];
for (const place of [2, 3, 3]) { heads[place].click(); found.push(order()); }
document.body.dataset.found = JSON.stringify([wide, document.documentElement.scrollWidth <= innerWidth, found]);
"""


@pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome: on the PATH, or in CHROME_PATH")
def test_a_browser_sorts_the_cases_and_scrolls_nothing_sideways(evaluated, tmp_path):
    text = evaluated.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    probed = text.replace("script-src", f"script-src 'sha256-{digest}'").replace(
        "</body>", f"<script>{PROBE}</script></body>")
    (tmp_path / "page.html").write_text(probed, encoding="utf-8")
    done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
                           "--window-size=1280,800", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
                           (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    body = next(attributes for tag, attributes in parsed_elements(done.stdout) if tag == "body")
    assert json.loads(body["data-found"]) == [0, True, [
        ["11.00", "2.00", "0.50", "–"], ["0.50", "2.00", "11.00", "–"],
        ["0.50", "2.00", "11.00", "–"], ["11.00", "2.00", "0.50", "–"]]]


def parsed_elements(text: str) -> list:
    reader = Reader()
    reader.feed(text)
    return reader.elements
