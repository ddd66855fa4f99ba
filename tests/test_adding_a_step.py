"""CONTRIBUTING's recipe "A step of the DAG", followed to the letter in a clone: planned, and run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from plan.studies import plan_study
from smoke_study import ROOT, copy_of_project, snakemake

from deit.networks.evaluation import write_predictions
from deit.store.frames import read_frame
from deit.store.results import new_folder, read_result

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = CONTRIBUTING.partition("### A step of the DAG\n")[2].partition("\n## ")[0]
PLAN = """
import json, sys
sys.path[:0] = ["src", "workflow"]
from plan.studies import plan_study
print(json.dumps({job.name: digest for digest, job in plan_study("smoke").jobs.items()}))
"""
DECISIONS = [0, 3, 3, 9]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A clone with the step, and without results."""
    folder = copy_of_project(tmp_path_factory.mktemp("clone"))
    recipe, command, plan, rule = re.findall(r"```python\n(.*?)```", STEP, re.DOTALL)
    (lines,) = re.findall(r"```diff\n(.*?)```", STEP, re.DOTALL)
    recipes = folder / "src/deit/tables/recipes.py"
    recipes.write_text(f"{recipes.read_text(encoding='utf-8')}\n\n{recipe}", encoding="utf-8")
    (folder / "src/deit/commands/count_decisions.py").write_text(command, encoding="utf-8")
    (folder / "workflow/plan/decisions.py").write_text(plan, encoding="utf-8")
    (folder / "workflow/rules/decisions.smk").write_text(rule, encoding="utf-8")
    patch = ["git", "apply", "--unidiff-zero", "-"]
    subprocess.run(patch, cwd=folder, input=lines, encoding="utf-8", check=True)
    return folder


@pytest.fixture(scope="module")
def planned(clone) -> dict[str, str]:
    """Name of a job of the smoke study -> its digest, as the clone plans it."""
    done = subprocess.run([sys.executable, "-c", PLAN], cwd=clone, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_it_is_planned_and_no_other_result_gets_another_name(planned):
    before = {job.name: digest for digest, job in plan_study("smoke", ROOT / "params").jobs.items()}
    sheets = {name.removeprefix("predictions/") for name in before if name.startswith("predictions/")}
    assert sheets and planned.keys() - before.keys() == {f"decisions/{sheet}" for sheet in sheets}
    assert {name: planned[name] for name in before} == before


def test_its_rule_runs_it(clone, planned, monkeypatch):
    monkeypatch.chdir(ROOT)
    (sheet,) = [job for job in plan_study("smoke").jobs.values() if job.name == "predictions/convnets/15"]
    monkeypatch.chdir(clone)
    runs = [each.run for each in sheet.resolved().runs]
    images = {"image": [f"{number}" for number in range(4)], "targets": [[0], [1], [2], [3]]}
    predictions = pa.table(images | {"class_top5": [[number] * 5 for number in DECISIONS]})
    with new_folder(Path(sheet.execution.output), sheet) as folder:
        for run in runs:
            for name in sheet.resolved().evaluation_sets:
                write_predictions(predictions, folder / run / f"{name}.parquet")
    folder = f"results/smoke/decisions/convnets/15-{planned['decisions/convnets/15']}"
    snakemake(clone, "--", f"{folder}/decisions.csv")
    counts = read_frame(read_result(Path(folder)).file("decisions.csv"))
    assert list(counts.columns) == ["class", *runs] and len(runs) == 2
    assert counts[runs[0]].tolist() == [1, 0, 0, 2, 0, 0, 0, 0, 0, 1]
    phase = snakemake(clone, "-n", "-p", "--", "decisions")
    assert f"decisions/deit-b/15-{planned['decisions/deit-b/15']}/decisions.csv" in phase
    assert f"--output {folder}\n" not in phase, "it is finished"
