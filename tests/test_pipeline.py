"""The smoke study from end to end, and what a second run, an edit and a clone without records plan to do.

One real run serves all tests of this file; what follows from edits is asked of Snakemake's own dry run.
"""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from smoke_study import ENVIRONMENT, copy_of_project, snakemake

pytestmark = pytest.mark.pipeline
SLOWER_STUDENT = ("students: {", "students: {runs: {deit-s/hard: {learning_rate: 0.001}}, ")


def planned(project: Path, target: str = "all_tables") -> Counter:
    """Rule -> number of jobs of a dry run; empty where nothing is to be done."""
    output = snakemake(project, "-n", "--", target)
    if "Nothing to be done" in output:
        return Counter()
    table = re.search(r"Job stats:\njob +count\n[- ]+\n(.*?)\ntotal +\d+", output, re.DOTALL)[1]
    return Counter({line.split()[0]: int(line.split()[1]) for line in table.splitlines()}) - Counter(["all_tables"])


def edit(project: Path, file: str, old: str, new: str) -> None:
    path = project / file
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{old!r} is not in {file}"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture(autouse=True)
def unchanged(project):
    """Takes a test's edits of params/ and code back."""
    yield
    subprocess.run(["git", "checkout", "-q", "--", "params", "src", "workflow"], cwd=project, check=True)


def test_every_table_is_rendered(project):
    report = project / "reports/smoke"
    for table in ("table_1", "table_2", "table_3", "table_4", "table_5", "token_analysis", "accuracy_throughput"):
        for suffix in (".html", ".csv", ".ipynb"):
            assert (report / (table + suffix)).stat().st_size > 100
    page = (report / "index.html").read_text(encoding="utf-8")
    assert "Table 3" in page and "provenance" in page.lower()
    metrics = json.loads((report / "metrics.json").read_text(encoding="utf-8"))
    for method in ("labels", "soft", "hard", "token_class", "token_distillation", "token_fusion"):
        assert set(metrics["table_3"][method]) >= {"deit-ti", "deit-s", "deit-b", "deit-b-finetuned"}
    for teacher in ("deit-b", "regnety-4gf", "regnety-16gf"):
        assert set(metrics["table_2"][teacher]) == {"teacher", "pretrained", "finetuned"}


def test_every_job_left_a_log_a_benchmark_and_a_recipe(project):
    results = project / "results/smoke"
    rows = [line.split(",") for line in (results / "plan.csv").read_text(encoding="utf-8").splitlines()[1:]]
    for section, kind, _, digest, folder in rows:
        if kind == "report":
            continue
        assert (results / "recipes" / f"{digest}.json").exists()
        assert json.loads((project / folder / "provenance.json").read_text(encoding="utf-8"))["seconds"] >= 0
        place = folder.removeprefix("results/smoke/")
        assert (results / "logs" / f"{place}.log").exists(), section
        assert (results / "benchmarks" / f"{place}.tsv").exists()
    assert not list(results.glob("resume/*")), "finished runs leave no resume state"


def test_a_second_run_does_nothing_and_names_the_report_last(project):
    output = snakemake(project, "--", "all_tables")
    assert "Nothing to be done" in output
    assert output.endswith("\nThe report of smoke: reports/smoke/index.html\n")
    assert (project / "reports/smoke/index.html").exists()


def test_without_a_profile_nothing_finished_is_made_again(project):
    """Snakemake's own triggers, which compare with the inputs that a job had, are not asked."""
    words = ["snakemake", "--cores", "1", "--config", "study=smoke", "-n", "--", "all_tables"]
    run = subprocess.run(words, cwd=project, env=ENVIRONMENT, capture_output=True, encoding="utf-8")
    assert run.returncode == 0 and "Nothing to be done" in run.stdout + run.stderr, run.stdout + run.stderr


def test_an_edit_plans_that_student_and_what_follows_and_taking_it_back_plans_nothing(project):
    edit(project, "params/smoke.yaml", *SLOWER_STUDENT)
    assert planned(project) == {
        "distil_student": 1,
        "predict": 1,
        "render_table": 3,
        "publish_report": 1,
    }
    subprocess.run(["git", "checkout", "-q", "--", "params"], cwd=project, check=True)
    assert not planned(project)


def test_an_edited_student_is_trained_alone_and_an_older_report_comes_back_without_training(project):
    edit(project, "params/smoke.yaml", *SLOWER_STUDENT)
    output = snakemake(project, "--", "all_tables")
    assert "\n6 jobs. " in output, output[-3000:]
    begun, ended = (re.findall(rf" {word} .*  (.*)$", output, re.MULTILINE) for word in ("starts", "ends"))
    assert sorted(begun) == sorted(ended) and len(set(begun)) == 6
    assert "distil DeiT-S: hard, from RegNetY-16GF, 15 px, seed 0" in begun
    assert len(output.splitlines()) <= 3 * 6 and "\x1b" not in output and "\r" not in output, output
    assert output.endswith("\nThe report of smoke: reports/smoke/index.html\n")
    assert not planned(project)
    subprocess.run(["git", "checkout", "-q", "--", "params"], cwd=project, check=True)
    assert planned(project) == {"publish_report": 1}
    snakemake(project, "--", "all_tables")


