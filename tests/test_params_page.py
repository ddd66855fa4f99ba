"""docs/params.md describes every key and tells truly what a change makes anew; each params file says what it yields."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from plan.studies import plan_study
from study.params_page import page
from study.study import Study

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/params.md").read_text(encoding="utf-8")
SCHEMA = Study.model_json_schema()
STUDIES = sorted(path.stem for path in ROOT.glob("params/*.yaml") if path.stem != "study")
PHASES = "(teachers|students|adaptation|finetuning)"


def test_the_page_is_up_to_date():
    assert page() == PAGE, "run: python workflow/study/schema.py"


def test_every_key_is_described():
    types = {"Study": SCHEMA, **SCHEMA["$defs"]}
    fields = {f"{name}.{key}": field for name, kind in types.items() for key, field in kind["properties"].items()}
    assert len(fields) > 150
    assert [name for name, field in fields.items() if not field.get("description")] == []


# Keys of the params files ---------------------------------------------------------------------------------------------

ROWS = dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", PAGE, re.MULTILINE))


def described(path: tuple[str, ...]) -> bool:
    """Whether the page has a row for a key, or for one above it whose values are the user's own."""
    for key, text in ROWS.items():
        steps = key.split(".")
        below = path[len(steps) :]
        if len(steps) > len(path) or not all(map(fits, steps, path)):
            continue
        if not below or not text.startswith(("keys", "name → keys")):
            return True
        same = re.search(r"Keys: as \[`([\w.]+)`\]", text)
        if same and described((*same[1].split("."), *below[text.startswith("name") :])):
            return True
    return False


def fits(step: str, part: str) -> bool:
    return step in ("NAME", part) or (step == "PHASE" and bool(re.fullmatch(PHASES, part)))


def paths(content: object, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Every key that leads to a value, from the top; null takes a key away."""
    if not isinstance(content, dict) or not content:
        return {above}
    return {path for key, value in content.items() if value is not None for path in paths(value, (*above, key))}


@pytest.mark.parametrize("study", STUDIES)
def test_every_key_of_a_params_file_is_in_the_page(study):
    keys = paths(yaml.safe_load((ROOT / f"params/{study}.yaml").read_text(encoding="utf-8"))) - {("extends",)}
    assert keys and [".".join(path) for path in sorted(keys) if not described(path)] == []


@pytest.mark.parametrize("path", ["views.erase", "students.view", "execution.teachers.gpu", "models.deit-ti.tim", "x"])
def test_a_key_that_no_file_may_have_is_not_in_the_page(path):
    assert not described(tuple(path.split(".")))


def test_the_links_of_the_page_lead_to_its_headings():
    headings = {re.sub(r"[`,]", "", text).replace(" ", "-") for text in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings


# What a change makes anew ---------------------------------------------------------------------------------------------

TRAININGS = {"teachers", "adapted", "students", "finetuned"}
SHOWN = {"tables", "report"}
EDITS = {
    "execution: {default: {threads: 2}, students: {minutes: 9}}": set(),
    "stored_views: false": set(),
    "teacher_logits: {chunk_epochs: 1}": {"teacher_logits"},
    "teacher_logits: {precision: bf16}": {"teacher_logits", "students", "finetuned", "predictions", "tokens"} | SHOWN,
    "{title: x, description: x}": {"report"},
    "tables: {table_3: {caption: x, decimals: 2}}": SHOWN,
    "data: {evaluation: {test: {title: x, paper: real}}}": SHOWN,
    "evaluation: {crop: 0.9}": {"predictions", "tokens"} | SHOWN,
    "throughput: {repeats: 2}": {"throughput"} | SHOWN,
    "data: {evaluation: {corrupted: null}}": {"data", "predictions", "tokens"} | SHOWN,
    "data: {primary: corrupted}": {"tokens"} | SHOWN,
    "adaptation: {epochs: 2}": {"views", "adapted", "teacher_logits", "finetuned", "predictions"} | SHOWN,
    "views: {flip: 0.4}": {"views", "teacher_logits", "predictions", "tokens"} | TRAININGS | SHOWN,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("params")
    shutil.copy(ROOT / "params/fashion.yaml", folder)
    return folder


def names(folder: Path, text: str) -> dict[str, str]:
    """Name of each planned job of a study that extends fashion -> digest."""
    text = text if text.startswith("{") else "{" + text + "}"
    (folder / "edited.yaml").write_text(yaml.safe_dump({"extends": "fashion"} | yaml.safe_load(text)), encoding="utf-8")
    return {job.name: digest for digest, job in plan_study("edited", folder).jobs.items()}


@pytest.mark.parametrize("edit", EDITS)
def test_a_change_renames_what_the_page_says(edit, folder, monkeypatch):
    monkeypatch.chdir(ROOT)
    before, after = names(folder, "{}"), names(folder, edit)
    assert {name.split("/")[0] for name in after if after[name] != before.get(name)} == EDITS[edit]


def test_where_the_images_lie_renames_nothing(folder, monkeypatch):
    monkeypatch.chdir(ROOT)
    root = ROOT / "workflow/resources/fashion-mnist"
    assert names(folder, f"data: {{root: {root}}}") == names(folder, "{}")


# What a params file says of itself ------------------------------------------------------------------------------------


@pytest.mark.parametrize("study", STUDIES)
def test_a_params_file_opens_with_what_it_yields_on_what_and_in_how_long(study, monkeypatch):
    """Its numbers of jobs and trainings are the plan's."""
    monkeypatch.chdir(ROOT)
    head = re.match(r"(#.*\n)+", Path(f"params/{study}.yaml").read_text(encoding="utf-8"))[0]
    assert re.search(r"^# Yields .*\n(#   .*\n)*# On .*\n(#   .*\n)*# In ", head, re.MULTILINE), head
    jobs = plan_study(study).jobs.values()
    planned = {"jobs": len(jobs), "trainings": sum(job.kind == "train" for job in jobs)}
    said = re.findall(r"\b(\d+) (jobs|trainings)\b", head)
    assert [(number, what) for number, what in said if int(number) != planned[what]] == []
