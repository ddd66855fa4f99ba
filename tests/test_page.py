"""The page of a report, in a browser and cell by cell: what it shows is in its files, and every link leads somewhere.

Needs Chromium for what only a browser knows (apt-get install chromium); the rest is read from the HTML.
"""

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from jobs.report_page import summary
from test_report import Published

from deit.store.frames import read_frame
from deit.tables.definition import names
from deit.tables.verdicts import DECIMALS, signed

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install chromium")
PHONE, SCREEN = 390, 1280
PROBE = """<script>addEventListener("load", () => {
const wide = [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll") && !e.closest("svg")
  && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80));
const lost = [...document.links].map(a => a.getAttribute("href")).filter(h => h.startsWith("#")
  && !document.getElementById(decodeURIComponent(h.slice(1))));
const blank = [...document.images].filter(i => !i.naturalWidth).map(i => i.alt);
const meets = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const covered = [...document.querySelectorAll("svg.ticks, .comparison")].flatMap(row => {
  const texts = [...row.querySelectorAll("text, span.what, span.numbers")].filter(e => e.textContent.trim());
  const boxes = texts.map(e => e.getBoundingClientRect());
  return texts.flatMap((e, i) => texts.filter((o, j) => j > i && meets(boxes[i], boxes[j]))
    .map(o => e.textContent + " | " + o.textContent)) });
const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
parent.postMessage(JSON.stringify({wide, lost, blank, covered,
  width: innerWidth, page: document.documentElement.scrollWidth,
  twice: ids.filter((id, i) => ids.indexOf(id) !== i), ink: getComputedStyle(document.body).color,
  ground: getComputedStyle(document.body).backgroundColor}), "*") })</script>"""
FRAME = """<!doctype html><meta name="color-scheme" content="light dark"><pre id="probe"></pre>
<script>addEventListener("message", message => document.getElementById("probe").textContent = message.data)</script>
<iframe src="index.html" style="border:0;width:{width}px;height:900px"></iframe>"""
"""A window cannot be as narrow as a phone, a frame can."""


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Path:
    """The report of a study that nobody trained."""
    return Published(tmp_path_factory.mktemp("page")).output


@pytest.fixture(scope="module", params=["synthetic", *sorted(path.name for path in ROOT.glob("reports/published/*"))])
def report(request) -> Path:
    """The folder of a report: a synthetic one, and all that are published."""
    if request.param == "synthetic":
        return request.getfixturevalue("synthetic")
    folder = ROOT / "reports/published" / request.param
    if 'id="runs"' not in (folder / "index.html").read_text(encoding="utf-8"):
        pytest.skip(f"{folder.name}: this page was made before its cells led to their runs")
    return folder


@pytest.fixture(scope="module")
def page(report) -> BeautifulSoup:
    return BeautifulSoup((report / "index.html").read_text(encoding="utf-8"), "html.parser")


# In a browser ---------------------------------------------------------------------------------------------------------


def looked_at(report: Path, folder: Path, width: int, *flags: str) -> tuple[dict, str]:
    """What a browser of some width finds on the page, and what it says on its console."""
    for path in report.iterdir():
        if path.suffix != ".html":
            (folder / path.name).symlink_to(path)
    (folder / "index.html").write_text(
        (report / "index.html").read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8"
    )
    (folder / "frame.html").write_text(FRAME.replace("{width}", str(width)), encoding="utf-8")
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars"]
    words += ["--window-size=1400,1000", f"--user-data-dir={folder}/profile", "--virtual-time-budget=5000", *flags]
    words += ["--disable-dev-shm-usage"]  # a container's holds 64 MB
    done = subprocess.run(
        [*words, "--dump-dom", f"file://{folder}/frame.html"], capture_output=True, encoding="utf-8", timeout=120
    )
    found = BeautifulSoup(done.stdout, "html.parser").find(id="probe")
    assert found and found.text, done.stderr[-3000:]
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(found.text), "\n".join(said)


@pytest.mark.long
@in_a_browser
@pytest.mark.parametrize("width", [PHONE, SCREEN])
def test_nothing_is_wider_than_the_screen_lost_blank_or_covered(report, tmp_path, width):
    found, said = looked_at(report, tmp_path, width)
    assert not said
    assert found["width"] == width and found["page"] <= width
    assert {key: found[key] for key in ("wide", "lost", "blank", "covered", "twice")} == {
        "wide": [], "lost": [], "blank": [], "covered": [], "twice": []
    }  # fmt: skip


@pytest.mark.long
@in_a_browser
def test_the_page_is_dark_where_the_reader_is(report, tmp_path):
    for name, flags in {"light": (), "dark": ("--blink-settings=preferredColorScheme=0",)}.items():
        (tmp_path / name).mkdir()
        found, _ = looked_at(report, tmp_path / name, SCREEN, *flags)
        ink, ground = (sum(map(int, re.findall(r"\d+", found[part])[:3])) for part in ("ink", "ground"))
        assert (ink < ground) == (name == "light")


# As text --------------------------------------------------------------------------------------------------------------


def test_every_link_leads_to_a_file_or_a_place_of_the_page(report, page):
    links = [link["href"] for link in page.find_all("a")]
    files = [link for link in links if not link.startswith("#")]
    of_one = 8, 50 if page.find(id="findings") else 40
    of_files, of_links = (15 if page.find(id="table_3") else 14, 100) if several_tables(report) else of_one
    assert len(files) > of_files and len(links) > of_links
    assert [link for link in files if not (report / link).exists()] == []
    assert [link for link in links if link.startswith("#") and not page.find(id=link[1:])] == []


