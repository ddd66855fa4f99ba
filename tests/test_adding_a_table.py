"""CONTRIBUTING's recipe "A table", followed to the letter in a copy of the project: one file, and a key of params."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic_study as study
import yaml
from plan.studies import plan_study

from deit.store.frames import read_frame
from deit.tables.recipes import Cell

ROOT = Path(__file__).parents[1]
PLAN = """
import json, sys
sys.path[:0] = ["src", "workflow"]
from plan.studies import plan_study
print(json.dumps([{job.name: digest for digest, job in plan_study(name).jobs.items()} for name in sys.argv[1:]]))
"""
PAGE = """
import sys
sys.path[:0] = ["src", "workflow"]
from study.params_page import page
print(page())
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with the table of CONTRIBUTING, and a study that asks for nothing else."""
    root = tmp_path_factory.mktemp("project")
    for folder in ("src", "workflow", "params"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "resources"))
    (root / "workflow/resources").symlink_to(ROOT / "workflow/resources")
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### A table")[2]
    file, key = re.findall(r"```(?:python|yaml)\n(.*?)```", recipe, flags=re.DOTALL)[:2]
    (root / "src/deit/tables/each/baselines.py").write_text(file, encoding="utf-8")
    others = plan_study("smoke").study.tables.asked()
    layer = {"extends": "smoke", "tables": dict.fromkeys(others) | yaml.safe_load(key)["tables"]}
    (root / "params/mine.yaml").write_text(yaml.safe_dump(layer), encoding="utf-8")
    return root


def python(project: Path, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=project, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_runs_are_planned_and_no_other_result_gets_another_name(project):
    mine, smoke = json.loads(python(project, PLAN, "mine", "smoke"))
    assert [name for name in mine if name.startswith("tables/")] == ["tables/baselines"]
    assert {name for name in mine if name.startswith("students/")} == {
        f"students/{model}/labels/15/seed0" for model in ("deit-ti", "deit-b")
    }
    assert smoke == {job.name: digest for digest, job in plan_study("smoke").jobs.items()}


def test_its_keys_are_on_the_page_of_params(project):
    assert "| `tables.baselines.students` | list of: text | *required* | Its rows. |" in python(project, PAGE)


def test_it_is_rendered(project, tmp_path):
    runs = {model: study.seeds(model, "labels") for model in ("deit-ti", "deit-s")}
    accuracies = dict.fromkeys(runs["deit-ti"], {"class": 70.0}) | dict.fromkeys(runs["deit-s"], {"class": 75.0})
    sheet = study.sheet(tmp_path, "all", accuracies)
    wanted = [Cell(row=row, column="accuracy", runs=group, evaluation_set="test") for row, group in runs.items()]
    recipe = study.table_recipe("baselines", wanted)
    path, job = study.write_recipe(tmp_path, "table", "tables/baselines", recipe, [sheet])
    output = tmp_path / f"baselines-{job.digest}"
    command = [project / "workflow/jobs/render.py", "--recipe", path, "--predictions", sheet, "--output", output]
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=project,
        env=os.environ | {"PYTHONPATH": f"{project}/src:{project}/workflow"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cells = read_frame(output / "baselines.csv", text=["row", "column"])
    assert cells["ours"].tolist() == pytest.approx([70.0, 75.0]) and cells["paper"].isna().all()
    html = (output / "baselines.html").read_text(encoding="utf-8")
    assert "What a student reaches without a teacher." in html and "DeiT-Ti" in html
