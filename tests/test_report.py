"""Tables and the page, rendered for real from a study that nobody trained."""

import json
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
import synthetic_study as study
from in_process import refusal_of
from jobs import report_page

from deit.store.job import Job
from deit.store.results import read_result, write_provenance
from deit.tables.recipes import Report, Table

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "workflow" / "notebooks").glob("*.ipynb"))


def run(job: str, *arguments: str | Path) -> str:
    """What a command of jobs/ says that refuses; empty where it ends well."""
    return refusal_of(import_module(f"jobs.{job}").main, ROOT, *arguments)


class Published:
    """A study with its tables rendered and its report published."""

    def __init__(self, root: Path):
        self.root = root / "results" / "demo"
        self.output = root / "reports" / "demo"
        self.results = study.build(self.root)
        self.tables = [self.table(name, recipe) for name, recipe in study.tables().items()]
        self.plan()
        self.recipe = self.report_recipe()
        self.output.mkdir(parents=True)
        for stale in ("provenance-0000000000.json", "table_9.csv"):
            (self.output / stale).write_text("old", encoding="utf-8")
        (self.output / "notes.txt").write_text("somebody's", encoding="utf-8")
        self.publish(self.tables)

    def table(self, name: str, recipe: Table) -> Path:
        sections = {"token_analysis": ["tokens"], "table_1": ["throughput"]}.get(name, ["predictions"])
        sections = ["predictions", "throughput"] if name in ("table_5", "accuracy_throughput") else sections
        folders = [folder for section in sections for folder in self.results[section]]
        path, job = study.write_recipe(self.root, "table", f"tables/{name}", recipe, folders)
        output = self.root / f"tables/{name}-{job.digest}"
        flags = [part for section in sections for part in (f"--{section}", *self.results[section])]
        assert not run("render", "--recipe", path, *flags, "--output", output)
        return output

    def plan(self) -> None:
        lines = ["phase,kind,name,digest,folder"]
        for folder in [*(f for section in self.results.values() for f in section), *self.tables]:
            job = Job.model_validate_json((folder / "recipe.json").read_text(encoding="utf-8"))
            section, _, name = job.name.partition("/")
            lines.append(f"{section},{job.kind},{name},{job.digest},{folder}")
        lines.append(f"teacher_logits,cache,pruned,ffffffffff,{self.root}/teacher_logits/pruned-ffffffffff")
        (self.root / "plan.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def report_recipe(self) -> Path:
        page = Report(
            study="demo", title="A <demo>", description="Nothing was trained.", data="synthetic",
            evaluation_sets={"test": "test images"}, seeds={"deit-ti": [0, 1]}, streams="shared",
        )  # fmt: skip
        path, job = study.write_recipe(self.root, "report", "report", page, self.tables)
        self.job = job
        return path

    def publish(self, tables: list[Path]) -> None:
        sections = ("runs", "predictions", "throughput", "tokens")
        read = [part for section in sections for part in (f"--{section}", *self.results[section])]
        assert not run("report", "--recipe", self.recipe, "--tables", *tables, *read, "--output", self.output)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Published:
    return Published(tmp_path_factory.mktemp("project"))


def test_a_rendered_table_has_all_its_files(published):
    for name, extra in (("table_3", set()), ("token_analysis", {".png", ".svg"})):
        (folder,) = published.root.glob(f"tables/{name}-*")
        found = {path.suffix for path in folder.glob(f"{name}.*")}
        assert found == {".ipynb", ".html", ".csv", ".tex"} | extra
        assert (folder / "provenance.json").exists()


def test_an_executed_notebook_shows_the_table_and_no_temporary_folder(published):
    (path,) = published.root.glob("tables/table_3-*/table_3.ipynb")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    text = path.read_text(encoding="utf-8")
    assert "74.5" in text and ".partial" not in text and "papermill" not in notebook.metadata
    assert "± 3.7" in path.with_suffix(".html").read_text(encoding="utf-8")


def test_a_table_rendered_twice_is_the_same_files(published, tmp_path):
    (first,) = published.root.glob("tables/token_analysis-*")
    recipe = published.root / "recipes" / f"{first.name.rpartition('-')[2]}.json"
    second = tmp_path / first.name
    assert not run("render", "--recipe", recipe, "--tokens", *published.results["tokens"], "--output", second)
    for path in first.glob("token_analysis.*"):
        ours = path.read_bytes().replace(str(first).encode(), str(second).encode())
        assert ours == (second / path.name).read_bytes(), path.name


def test_render_refuses_inputs_that_were_not_planned(published):
    (table,) = published.root.glob("tables/token_analysis-*")
    recipe = published.root / "recipes" / f"{table.name.rpartition('-')[2]}.json"
    sheets, tokens = published.results["predictions"], published.results["tokens"]
    stranger = run("render", "--recipe", recipe, "--tokens", *tokens, "--predictions", sheets[0], "--output", table)
    assert "was not planned with this result" in stranger
    missing = run("render", "--recipe", recipe, "--tokens", tokens[0], "--output", table)
    assert "is missing" in missing
    assert (table / "token_analysis.csv").exists()


def test_the_page_is_complete_and_stands_alone(published):
    page = (published.output / "index.html").read_text(encoding="utf-8")
    assert "A &lt;demo&gt;" in page
    for table in study.tables():
        assert f'id="{table}"' in page
    assert page.count("data:image/svg+xml;base64,") == 3  # tokens, accuracy over throughput, training curves
    assert "<script" not in page and 'src="http' not in page and page.count("<link") == 1  # an empty icon
    assert "All seeds of a run see the same views" in page
    assert "<b>+4.3</b> [+3.1, +5.5] <i>paper +2.1</i>" in page and "undecided" in page and "abc123" in page
    assert "standard error" not in page
    assert "secret-host" not in page


def test_every_link_of_the_page_leads_to_a_file(published):
    import re

    links = re.findall(r'href="([^"]+)"', (published.output / "index.html").read_text(encoding="utf-8"))
    assert len(links) > 20
    files = [link for link in links if not link.startswith(("#", "data:"))]
    assert len(files) > 20 and [link for link in files if not (published.output / link).exists()] == []


def test_old_files_go_and_foreign_files_stay(published):
    names = {path.name for path in published.output.iterdir()}
    assert "table_9.csv" not in names and "notes.txt" in names
    assert [name for name in names if name.startswith("provenance-")] == [f"provenance-{published.job.digest}.json"]
    assert "secret-host" not in "".join(path.read_text(encoding="utf-8") for path in published.output.glob("*.json"))


def test_provenance_sums_the_time_of_each_phase(published):
    made = json.loads((published.output / f"provenance-{published.job.digest}.json").read_text(encoding="utf-8"))
    phases = {phase["phase"]: phase for phase in made["phases"]}
    assert phases["teachers"] == {"phase": "teachers", "jobs": 4, "seconds": 4 * 12.5}
    assert phases["teacher_logits"]["seconds"] == 0  # pruned
    assert made["streams"] == "shared" and made["runs"] == len(published.results["runs"])
    assert "2.0" in made["versions"]["torch"]


def test_metrics_stand_beside_the_page(published):
    metrics = json.loads((published.output / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["table_3"]["token_fusion"]["deit-b-finetuned"] == 84.2
    assert metrics["table_2"]["deit-b"]["teacher"] == 77.0
    assert metrics["token_analysis"]["layer_4"]["deit-ti/token"] == 0.9


def test_the_report_refuses_a_table_of_another_plan(published):
    stranger = published.results["tokens"][0]
    said = run("report", "--recipe", published.recipe, "--tables", stranger, "--output", published.output)
    assert f"{stranger}: report was not planned with this result, tokens/" in said


@pytest.mark.parametrize("flag", ["runs", "given", "data", "predictions", "throughput", "tokens"])
def test_the_report_refuses_whatever_is_not_of_its_plan(published, tmp_path, flag):
    stranger = study.trained(tmp_path, "deit-ti/soft/16/seed9")
    words = ["--tables", *published.tables, f"--{flag}", stranger, "--output", published.output]
    before = sorted(path.name for path in published.output.iterdir())
    said = run("report", "--recipe", published.recipe, *words)
    assert f"{stranger}: report was not planned with this result, students/deit-ti" in said
    assert sorted(path.name for path in published.output.iterdir()) == before


def test_a_damaged_prediction_is_refused_and_the_former_report_stays(published):
    path = next(published.results["predictions"][0].glob("**/test.parquet"))
    before, content = sorted(path.name for path in published.output.iterdir()), path.read_bytes()
    path.write_bytes(content[:-9])
    try:
        sections = ("runs", "predictions", "throughput", "tokens")
        read = [part for section in sections for part in (f"--{section}", *published.results[section])]
        words = ["--recipe", published.recipe, "--tables", *published.tables, *read, "--output", published.output]
        said = run("report", *words)
    finally:
        path.write_bytes(content)
    assert f"{path}: damaged" in said
    assert sorted(path.name for path in published.output.iterdir()) == before


def test_claims_stand_beside_the_page_as_data(published):
    text = (published.output / "claims.json").read_text(encoding="utf-8")
    found = {claim["key"]: claim for claim in json.loads(text)}
    hard, mean = found["hard_over_none"], found["hard_over_none"]["comparisons"][0]
    assert "NaN" not in text and not (published.output / "findings.json").exists()
    assert (hard["table"], hard["unit"], hard["verdict"]) == ("table_3", "points", "holds")
    assert hard["rule"] == "mean over sizes: above 0" and "Holm’s correction for 13 claims on distill" in hard["test"]
    assert mean["decides"] and mean["n"] == 2 and round(mean["ours"], 6) == 4.3 and mean["low"] < 4.3 < mean["high"]
    assert mean["places"] == [] and hard["comparisons"][1]["places"] == [["hard", "deit-ti"], ["labels", "deit-ti"]]
    runs = {f"{model}/{how}/16/seed{seed}" for model in ("deit-ti", "deit-s", "deit-b")
            for how in ("labels", "hard-from-regnety-16gf") for seed in (0, 1)}  # fmt: skip
    assert set(hard["runs"]) == runs
    folders = {folder.name.rpartition("-")[2] for folder in published.results["runs"]}
    assert set(hard["runs"].values()) <= folders


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3 s"), (119.6, "2 min 00 s"), (3900, "1 h 05 min")])
def test_durations(seconds, text):
    assert report_page.duration(seconds) == text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_short_and_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 12
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1


def test_the_page_tells_of_every_attempt_and_of_gpus(published):
    """Last, as it changes what the others see."""
    folder = published.results["throughput"][0]
    record = read_result(folder).record
    earlier = record | {"began": "2025-12-31T08:00:00Z", "machine": "an older one", "deterministic_kernels": False}
    earlier |= {"versions": {"torch": "1.9"}, "git_commit": "def456", "seconds": 2.5}
    gpus = [{"uuid": "1", "name": "H200", "driver": "5"}, {"uuid": "2", "name": "H200", "driver": "5"}]
    now = {"gpus": gpus, "began": earlier["began"], "deterministic_kernels": True, "earlier": [earlier]}
    write_provenance(folder, {key: value for key, value in record.items() if key != "files"} | now)
    published.publish(published.tables)
    made = json.loads((published.output / f"provenance-{published.job.digest}.json").read_text(encoding="utf-8"))
    assert {"x86_64, 2 cores", "x86_64, 2 cores, 2 × H200", "an older one"} < set(made["machines"])
    assert {"abc123", "def456"} < set(made["commits"]) and {"2.0", "1.9"} < set(made["versions"]["torch"])
    assert made["elapsed_seconds"] >= 26 * 3600, "since the first attempt"
    page = (published.output / "index.html").read_text(encoding="utf-8")
    assert "2 × H200" in page and "1 of the results took more than one attempt" in page
    assert "Any, in 1 attempt, by <code>deterministic: false</code>" in page
