"""The stages of dvc.yaml are the Snakefile's rules, folded."""

import re
import subprocess
from itertools import chain

import pytest
from dvc_clone import ROOT, STAGES, section, snakemake, stage_of
from plan.studies import plan_study
from rule_files import FILES, rules_of


def stored_edges() -> set[tuple[str, str]]:
    """(stage, stage that reads it) in dvc.yaml."""
    read = {(dep, stage) for stage, content in STAGES.items() for dep in content["deps"]}
    return {(stage_of(section(dep)), stage) for dep, stage in read if dep.startswith("results/")}


def test_the_stages_are_the_snakefile_folded():
    """Snakemake's own graph of rules, each rule put into the stage that stores it, is the graph of dvc.yaml."""
    dot = snakemake(ROOT, "--config", "study=smoke", "as_if_new=True", "--rulegraph", "--", "all_tables")
    sections = {rule.name: rule.section for rule in rules_of(*FILES)}
    assert sections.pop("train_pass") == "passes"  # DVC does not store it: its runs' own jobs are in the stages
    stages = {rule: "tables" if name == "report" else stage_of(name) for rule, name in sections.items()}
    stages["all_tables"] = "tables"
    rules = dict(re.findall(r'(\d+)\[label = "(\w+)"', dot))
    edges = {(stages[rules[a]], stages[rules[b]]) for a, b in re.findall(r"(\d+) -> (\d+)", dot)}
    assert {(a, b) for a, b in edges if a != b} == stored_edges()


@pytest.mark.parametrize("study", ["fashion", "imagenet"])
def test_no_study_has_an_edge_that_dvc_does_not_know(study, monkeypatch):
    monkeypatch.chdir(ROOT)
    known = stored_edges() | {(stage, stage) for stage in STAGES}
    for job in plan_study(study).jobs.values():
        reader = "tables" if job.kind == "report" else stage_of(job.name.split("/")[0])
        for folder in chain(*job.execution.folders.values(), job.execution.after):
            assert (stage_of(folder.split("/")[2]), reader) in known, job.name


def test_stages_keep_their_outputs_and_name_no_run():
    command = r"SNAKEMAKE_PROFILE=\\\$\{SNAKEMAKE_PROFILE:-local\} snakemake --config 'study=\$\{study\}' -- \w+"
    for stage, content in STAGES.items():
        *folders, call = content["cmd"] if isinstance(content["cmd"], list) else [content["cmd"]]
        assert re.fullmatch(command, call), stage
        outs = [path for out in content["outs"] for path in out]
        assert folders == [f"mkdir -p {' '.join(outs)}"] or stage in ("data", "tables") and not folders
        assert all(options["persist"] for out in content["outs"] for options in out.values())
        assert content["params"] == [{"params/${study}.yaml": None}] and "params" in content["deps"]
    assert not re.search(r"deit-(ti|s|b)|regnety|seed\d", (ROOT / "dvc.yaml").read_text(encoding="utf-8"))


def test_dvc_records_nothing_that_a_killed_job_left():
    paths = [f"results/fashion/students/a-0123456789.{ending}/recipe.json" for ending in ("partial", "former", "copy")]
    run = subprocess.run(["dvc", "check-ignore", *paths], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert run.stdout.splitlines() == paths, run.stderr
