"""Where a clone lies: paths that formats, shells or YAML could take for something else; results that are read-only."""

import os
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from call import begin
from jobs import render
from plan.lookup import Lookup
from plan.studies import plan_study
from smoke_study import ENVIRONMENT, ROOT, copy_of_project, snakemake
from study.problem import ParamsError

NAME = "it's {x} a$b%"
PYTHON = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python"}}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / NAME
    folder.mkdir()
    return copy_of_project(folder / "clone")


@pytest.mark.long
def test_a_job_runs_in_a_clone_of_any_name(clone):
    (manifest,) = (f"{job.execution.output}/manifest.json" for job in data_jobs() if "training" in job.name)
    snakemake(clone, "--", manifest)
    assert (clone / manifest).exists()


def data_jobs() -> list:
    return plan_study("smoke", ROOT / "params").of_section("data")


def test_a_notebook_is_executed_in_a_folder_of_any_name(tmp_path, monkeypatch):
    folder = tmp_path / NAME
    folder.mkdir()
    monkeypatch.chdir(folder)
    cells = [nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell("a + 1")]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=PYTHON)
    executed = render.execute(notebook, Path("executed.ipynb"), {"a": 41})
    assert executed.cells[-1].outputs[0]["data"]["text/plain"] == "42"


def test_a_colon_is_refused(monkeypatch):
    monkeypatch.setattr(begin, "ROOT", Path("/data/a:b/clone"))
    with pytest.raises(ParamsError, match=r"^/data/a:b/clone: path of the clone: ':' separates .* move the clone to a"):
        begin.refuse_clone()


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """What Snakemake's main process says of a study before it ends, in a clone without results."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    monkeypatch.chdir(tmp_path)

    def plan(study: str, elsewhere: bool = False) -> str:
        try:
            with begin.refusals():
                begin.look_ahead(Lookup(study, main_process=True).plan, elsewhere)
        except SystemExit as refusal:
            return str(refusal)
        return capsys.readouterr().err

    return plan


def test_results_that_cannot_be_written_are_one_message(told, monkeypatch):
    assert told("smoke") == "The networks of smoke were not built yet: check_networks does, in seconds.\n"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    why = "make it writable for you, free its disk, or work in a clone of your own."
    assert told("smoke") == (
        f"Nothing was started: results/smoke cannot be written ({Path.cwd()}: Permission denied): {why}"
    )
    assert not Path("results").exists()
    Path("results").write_text("", encoding="utf-8")
    assert (
        told("smoke")
        == f"Nothing was started: results/smoke cannot be written ({Path.cwd()}/results: Not a directory): {why}"
    )


def test_missing_images_are_told_before_any_job(told):
    Path("params/mine.yaml").write_text(
        "extends: smoke\ndata:\n  root: nowhere\n  training: {md5: null}\n"
        "  evaluation: {test: {split: {md5: null}}, corrupted: null}\n",
        encoding="utf-8",
    )
    missing = "params/mine.yaml: data.root: the folder of the images, "
    here, there = told("mine"), told("mine", elsewhere=True)
    assert here.startswith(f"Nothing was started, because of params/:\n{missing}") and "nowhere, is missing" in here
    assert there.startswith(f"Not on this machine, so each job's must have it:\n{missing}")


def test_a_plan_for_slurm_leaves_no_coroutine_behind(clone):
    words = ["snakemake", "--profile", "slurm", "-n", "--config", "study=smoke", "--", "all_tables"]
    run = subprocess.run(words, cwd=clone, capture_output=True, encoding="utf-8", env=ENVIRONMENT)
    assert run.returncode == 0 and "render_table" in run.stdout
    assert "Warning" not in run.stderr and "never awaited" not in run.stderr, run.stderr
