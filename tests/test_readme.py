"""What the Markdown files say is so: links, params, numbers, checksums, and the drawing of the DAG."""

import json
import re
import shutil
from collections import Counter
from itertools import chain, product
from pathlib import Path

import pandas as pd
import pytest
import yaml
from plan.studies import plan_study
from rule_files import FILES, rules_of

from deit.store.frames import read_frame
from deit.tables.each.soft import said
from deit.tables.titles import title

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDING = (ROOT / "docs/adding.md").read_text(encoding="utf-8")
OWN_DATA = (ROOT / "docs/own-data.md").read_text(encoding="utf-8")
TROUBLE = (ROOT / "docs/trouble.md").read_text(encoding="utf-8")
WALK = (ROOT / "docs/walk.md").read_text(encoding="utf-8")
WORDS = 1600
"""Of README, at most: it says what this is and how to begin, docs/ says the rest."""
MARKDOWN = [
    *ROOT.glob("*.md"),
    *(path for part in ("workflow", "src", "tests", "docs") for path in (ROOT / part).rglob("*.md")),
]
PUBLISHED = ROOT / "reports/published"
REPORT = PUBLISHED / "cifar10-small"
"""The study of the first screen."""
OTHERS = [PUBLISHED / name for name in ("fashion-full", "fashion-ablation")]


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path):
    links = re.findall(r"\[[^\]\n]*\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if not re.match(r"\w+:|#", link)]
    assert files
    assert [file for file in files if not (path.parent / file).exists()] == []


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_heading_finds_it(path):
    links = re.findall(r"\]\(([\w./-]*\.md|)#([^)\s]+)\)", path.read_text(encoding="utf-8"))
    assert [
        f"{file}#{name}" for file, name in links if name not in headings(path.parent / file if file else path)
    ] == []


def headings(path: Path) -> set[str]:
    """As links name them: in small letters, without punctuation."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}


def test_readme_is_short():
    assert len(README.split()) <= WORDS


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".ipynb")} - {"README.md"}
    assert pages == {link for link in re.findall(r"\]\(([^)]+)\)", index) if "/" not in link}


# Params ---------------------------------------------------------------------------------------------------------------

SNIPPETS = dict(re.findall(r"```yaml\n# params/(\w+)\.yaml.*?\n(.*?)```", ADDING, re.DOTALL))
OWN = dict(re.findall(r"```yaml\n# params/(\w+)\.yaml.*?\n(.*?)```", OWN_DATA, re.DOTALL))


@pytest.fixture(scope="module")
def fashion():
    return plan_study("fashion", ROOT / "params")


def test_there_are_snippets_for_a_student_a_teacher_a_single_run_and_longer_ones():
    keys = {name: set(yaml.safe_load(text)) for name, text in SNIPPETS.items()}
    assert keys.keys() == {"medium", "resnet", "variant", "longer"}


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_is_a_valid_study_with_runs_of_its_own(name, fashion, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    shutil.copy("params/fashion.yaml", tmp_path)
    (tmp_path / f"{name}.yaml").write_text(SNIPPETS[name], encoding="utf-8")
    assert yaml.safe_load(SNIPPETS[name])["extends"] == "fashion"
    assert set(plan_study(name, tmp_path).runs.values()) - set(fashion.runs.values())


def test_a_study_of_own_images_is_valid_and_of_these_images_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    ((name, text),) = OWN.items()
    assert yaml.safe_load(text)["extends"] == "imagenet"
    shutil.copy("params/imagenet.yaml", tmp_path)
    (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    plan = plan_study(name, tmp_path)
    assert (
        plan.runs
        and plan.settings.training_data("").name == name
        and list(plan.settings.evaluation_sets("")) == ["val"]
    )


def test_a_new_student_written_into_the_study_trains_nothing_but_itself(fashion, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    shutil.copy("params/fashion.yaml", tmp_path)
    (tmp_path / "medium.yaml").write_text(SNIPPETS["medium"], encoding="utf-8")
    after = plan_study("medium", tmp_path)
    trained = {job.name for digest, job in after.jobs.items() if digest not in fashion.jobs and job.kind == "train"}
    assert len(trained) == 4 * 3 and all(name.startswith("students/deit-m/") for name in trained)
    assert not any(job.kind == "cache" for digest, job in after.jobs.items() if digest not in fashion.jobs)


def test_the_checksums_are_those_that_the_study_declares():
    declared = yaml.safe_load((ROOT / "params/fashion.yaml").read_text(encoding="utf-8"))["data"]
    splits = [declared["training"], declared["evaluation"]["test"]["split"]]
    expected = {(split["files"][part], split["md5"][part]) for split in splits for part in ("images", "labels")}
    text = (ROOT / "workflow/resources/fashion-mnist/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[([\w.-]+)\].*`([0-9a-f]{32})` \|$", text, re.MULTILINE)) == expected


# The drawing ----------------------------------------------------------------------------------------------------------


def closure(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """All pairs (before, after) that a set of edges implies."""
    while more := {(a, d) for (a, b), (c, d) in product(edges, edges) if b == c} - edges:
        edges = edges | more
    return edges


def test_the_drawing_is_the_plan(fashion):
    """Every rule that makes something, and the same order of rules as in the plan: no more, no less."""
    rules = {rule.section: rule.name for rule in rules_of(*FILES)}
    planned = set()
    for job in fashion.jobs.values():
        for folder in chain(*job.execution.folders.values(), job.execution.after):
            planned.add((rules[folder.split("/")[2]], rules[job.name.split("/")[0]]))
    drawing = re.search(r"```mermaid\n(.*?)```", WALK, re.DOTALL)[1]
    lines = [line.split(" --> ") for line in drawing.splitlines() if "-->" in line]
    drawn = {(a.strip(), b.strip()) for line in lines for a, b in zip(line, line[1:], strict=False)}
    assert closure(drawn) == closure(planned)


ROOMS = re.search(
    r"^```text\n(Snakefile.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)[1]


@pytest.mark.parametrize("house", ["workflow", "src/deit"])
def test_the_rooms_are_the_folders(house):
    drawn = re.search(rf"^{house}/.*\n((?:  .*\n)*)", ROOMS, re.MULTILINE)[1]
    folders = {path.parent.relative_to(ROOT / house).parts[0] for path in (ROOT / house).glob("*/*")}
    assert set(re.findall(r"^  (\w+)/", drawn, re.MULTILINE)) == folders - {"__pycache__"}


@pytest.mark.parametrize("room", ["study", "plan", "cost", "call", "jobs", "commands"])
def test_a_room_imports_what_is_drawn(room):
    texts = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow" / room).glob("*.py"))
    rooms = r"^ *(?:from|import) (study|plan|cost|call|jobs|commands|deit)\b"
    imported = set(re.findall(rooms, texts, re.MULTILINE)) - {room}
    drawn = re.search(rf"^  {room}/.*; imports (.*)$", ROOMS, re.MULTILINE)[1].replace("src/deit", "deit")
    assert set(drawn.split(", ")) == imported


def test_the_table_of_files_names_every_room_of_the_workflow_with_code():
    table = WALK.partition("| where | what |")[2].partition("\n\n")[0]
    files = (path for path in (ROOT / "workflow").glob("*/*") if path.suffix in (".py", ".smk", ".ipynb"))
    rooms = {str(path.parent.relative_to(ROOT)) for path in files}
    assert [room for room in rooms if f"(../{room})" not in table] == []


# The walk -------------------------------------------------------------------------------------------------------------

DEFINITION = r"^ *(?:def|class|rule|use rule \w+ as) (\w+)\b"
STEPS = re.findall(r"^\d\. (.*?)(?=^\d\. |^$)", WALK, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.partition("**")[2].partition(".**")[0])
def test_a_step_of_the_walk_names_what_is_in_the_rooms_that_it_names(step):
    rooms = [ROOT / "docs" / link for link in re.findall(r"\]\((\.\./[^)]+)\)", step)]
    files = [path for room in rooms for path in room.rglob("*") if path.suffix in (".py", ".smk")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    defined = set(chain.from_iterable(re.findall(DEFINITION, text, re.MULTILINE) for text in texts))
    named = re.findall(r"`(\w+|\w+\.py)`", step)
    assert named and rooms
    assert [name for name in named if name not in defined | {path.name for path in files}] == []


# Trouble --------------------------------------------------------------------------------------------------------------

FOREIGN = (
    "profile directory given",
    "Directory cannot be locked",
    "CUDA out of memory",
    "No space left",
    "No file hash",
    "No suitable partition",
    "Requested node configuration",
)
"""How messages of other programs begin."""


def test_what_the_page_of_trouble_quotes_is_said_by_the_code():
    """Between what stands for names and numbers, word by word."""
    files = [path for house in ("workflow", "src") for path in (ROOT / house).rglob("*.py")]
    code = "".join(re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8")) for path in files)
    cells = re.findall(r"^\| ([^|]*`[^|]*) \|", TROUBLE, re.MULTILINE)
    quoted = [quote for cell in cells for quote in re.findall(r"`([^`]+)`", cell) if " " in quote]
    parts = [part.strip() for quote in quoted if not quote.startswith((*FOREIGN, "--")) for part in quote.split("…")]
    assert len(parts) > 15
    assert [part for part in parts if part not in code] == []


# Ours beside the paper ------------------------------------------------------------------------------------------------

CELL = re.compile(r"(?P<ours>\d+\.\d+) ± (?P<half>\d+\.\d+)(?: \((?P<paper>\d+\.\d+)\))?")
"""72.1 ± 0.3 (72.2): ours, half of its 95 % interval, the paper's where it has the cell."""


def table_3() -> list[list[str]]:
    """The cells of the table between the markers, without bold, head and rule included."""
    block = re.search(r"<!-- table 3: begin -->\n(.*?)<!-- table 3: end -->", README, re.DOTALL)[1]
    return [
        [text.strip() for text in line.replace("*", "").strip("|").split("|")] for line in block.strip().splitlines()
    ]


def assert_rounds(text: str, value: float, what: str) -> None:
    decimals = len(text.partition(".")[2])
    assert abs(float(text) - value) <= 0.50001 * 10**-decimals, f"{what}: {text} in README.md, {value} in the report"


def test_the_table_is_the_published_reports():
    """Every cell of it, none left out."""
    published = read_frame(REPORT / "table_3.csv", text=["row", "column"])
    published = published[published["row"] != "token_fusion_logits"]
    (_, *head), _, *lines = table_3()
    assert head == [title(column) for column in dict.fromkeys(published["column"])]
    shown = {(label, column): text for label, *cells in lines for column, text in zip(head, cells, strict=True)}
    assert len(shown) == len(published)
    for cell in published.itertuples():
        what = f"{title(cell.row)}, {title(cell.column)}"
        text = CELL.fullmatch(shown[title(cell.row), title(cell.column)])
        assert text, f"{what}: write 72.1 ± 0.3 (72.2), or without the paper's 72.1 ± 0.3"
        assert_rounds(text["ours"], cell.ours, what)
        assert_rounds(text["half"], (cell.high - cell.low) / 2, what)
        assert bool(text["paper"]) == pd.notna(cell.paper), what
        if text["paper"]:
            assert_rounds(text["paper"], cell.paper, what)


SOFT = README.partition("<!-- soft: begin -->")[2].partition("## ")[0]
SOFT_REPORT = PUBLISHED / "cifar10-soft"


def test_the_rows_of_soft_distillation_are_the_published_reports():
    published = read_frame(SOFT_REPORT / "soft.csv", text=["row", "column"])
    called = {said(*row.split("/")) if "/" in row else title(row): cell
              for row, cell in published.set_index("row").iterrows()}  # fmt: skip
    shown = re.findall(r"^\| (.*?) \| \**(\d+\.\d)\** ± (\d+\.\d) \|$", SOFT, re.MULTILINE)
    assert len(shown) == SOFT.count(" ± ") > 4
    for name, ours, half in shown:
        assert_rounds(ours, called[name]["ours"], name)
        assert_rounds(half, (called[name]["high"] - called[name]["low"]) / 2, name)


def test_the_reductions_stand_in_the_order_of_the_teachers_weight():
    """docs/report.md: weight over that of the labels, a tenth of it for the mean over ten classes; by the report."""
    page = (ROOT / "docs/report.md").read_text(encoding="utf-8")
    published = read_frame(SOFT_REPORT / "soft.csv", text=["row", "column"]).set_index("row")["ours"]
    head, _, ratios, accuracies = re.search(r"^\| \| mean, .*\n(?:\|.*\n){3}", page, re.MULTILINE)[0].splitlines()
    columns = re.findall(r"(mean|sum), (?:λ )?(0\.\d)", head)
    shown = [[cell.strip() for cell in line.split("|")[2:-1]] for line in (ratios, accuracies)]
    assert len(columns) == 6 and sorted(map(float, shown[0])) == list(map(float, shown[0]))
    for (kind, weight), ratio, accuracy in zip(columns, *shown, strict=True):
        own = float(weight) / (1 - float(weight)) / (10 if kind == "mean" else 1)
        assert float(ratio) == pytest.approx(own, rel=0.1)
        row = f"{'averaged' if kind == 'mean' else 'summed'}/{weight}/3"
        assert_rounds(accuracy, published[row], row)
    assert_rounds(re.search(r"labels alone ([\d.]+)", accuracies)[1], published["labels"], "labels")
    assert_rounds(re.search(r"hard ([\d.]+)", accuracies)[1], published["hard"], "hard")


def test_what_is_said_of_soft_distillation_is_the_verdicts():
    """Each claim's mean with its interval, from the better side, then the verdict."""
    words = {"holds": "it *holds*", "contradicted": "*contradicted*", "undecided": "*undecided*"}
    for claim in json.loads((SOFT_REPORT / "claims.json").read_text(encoding="utf-8")):
        mean = claim["comparisons"][0]
        numbers = [mean["ours"], mean["low"], mean["high"]]
        if mean["ours"] < 0:
            numbers = [-mean["ours"], -mean["high"], -mean["low"]]
        ours, low, high = (f"{number:.1f}".replace("-", "−") for number in numbers)
        said_of_it = re.search(rf"{ours}(?: points)?\s+\[{low}, {high}\][^[*]*(\*\w+\*)", SOFT)
        assert said_of_it and said_of_it[1] in words[claim["verdict"]], (claim["key"], ours, low, high)


def test_the_dial_is_the_published_reports():
    """docs/report.md: teachers and students, and the claim's mean with its interval, from the better side."""
    page = (ROOT / "docs/report.md").read_text(encoding="utf-8").partition("**cifar10-dial**")[2].partition("## ")[0]
    published = read_frame(PUBLISHED / "cifar10-dial/dial.csv", text=["row", "column"]).set_index(["column", "row"])
    rows = ["resnet-1", "resnet-2", "resnet-4", "resnet-10", "resnet-28", "deit-s"]
    for column, head in (("teacher", "the teacher"), ("pretrained", "its student")):
        shown = re.search(rf"^\| {head}, % \|(.*)\|$", page, re.MULTILINE)[1].split("|")
        for row, text in zip(rows, shown, strict=True):
            assert_rounds(text.strip(), published.loc[(column, row), "ours"], f"{head}, {row}")
    (claim,) = json.loads((PUBLISHED / "cifar10-dial/claims.json").read_text(encoding="utf-8"))
    (one,) = claim["comparisons"]
    ours, *ends = re.search(r"by ([\d.]+) points \[(−?[\d.]+), (−?[\d.]+)\]", page).groups()
    sign = 1 if one["ours"] > 0 else -1
    assert_rounds(ours, sign * one["ours"], "the claim")
    for text, value in zip(ends, sorted(sign * one[end] for end in ("low", "high")), strict=True):
        assert_rounds(text.replace("−", "-"), value, "its interval")
    assert f"*{claim['verdict']}*" in page


def test_the_transfer_is_the_published_reports():
    page = (
        (ROOT / "docs/report.md").read_text(encoding="utf-8").partition("**fashion-transfer**")[2].partition("## ")[0]
    )
    published = read_frame(PUBLISHED / "fashion-transfer/transfer.csv", text=["row", "column"])
    published = published[published["column"] == "cifar-10"].set_index("row")
    for head, suffix in (("after Fashion-MNIST", ""), ("from scratch", "-scratch")):
        shown = re.search(rf"^\| {head} \|(.*)\|$", page, re.MULTILINE)[1].split("|")
        for name, text in zip(("regnety-16gf", "deit-s", "deit-s-token"), shown, strict=True):
            cell = published.loc[name + suffix]
            ours, *half = text.strip().split(" ± ")
            assert_rounds(ours, cell["ours"], name + suffix)
            assert bool(half) == (cell["n"] > 1)
            for number in half:
                assert_rounds(number, (cell["high"] - cell["low"]) / 2, name + suffix)


FINDINGS = README.partition("<!-- verdicts -->")[2].partition("## Two commands")[0]


@pytest.mark.parametrize(("number", "report"), enumerate([REPORT, *OTHERS]))
def test_the_first_screen_counts_the_verdicts_of_the_published_reports(report, number):
    verdicts = Counter(
        finding["verdict"] for finding in json.loads((report / "claims.json").read_text(encoding="utf-8"))
    )
    counts = re.findall(r"(\d+) holds?, (\d+)\s+are contradicted(?:,| and)\s+(\d+)\s+(?:are|is) undecided", FINDINGS)[
        number
    ]
    assert [int(count) for count in counts] == [verdicts[v] for v in ("holds", "contradicted", "undecided")]


def test_every_interval_of_the_first_screen_is_one_of_a_published_report():
    """Rounded as there; a loss may be told as a positive number."""
    shown = set()
    for report in (REPORT, *OTHERS):
        for finding in json.loads((report / "claims.json").read_text(encoding="utf-8")):
            for one in finding["comparisons"]:
                shown |= {(f"{one['low']:.1f}", f"{one['high']:.1f}"), (f"{-one['high']:.1f}", f"{-one['low']:.1f}")}
    told = re.findall(r"\[(−?[\d.]+), (−?[\d.]+)\]", FINDINGS)
    assert len(told) > 2
    assert [ends for ends in told if tuple(end.replace("−", "-") for end in ends) not in shown] == []