def test_a_failing_jobs_own_message_is_among_the_last_lines(project):
    """Of a training that diverges; its epochs are in its log alone."""
    edit(
        project,
        "params/smoke.yaml",
        "students: {",
        "students: {runs: {deit-s/hard: {learning_rate: 1000, weight_decay: 1000}}, ",
    )
    output = snakemake(project, "--", "all_tables", check=False)
    *told, last, command = output.splitlines()[-12:]
    assert "Failed: distil DeiT-S: hard, from RegNetY-16GF, 15 px, seed 0" in told, output
    assert len([line for line in told if "not finite" in line]) == 1, output
    assert last == "Failed. What was finished is kept, and this goes on from there:"
    assert command.endswith("snakemake --profile local --config study=smoke -- all_tables")
    (log,) = [line.rpartition(" ")[2] for line in told if "All that it said: " in line]
    launched = "1 node(s) x 1 process(es)"
    assert launched in (project / log).read_text(encoding="utf-8") and launched not in output
    assert "The report of" not in output


def test_comments_plan_nothing_and_constants_plan_the_trainings(project):
    edit(project, "src/deit/learn/objectives/labels.py", '"""', '"""Reworded. ')
    with (project / "src/deit/learn/objectives/labels.py").open("a", encoding="utf-8") as file:
        file.write("\n# A comment.\n")
    assert not planned(project)
    edit(project, "src/deit/learn/objectives/labels.py", "logits.float(), targets)", "logits.float(), targets) / 3")
    everything = planned(project)
    assert everything["distil_student"] and everything["train_teacher"] and everything["finetune"]
    assert "measure_throughput" not in everything


def test_a_clone_without_records_and_with_shuffled_times_plans_nothing(project, tmp_path):
    clone = copy_of_project(tmp_path)
    shutil.copytree(project / "results", clone / "results")
    shutil.copytree(project / "reports", clone / "reports")
    files = [path for path in clone.rglob("*") if path.is_file() and ".git" not in path.parts]
    for path in files:
        stamp = random.Random(str(path)).uniform(1e9, 1.7e9)
        os.utime(path, (stamp, stamp))
    assert not (clone / ".snakemake").exists()
    assert not planned(clone)


def test_a_clone_with_reports_and_no_results_computes_them(project, tmp_path):
    clone = copy_of_project(tmp_path)
    shutil.copytree(project / "reports", clone / "reports")
    jobs = planned(clone)
    assert jobs["render_table"] == 7 and jobs["distil_student"] and jobs["publish_report"] == 1


def test_a_pruned_cache_is_not_missed(project, tmp_path):
    kept = tmp_path / "kept"
    (project / "results/smoke/teacher_logits").rename(kept)
    try:
        assert not planned(project)
        # Not the edit of the tests above, whose student is trained by now.
        edit(project, "params/smoke.yaml", "students: {", "students: {runs: {deit-s/hard: {learning_rate: 0.002}}, ")
        jobs = planned(project)
        assert jobs["cache_teacher_logits"] == 2 and jobs["distil_student"] == 1
        assert "train_teacher" not in jobs and "finetune" not in jobs
    finally:
        shutil.rmtree(project / "results/smoke/teacher_logits", ignore_errors=True)
        kept.rename(project / "results/smoke/teacher_logits")


def test_a_job_reads_its_recipe_and_not_the_params(project):
    """Params edited while a job waits, even to nonsense, do not reach it, although it parses the Snakefile then."""
    sheet = next(iter(project.glob("results/smoke/tokens/deit-ti/token*/*/*-*")))
    shutil.rmtree(sheet)
    plan = [
        line
        for line in (project / "results/smoke/plan.csv").read_text(encoding="utf-8").splitlines()
        if sheet.name[-10:] in line
    ]
    assert plan
    edit(project, "params/smoke.yaml", "extends: fashion", "extends: nonsense")
    output = snakemake(
        project,
        "--mode",
        "subprocess",
        "--cores",
        "1",
        "--allowed-rules",
        "compare_tokens",
        "--nolock",
        "--",
        f"{sheet.relative_to(project)}/tokens.json",
        check=False,
    )
    assert (sheet / "tokens.json").exists(), output[-3000:]


def test_a_mistake_stops_everything_with_one_message(project):
    edit(project, "params/smoke.yaml", "students:", "studnets:")
    output = snakemake(project, "-n", "--", "all_tables", check=False)
    assert "params/smoke.yaml: studnets: unknown key; did you mean 'students'?" in output
    assert "Traceback" not in output


def test_the_same_command_gives_the_same_weights(project, tmp_path):
    """Two clones, one run each of the same recipe: identical bytes."""
    clone = copy_of_project(tmp_path)
    weights = sorted(
        path.relative_to(project) for path in project.glob("results/smoke/teachers/regnety-4gf/**/*.safetensors")
    )
    assert len(weights) == 1
    snakemake(clone, "--", str(weights[0]))
    digests = [hashlib.sha256((place / weights[0]).read_bytes()).hexdigest() for place in (project, clone)]
    assert digests[0] == digests[1]


def test_the_workflow_passes_snakemakes_lint(project):
    """One remark stands: rules name no conda environment, as the whole workflow runs in one, environment.yml."""
    output = snakemake(project, "--lint", check=False)
    remarks = set(re.findall(r"^    \* (.*?):?$", output, re.MULTILINE))
    assert remarks == {"Specify a conda environment or container for each rule."}, output
