"""`--profile slurm` on a real Slurm with pretended nodes and GPUs, which tests/slurm/up starts in a temporary folder.

The GPUs are fake: a job is given some, sees them in CUDA_VISIBLE_DEVICES, and computes on the CPU, since the recipes of
these studies say so. Where Slurm is not installed the tests are skipped; under CI=true they fail.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import (
    LOW,
    PASS,
    ROOT,
    STUDIES,
    Pass,
    Training,
    answer,
    command,
    digest_of,
    finished,
    in_cluster,
    is_told_to_end,
    jobs,
    let_go,
    limit_soon,
    node_of,
    plan_of,
    requeue,
    snakemake_meanwhile,
    started,
    state,
    take_the_node_down,
    until,
)
from smoke_study import copy_of_project

TRAININGS = ("train_teacher", "adapt_teacher", "distil_student", "finetune")
ON_GPUS = (*TRAININGS, "cache_teacher_logits")


# The cluster ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """The environment in which commands find the cluster."""
    with started() as environment:
        yield environment


@pytest.fixture
def partitions(cluster) -> Iterator[Callable[[str], None]]:
    """Sets them up or down: queued jobs wait then, and running ones go on. They are up again after the test."""

    def change(state: str) -> None:
        for partition in ("cpu", "gpu"):
            answer(cluster, "scontrol", "update", f"partitionname={partition}", f"state={state}")

    yield change
    change("up")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A clone with the studies of this file."""
    folder = copy_of_project(tmp_path_factory.mktemp("clone"))
    for name, text in STUDIES.items():
        (folder / f"params/{name}.yaml").write_text(text, encoding="utf-8")
    return folder