def several_tables(report: Path) -> bool:
    return len(list(report.glob("*.tex"))) > 1


def value(text: str) -> tuple[float, float]:
    """A number as the page writes it, and how far it may be from what it was rounded from."""
    digits = text.replace(",", "").replace("−", "-").removesuffix(" M").strip()
    scale = 1e6 if text.endswith(" M") else 1.0
    return scale * float(digits), scale * 0.50001 * 10.0 ** -len(digits.partition(".")[2])


def assert_shows(text: str, number: float, what: str) -> None:
    shown, error = value(text)
    assert abs(shown - number) <= error, f"{what}: {text} on the page, {number} in the file"


@pytest.mark.parametrize("table", [name for name in names() if name != "accuracy_throughput"])
def test_every_cell_of_the_page_is_its_file(report, page, table):
    if not page.find(id=table):
        assert not (report / f"{table}.csv").exists()
        pytest.skip(f"{report.name} has no {table}")
    cells = read_frame(report / f"{table}.csv", text=["row", "column"])
    rows, columns = list(dict.fromkeys(cells["row"])), list(dict.fromkeys(cells["column"]))
    cells = cells.set_index(["row", "column"])
    lines = page.find(id=table).find("tbody").find_all("tr")
    assert len(lines) == len(rows)
    for row, line in zip(rows, lines, strict=True):
        for column, shown in zip(columns, line.find_all("td"), strict=True):
            what = f"{table}, {row}, {column}"
            if (row, column) not in cells.index:  # as a convnet of the dial has no convnet of equal accuracy
                assert shown.text.strip() == "—", what
                continue
            number = cells.loc[(row, column)]
            theirs = shown.find(class_="paper")
            if theirs:
                assert_shows(theirs.extract().text.partition(" · ")[0], number["paper"], f"{what}, the paper's")
            spread = shown.find(class_="spread")
            assert bool(spread) == pd.notna(number["low"]) or row == column, what
            if spread:
                text = spread.extract().text.removeprefix("± ").partition(" (")[0]
                assert_shows(text, (number["high"] - number["low"]) / 2, f"{what}, half of its interval")
            if pd.isna(number["ours"]):
                assert shown.text.strip() == "—", what
                continue
            assert_shows(shown.text.strip(), number["ours"], what)
            if row != column:
                leads_to_its_runs(page, shown, number, what)


def leads_to_its_runs(page: BeautifulSoup, shown: BeautifulSoup, number: pd.Series, what: str) -> None:
    """The cell's link leads to as many values as it has seeds, and from there to results with digest and command."""
    place = page.find(id=shown.find("a")["href"][1:])
    values = re.findall(r"seed \d+: ([\d.,−-]+)(?:,|$)", place.text.splitlines()[0])
    if pd.notna(number["std"]):
        assert len(values) == number["n"], what
        assert abs(sum(value(text)[0] for text in values) / len(values) - number["ours"]) < 0.06, what
    for link in place.find_all("a"):
        digest, command = (code.text for code in page.find(id=link["href"][1:]).find_all("code"))
        assert re.fullmatch("[0-9a-f]{10}", digest) and digest in command, what
        assert command.startswith("snakemake --profile local --config study="), what


def test_every_finding_is_its_file(report, page):
    found = json.loads((report / "claims.json").read_text(encoding="utf-8"))
    sections = page.find_all(class_="finding")
    of_table_3 = 9 if page.find(id="table_2") else 6
    least = (of_table_3 if page.find(id="table_3") else 7) if several_tables(report) else 0
    assert len(sections) == len(found) >= least and bool(page.find(id="findings")) == bool(found)
    for finding, section in zip(found, sections, strict=True):
        assert section.find(class_="verdict").text == finding["verdict"] and finding["claim"] in section.p.text
        shown = section.select(".comparison:not(.axis)")
        assert [line.find(class_="what").text for line in shown] == [one["what"] for one in finding["comparisons"]]
        for one, line in zip(finding["comparisons"], shown, strict=True):
            plain = (
                f"{abs(one['ours']):.{DECIMALS[finding['unit']]}f}"  # of what rounds to zero, until 30 November 2026
            )
            assert line.find("b").text in {signed(one["ours"], finding["unit"]), plain if float(plain) == 0 else ""}
            assert bool(line.find(class_="interval")) == (one["low"] is not None)
    said = "".join(part.text for part in page.find_all(class_="summary"))
    verdicts = Counter(finding["verdict"] for finding in found)
    counted = [verdicts[each] for each in ("holds", "contradicted", "undecided", "not measured") if verdicts[each]]
    assert [int(number) for number in re.findall("[1-9][0-9]*", said)] == [len(found), *counted] * (len(found) > 1)


def test_a_summary_counts_claims_and_names_no_verdict_that_none_has():
    def found(*verdicts: str) -> list:
        return [SimpleNamespace(verdict=verdict) for verdict in verdicts]

    assert summary([]) == ""
    assert summary(found("contradicted")) == "The one claim is contradicted."
    assert summary(found("holds", "holds")) == "Of 2 claims, 2 hold."
    assert summary(found("undecided", "contradicted")) == "Of 2 claims, 1 is contradicted and 1 is undecided."
    several = found(*["holds"] * 5, *["contradicted"] * 2, *["undecided"] * 6, "not measured")
    said = "Of 14 claims, 5 hold, 2 are contradicted, 6 are undecided and 1 was not measured."
    assert summary(several) == said