@in_cluster
def test_a_job_on_a_node_runs_with_the_python_that_runs_snakemake(cluster, tmp_path):
    """Started as .venv/bin/snakemake, in a shell whose `python` is another one."""
    clone, tools = copy_of_project(tmp_path / "clone"), Path(sys.executable).parent
    other = tmp_path / "bin/python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho another python >&2\nexit 1\n", encoding="utf-8")
    other.chmod(0o755)
    folders = [folder for folder in cluster["PATH"].split(":") if Path(folder) != tools]
    environment = cluster | {"PATH": ":".join([str(other.parent), *folders])}
    _, *words = command("smoke", "--until", "prepare_data", "--", "data")
    run = subprocess.run(
        [tools / "snakemake", *words], cwd=clone, env=environment, capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    assert list(clone.glob("results/smoke/data/*/provenance.json"))


# A whole study ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def records(cluster, project) -> dict[str, dict[str, str]]:
    """The records of a study's jobs, after the study went through the cluster; trainings on a fake GPU each."""
    before = set(jobs(cluster))
    gpus = [f"{rule}:gpu=1" for rule in ON_GPUS]
    words = command("small", "--jobs", "6", "--set-resources", *gpus, "--", "all_tables")
    with snakemake_meanwhile(cluster, project, *words) as process:
        finished(process, project)
    new = {job: record for job, record in jobs(cluster).items() if job not in before}
    return dict(sorted(new.items(), key=lambda item: int(item[0])))


@in_cluster
def test_the_study_ends_in_tables_and_again_submits_nothing(records, cluster, project):
    report = project / "reports/small"
    assert (report / "index.html").exists() and {path.stem for path in report.glob("table_*.html")} == {
        "table_3",
        "table_5",
    }
    last = {digest_of(record): record["JobState"] for record in records.values()}
    assert set(last.values()) == {"COMPLETED"}
    known = set(jobs(cluster))
    again = subprocess.run(
        command("small", "--", "all_tables"), cwd=project, env=cluster, capture_output=True, encoding="utf-8"
    )
    assert "Nothing to be done" in again.stdout + again.stderr
    assert set(jobs(cluster)) == known


@in_cluster
def test_every_job_asked_for_what_its_plan_and_the_profile_say(records, project, monkeypatch):
    plan = plan_of(project, "small", monkeypatch)
    submitted = plan.jobs.keys() - {plan.networks}  # which is checked where Snakemake runs, before anything is queued
    assert {digest_of(record) for record in records.values()} == submitted
    for record in records.values():
        rule = re.match(r"rule_(\w+?)_wildcards", record["Comment"])[1]
        execution = plan.jobs[digest_of(record)].execution
        hours, minutes = divmod(execution.minutes, 60)
        gpus = "gres:gpu:1" if rule in ON_GPUS else None
        assert record.get("TresPerJob") == gpus, rule
        assert record["Partition"] == ("gpu" if gpus else "cpu"), rule
        assert record["MinMemoryNode"] == f"{execution.mem_mb}M", rule
        assert record["TimeLimit"] == f"{hours:02d}:{minutes:02d}:00", rule
        assert record["NumNodes"] == "1" and record["NumCPUs"] == str(execution.threads + execution.workers), rule


@in_cluster
def test_jobs_that_share_a_node_see_different_gpus(records, project):
    logs = "\n".join(path.read_text(encoding="utf-8") for path in (project / "results/small/logs").rglob("*.log"))
    seen = dict(re.findall(r"^job (\d+) on \w+, CUDA_VISIBLE_DEVICES=(\S+?):", logs, re.MULTILINE))
    assert len(seen) >= 10
    spans = [(records[job]["NodeList"], records[job]["StartTime"], records[job]["EndTime"], job) for job in seen]
    together = [
        (one[3], other[3])
        for one in spans
        for other in spans
        if one[3] < other[3] and one[0] == other[0] and one[1] < other[2] and other[1] < one[2]
    ]
    assert together, "no two trainings ran beside each other on a node"
    assert all(seen[one] != seen[other] for one, other in together)


@in_cluster
def test_dvc_repro_goes_through_slurm_where_the_profile_says_so(records, cluster, project):
    """What is missing of the study is submitted, and all of it recorded."""
    shutil.copytree(ROOT / ".dvc", project / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    for name in (".dvcignore", "dvc.yaml"):
        shutil.copy(ROOT / name, project)
    (project / "params/study.yaml").write_text("study: small\n", encoding="utf-8")
    (tokens,) = project.glob("results/small/tokens/deit-ti/two-class-tokens/*/*")
    shutil.rmtree(tokens)
    known = set(jobs(cluster))
    environment = cluster | {"SNAKEMAKE_PROFILE": "slurm"}
    run = subprocess.run(["dvc", "repro"], cwd=project, env=environment, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    (job,) = set(jobs(cluster)) - known
    assert digest_of(jobs(cluster)[job]) == tokens.name[-10:] and (tokens / "tokens.json").exists()
    assert "up to date" in answer(environment, "dvc", "status", cwd=project)


# One training, disturbed ----------------------------------------------------------------------------------------------


@pytest.fixture
def training(cluster, project, monkeypatch) -> Callable[[str], Training]:
    """Study -> its training; the images are checked and the views made, without Slurm, and for most studies once."""
    first = project / "results/short"

    def prepared(study: str) -> Training:
        plan, sections = plan_of(project, study, monkeypatch), ("data", "networks", "views")
        if study != first.name and first.exists():
            for name in sections:
                shutil.copytree(first / name, project / "results" / study / name, dirs_exist_ok=True)
        if not all((project / job.execution.output).exists() for job in plan.of_section(*sections)):
            words = ["snakemake", "--profile", "local", "--config", f"study={study}", "--", "data"]
            answer(cluster, *words, cwd=project)
        return Training(cluster, project, study, plan)

    return prepared


@pytest.fixture(scope="module")
def undisturbed(cluster, project) -> Callable[[Training], tuple[str, Any]]:
    """Digest of the weights and losses of a training that is run on this machine, without Slurm and disturbance."""
    known: dict[str, tuple[str, Any]] = {}

    def ended(one: Training) -> tuple[str, Any]:
        key = re.search(r"epochs: \d+", STUDIES[one.study])[0]
        if key not in known:
            shutil.rmtree(one.output, ignore_errors=True)
            words = ["snakemake", "--profile", "local", "--config", f"study={one.study}", "--", one.target]
            run = subprocess.run(words, cwd=project, env=cluster, capture_output=True, encoding="utf-8")
            assert run.returncode == 0, run.stderr[-3000:]
            known[key] = one.weights(), one.losses()
        return known[key]

    return ended


DISTURBANCES = {
    "told to end": lambda one, job: answer(one.cluster, "scancel", "--signal=TERM", job),
    "cancelled": lambda one, job: answer(one.cluster, "scancel", job),
    "requeued": requeue,
    "node down": take_the_node_down,
}


@in_cluster
def test_a_training_that_is_disturbed_in_every_way_resumes_to_the_same_weights(training, undisturbed):
    """One way after the other, each as soon as the training goes on after the one before."""
    one = training("short")
    expected, _ = undisturbed(one)
    with one.start() as process:
        for starts, disturb in enumerate(DISTURBANCES.values(), 1):
            job = one.under_way(starts)
            trains = one.hold()  # or a fast machine ends it before
            disturb(one, job)
            let_go(trains)
        finished(process, one.project)
    told_to_end, cancelled, requeued = one.jobs()
    assert "stopped by SIGTERM" in one.log(told_to_end)
    assert "resumed after" in one.log(cancelled) and "resumed after" in one.log(requeued)
    assert one.starts() == 1 + len(DISTURBANCES) and one.jobs()[requeued]["Restarts"] == "2"
    assert one.weights() == expected


@in_cluster
def test_a_time_limit_shorter_than_the_run_costs_nothing(training, undisturbed):
    """The training is held until Slurm tells it to end, by a limit that comes soon after its first state is saved."""
    one = training("short")
    expected, _ = undisturbed(one)
    with one.start("--set-resources", "train_teacher:slurm_extra='--signal=TERM@5'") as process:
        job = one.under_way()
        trains = one.hold()
        limit_soon(one, job)
        until(lambda: is_told_to_end(trains))
        let_go(trains)
        finished(process, one.project)
    states = [record["JobState"] for record in one.jobs().values()]
    assert len(states) >= 2 and states[-1] == "COMPLETED" and set(states[:-1]) <= {"FAILED", "TIMEOUT"}
    assert len({record["MinMemoryNode"] for record in one.jobs().values()}) == 1
    assert "stopped by SIGTERM" in "".join(one.log(job) for job in one.jobs())
    assert one.weights() == expected


@in_cluster
def test_a_job_that_runs_out_of_memory_gets_more(training, undisturbed):
    one = training("hungry")
    expected, _ = undisturbed(one)
    with one.start("--retries", "9") as process:
        finished(process, one.project)
    memory = [int(record["MinMemoryNode"].removesuffix("M")) for record in one.jobs().values()]
    assert len(memory) >= 2 and memory == [700 + 350 * attempt for attempt in range(len(memory))]
    assert one.weights() == expected


@in_cluster
def test_params_edited_while_a_job_is_queued_do_not_reach_it(training, cluster, partitions, project):
    one = training("edited")
    params = project / "params/edited.yaml"
    partitions("down")
    with one.start() as process:
        job = until(lambda: next((job for job in one.jobs() if state(cluster, job) == "PENDING"), None))
        params.write_text(STUDIES["edited"].replace("epochs: 3", "epochs: 4"), encoding="utf-8")
        partitions("up")
        assert process.wait(1800) != 0
    assert "params/ or code were edited meanwhile" in (project / "snakemake.txt").read_text(encoding="utf-8")
    assert state(cluster, job) == "COMPLETED" and len(one.losses()) == 3
    assert json.loads((one.output / "recipe.json").read_text(encoding="utf-8"))["recipe"]["optimisation"]["epochs"] == 3


@in_cluster
def test_code_edited_while_a_job_is_queued_stops_it(training, cluster, partitions, project):
    """The result would bear the name of other code."""
    one = training("short")
    losses = project / "src/deit/learn/objectives/labels.py"
    code = losses.read_text(encoding="utf-8")
    partitions("down")
    with one.start("--retries", "0") as process:
        job = until(lambda: next((job for job in one.jobs() if state(cluster, job) == "PENDING"), None))
        losses.write_text(code + "\nEDITED = True\n", encoding="utf-8")
        try:
            partitions("up")
            assert process.wait(1800) != 0
        finally:
            losses.write_text(code, encoding="utf-8")
    assert "code that was edited after this job was planned: src/deit/learn/objectives/labels.py" in one.log(job)
    assert not one.output.exists()


# No run twice at once -------------------------------------------------------------------------------------------------


@in_cluster
@pytest.mark.parametrize("late", [False, True], ids=["that runs", "that has ended"])
def test_after_a_killed_snakemake_nothing_is_trained_beside_or_after_a_living_job(
    late, training, undisturbed, cluster, partitions
):
    """The second job finds the first one, which is held, alive and waits; or it is queued until the first has ended."""
    one = training("short")
    expected, _ = undisturbed(one)
    with one.start() as process:
        first = one.under_way()
        trains = one.hold()
        process.kill()
        process.wait()
    subprocess.run(command(one.study, "--unlock"), cwd=one.project, env=cluster, check=True, capture_output=True)
    partitions("down" if late else "up")
    with snakemake_meanwhile(cluster, one.project, *command(one.study, "--", one.target)) as process:
        second = until(lambda: next((job for job in one.jobs() if job != first), None))
        if not late:
            until(lambda: state(cluster, second) == "RUNNING" and f"job {first}," in one.log(second))
        let_go(trains)
        if late:
            until(lambda: state(cluster, first) == "COMPLETED")
            partitions("up")
        finished(process, one.project)
    assert state(cluster, first) == state(cluster, second) == "COMPLETED"
    assert "finished by another job" in one.log(second) and (f"job {first}," in one.log(second)) is not late
    assert "epoch 1/" in one.log(first) and "epoch 1/" not in one.log(second)
    assert one.weights() == expected


@in_cluster
def test_after_a_killed_snakemake_a_job_that_ended_meanwhile_is_not_submitted_again(training, undisturbed, cluster):
    one = training("short")
    expected, _ = undisturbed(one)
    with one.start() as process:
        first = one.under_way()
        process.kill()
        process.wait()
    until(lambda: state(cluster, first) == "COMPLETED")
    subprocess.run(command("short", "--unlock"), cwd=one.project, env=cluster, check=True, capture_output=True)
    with snakemake_meanwhile(cluster, one.project, *command("short", "--", one.target)) as process:
        assert "Nothing to be done" in finished(process, one.project)
    assert list(one.jobs()) == [first] and one.weights() == expected


@in_cluster
def test_progress_names_job_node_and_epoch_and_an_interrupt_cancels_the_jobs(training, cluster):
    one = training("endless")
    with one.start() as process:
        job = one.under_way()
        until(lambda: "epoch 2/3000" in one.log(job))
        text = answer(cluster, sys.executable, "workflow", "progress", "endless", cwd=one.project)
        line = next(line for line in text.splitlines() if line.startswith("  running"))
        assert f"teachers/regnety-4gf/labels/{LOW}/seed0  job {job}: {node_of(one, job)}, " in line
        assert re.search(r"of 30:00, epoch \d+/3000, loss .*, \d+ h \d+ min \d+ s left$", line)
        process.send_signal(signal.SIGINT)
        assert process.wait(1800) != 0
    until(lambda: state(cluster, job) == "CANCELLED")


# Several processes and nodes ------------------------------------------------------------------------------------------


@in_cluster
def test_two_processes_and_two_nodes_train_the_same_run(training, undisturbed):
    """Views and batch are the same; only sums are taken in another order than by one process, and not by these two.

    So the two processes of one node, though they are disturbed, end with the very weights of the two nodes.
    """
    one, two = training("short"), training("two-nodes")
    _, alone = undisturbed(one)
    with one.start("--set-resources", "train_teacher:gpu=2", "train_teacher:mem_mb=4000") as process:
        answer(one.cluster, "scancel", "--signal=TERM", one.under_way())
        finished(process, one.project)
    first, second = one.jobs().values()
    assert first["TresPerJob"] == second["TresPerJob"] == "gres:gpu:2" and "rank 0 of 2" in one.log(first["JobId"])
    assert "stopped by SIGTERM" in one.log(first["JobId"]) and "resumed after" in one.log(second["JobId"])
    with two.start() as process:
        finished(process, two.project)
    (record,) = two.jobs().values()
    assert record["NumNodes"] == "2" and "rank 0 of 2" in two.log(record["JobId"])
    assert one.weights() == two.weights()
    apart = abs(one.losses() - alone)  # by an epoch, and grows
    assert apart[0] < 1e-4 and apart[:10].max() < 0.05
    assert json.loads((two.output / "recipe.json").read_text(encoding="utf-8"))["execution"]["nodes"] == 2


# Several runs in one job ----------------------------------------------------------------------------------------------


@in_cluster
def test_a_pass_that_is_stopped_and_killed_ends_in_the_results_of_separate_jobs(cluster, project, monkeypatch):
    """Told to end when it has trained one run, and killed when it has filled one cache, which it then leaves out."""
    params = project / "params/together.yaml"
    params.write_text(STUDIES["together"] + PASS, encoding="utf-8")
    one = Pass(cluster, project, "together", plan_of(project, "together", monkeypatch))
    params.write_text(STUDIES["together"], encoding="utf-8")
    answer(cluster, "snakemake", "--profile", "local", "--config", "study=together", "--", *one.targets, cwd=project)
    separate = one.digests()
    for section in ("students", "teacher_logits"):
        shutil.rmtree(project / "results/together" / section)

    params.write_text(STUDIES["together"] + PASS, encoding="utf-8")
    words = command("together", "--set-resources", "train_pass:gpu=1", "--", *one.targets)
    labels = next(job for job in one.runs if "/labels/" in job.name)
    with snakemake_meanwhile(cluster, project, *words) as process:
        until((project / labels.execution.output / "provenance.json").exists)
        (first,) = one.jobs()
        answer(cluster, "scancel", "--signal=TERM", first)
        until((project / one.caches[0].execution.output / "provenance.json").exists)
        second = list(one.jobs())[-1]
        answer(cluster, "scancel", "--signal=KILL", f"{second}.0")  # its step: SIGKILL, and no SIGTERM before
        finished(process, project)

    assert one.digests() == separate and len(separate) >= len(one.runs) + len(one.caches)
    assert [record["JobState"] for record in one.jobs().values()] == ["FAILED", "FAILED", "COMPLETED"]
    assert "stopped by SIGTERM" in one.log(first) and "stopped by" not in one.log(second)
    for job in list(one.jobs())[1:]:
        assert len(re.findall(r"resumed after \d+ optimiser steps", one.log(job))) == 2
        assert f"{labels.name}: " not in one.log(job)
    for record in one.jobs().values():
        assert record["TresPerJob"] == "gres:gpu:1" and record["Partition"] == "gpu"
        assert (record["MinMemoryNode"], record["TimeLimit"], record["NumCPUs"]) == ("2500M", "00:47:00", "2")
    assert one.own_jobs().keys() == {job.digest for job in (*one.runs, *one.caches)}
    for record in one.own_jobs().values():
        assert record["JobState"] == "COMPLETED" and "TresPerJob" not in record and record["Partition"] == "cpu"
        text = Path(record["StdOut"]).read_text(encoding="utf-8")
        assert "finished by another job" in text and "epoch " not in text
