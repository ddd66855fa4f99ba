"""What a call of Snakemake shows: each job in words, two lines of it, the bar's words, and the last lines."""

import logging
import os
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from call.end import LAST_LINES, command, message
from call.screen import Screen
from call.words import words
from cost.time_left import TimeLeft, work
from plan.lookup import Lookup
from plan.passes import plan_passes
from plan.studies import plan_study
from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.common import LogEvent

from deit.store.job import Job

ROOT = Path(__file__).resolve().parent.parent
NAMES = {
    "students/deit-ti/hard-from-regnety-16gf/20/seed1": "distil DeiT-Ti: hard, from RegNetY-16GF, 20 px, seed 1",
    "students/deit-s/labels+longer/20/seed0": "train DeiT-S: labels, longer, 20 px, seed 0",
    "teachers/regnety-4gf/labels/20/seed0": "train a teacher, RegNetY-4GF: labels, 20 px, seed 0",
    "adapted/regnety-4gf/labels/35/seed0": "adapt a teacher, RegNetY-4GF: labels, 35 px, seed 0",
    "finetuned/deit-b/soft-mean-from-deit-b/35/seed2": "fine-tune DeiT-B: soft-mean, from DeiT-B, 35 px, seed 2",
    "teacher_logits/deit-b/labels/20/seed0/stream1-epochs4-7": "ask the teacher DeiT-B: labels, 20 px, seed 0; "
    "stream 1, epochs 4-7",
    "views/20/stream1000000-epochs9": "store views: 20 px, stream 1000000, 9 epochs",
    "predictions/convnets/20": "predict with convnets: 20 px",
    "tables/table_3": "render Table 3: the distillation method",
    "somewhere/else": "train somewhere/else",
}


@cache
def smoke() -> Lookup:
    return Lookup("smoke", main_process=True)


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A folder with all that a plan reads, and no results."""
    for name in ("params", "workflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_job_in_words(name):
    assert words(Job(kind="train", name=name, recipe={}, behaviour={})) == NAMES[name]


def test_words_tell_what_is_copied_and_what_a_pass_makes():
    job = Job(kind="train", name="students/a/labels/16/seed0", recipe={}, behaviour={})
    made = job.execution.model_copy(update={"made_by": "results/b/passes/c-0123456789"})
    assert words(job.model_copy(update={"execution": made})).startswith("take from its pass: train a: labels")
    copied = job.execution.model_copy(update={"copy_of": "results/b/students/a"})
    assert words(job.model_copy(update={"execution": copied})).startswith("copy from b: train a: labels")


@pytest.mark.parametrize("study", ["fashion", "smoke", "imagenet", "released"])
def test_no_two_jobs_of_a_study_have_the_same_words_and_none_goes_by_its_name(study, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = plan_study(study)
    jobs = [*plan.jobs.values(), *plan_passes(plan, everything=True).values()]
    told = [words(job) for job in jobs]
    assert len(set(told)) == len(jobs) and not {f"{job.kind} {job.name}" for job in jobs} & set(told)


# Lines ----------------------------------------------------------------------------------------------------------------


class Calls:
    """Snakemake, as far as a screen asks it; `log` tells the screen of an event."""

    def __init__(self, dryrun: bool = False, **settings: bool):
        asked = dict.fromkeys(("verbose", "debug_dag", "printshellcmds", "quiet"), False) | settings
        self.output_settings, self.dryrun, self.local_exec = SimpleNamespace(**asked), dryrun, True
        self.logger_manager = SimpleNamespace(get_logfile=lambda: ["log"])
        self.dag = SimpleNamespace(targetjobs=[SimpleNamespace(rule=SimpleNamespace(name="all_tables"))])
        self.lookup = smoke()
        self.screen = Screen(self.lookup, self)
        self.screen.usual = logging.StreamHandler(sys.stderr)

    def log(self, message: str = "", event: LogEvent | None = None, level: int = logging.INFO, **said) -> None:
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        vars(record).update(said | ({"event": event} if event else {}))
        self.screen.handle(record)

    def start(self, number: int, job: Job, *logs: str) -> None:
        self.log(event=LogEvent.JOB_INFO, jobid=number, wildcards={"digest": job.digest}, log=list(logs), local=True)

    def begin(self, *jobs: Job) -> None:
        self.log(event=LogEvent.WORKFLOW_STARTED)
        self.screen.begin([SimpleNamespace(wildcards_dict={"digest": job.digest}) for job in jobs])


@pytest.fixture
def told(clone, monkeypatch, capsys):
    """The lines on the screen since the last time that one asked."""
    monkeypatch.setattr(sys, "argv", ["snakemake", "--profile", "local", "--config", "study=it's", "--", "all_tables"])
    return lambda: capsys.readouterr().err.splitlines()


def test_a_job_has_two_lines_and_the_rest_is_not_on_the_screen(told):
    calls = Calls()
    first, second = list(calls.lookup.plan.jobs.values())[-2:]
    calls.begin(first, second)
    assert told()[-1].startswith("2 jobs. What each prints: results/smoke/logs")
    calls.log("Building DAG of jobs...")
    calls.log("Select jobs to execute...")
    calls.log("Execute 1 jobs...", LogEvent.JOB_STARTED, jobs=[1])
    calls.start(1, first)
    calls.log("bash -c", LogEvent.SHELLCMD)
    calls.log("", LogEvent.PROGRESS, done=1, total=2)
    calls.log("Finished jobid: 1", LogEvent.JOB_FINISHED, job_id=1)
    starts, ends = told()
    assert starts.endswith(f" starts             {words(first)}")
    assert ends.endswith(f" ends      0:00:00  {words(first)}")


def test_one_job_is_one_and_a_phase_without_any_has_nothing_to_do(told):
    calls = Calls()
    calls.begin(*list(calls.lookup.plan.jobs.values())[:1])
    assert told()[-1].startswith("1 job. What each prints: ")
    calls = Calls()
    calls.begin()
    assert told() == [NOTHING_TO_BE_DONE_MSG]


def test_what_is_no_event_is_told_once_in_a_row(told):
    calls = Calls()
    calls.begin()
    told()
    for _ in range(3):
        calls.log("Will exit after finishing currently running jobs (scheduler).")
    calls.log("sbatch: error: no such partition", level=logging.ERROR)
    calls.log("MissingOutputException: …", LogEvent.ERROR, exception="MissingOutputException")
    assert [line[:9] for line in told()] == ["Will exit", "sbatch: e", "MissingOu"]


@pytest.mark.parametrize("asked", ["verbose", "debug_dag", "printshellcmds", "quiet"])
def test_who_asks_for_snakemakes_own_lines_has_them(told, asked):
    calls = Calls(**{asked: True})
    told()
    calls.log("Workflow has started!", LogEvent.WORKFLOW_STARTED)
    calls.log("Building DAG of jobs...")
    assert told() == ["Workflow has started!", "Building DAG of jobs..."]


def test_what_runs_no_jobs_says_all_it_says(told):
    """--lint, --list, --unlock."""
    calls = Calls()
    told()
    calls.log("Unlocked working directory.")
    calls.log("Select jobs")
    assert told() == ["Unlocked working directory.", "Select jobs"]


def test_a_dry_run_has_a_line_a_job_and_the_counts_last(told):
    calls = Calls(dryrun=True)
    jobs = list(calls.lookup.plan.jobs.values())[:2]
    calls.log(event=LogEvent.WORKFLOW_STARTED)
    told()
    calls.log("Job stats: …", LogEvent.RUN_INFO)
    for number, job in enumerate(jobs):
        calls.start(number, job)
    calls.log("Job stats: …", LogEvent.RUN_INFO)
    assert told() == [*(f"  {words(job)}" for job in jobs), "", "Job stats: …"]


def test_where_nothing_is_to_be_done_the_report_is_named(told, monkeypatch):
    calls = Calls()
    calls.log(event=LogEvent.WORKFLOW_STARTED)
    told()
    calls.log(NOTHING_TO_BE_DONE_MSG)
    assert told() == [NOTHING_TO_BE_DONE_MSG]
    monkeypatch.setattr(calls.lookup.plan, "unfinished", list)
    calls.screen.tell_of_the_report()
    assert told() == ["The report of smoke: reports/smoke/index.html"]
    calls.dag.targetjobs[0].rule.name = "teachers"
    calls.screen.tell_of_the_report()
    assert not told()


# Failures -------------------------------------------------------------------------------------------------------------

TRACEBACK = """epoch 1/4  loss 2.1
Traceback (most recent call last):
  File "/a/b.py", line 7, in f
    g(x)
    ^^^^
ValueError: first line
second line
"""
REFUSED = "vm: 1 node(s) x 1 process(es)\nimages cannot be read:\n  a/b.png: truncated\n"


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (TRACEBACK, ["ValueError: first line", "second line"]),
        (REFUSED, REFUSED.splitlines()[1:]),
        ("\n".join(map(str, range(50))), [str(number) for number in range(50 - LAST_LINES, 50)]),
        ("", []),
    ],
    ids=["a traceback", "a refusal", "many lines", "none"],
)
def test_the_message_of_a_failed_job_is_what_its_log_says_last(tmp_path, text, last):
    (tmp_path / "log").write_text(text, encoding="utf-8")
    assert message(tmp_path / "log") == last


def test_jobs_that_slurm_still_has_at_the_end_are_cancelled(told, monkeypatch):
    """An interrupt that comes while Snakemake asks for its jobs finds none of them in its list."""
    scancel = Path("bin/scancel")
    scancel.parent.mkdir()
    scancel.write_text('#!/bin/sh\necho "$@" > cancelled\n', encoding="utf-8")
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scancel.parent.resolve()}:{os.environ['PATH']}")
    calls = Calls()
    jobs = list(calls.lookup.plan.jobs.values())[-3:]
    calls.begin(*jobs)
    for number, job in enumerate(jobs):
        calls.start(number, job, f"{number}.log")
        calls.log(f"Job {number} has been submitted with SLURM jobid {40 + number} (log: {number}.log).")
    calls.log("Finished", LogEvent.JOB_FINISHED, job_id=1)
    calls.screen.give_up()
    assert Path("cancelled").read_text(encoding="utf-8") == "40 42\n"


def test_the_last_lines_are_each_failed_jobs_message_and_the_command_to_go_on_with(told):
    calls = Calls()
    first, second, third = list(calls.lookup.plan.jobs.values())[-3:]
    calls.begin(first, second, third)
    for number, job in enumerate((first, second, third)):
        Path(f"{number}.log").write_text(f"message {number}\n", encoding="utf-8")
        calls.start(number, job, f"{number}.log")
    for number in (0, 1):
        calls.log("…", LogEvent.ERROR, exception="RuleException")
        calls.log("Error", LogEvent.JOB_ERROR, jobid=number, log=[f"{number}.log"], rule_msg=None)
    calls.start(0, first, "0.log")  # another attempt, that succeeds
    for number in (0, 2):
        calls.log("Finished", LogEvent.JOB_FINISHED, job_id=number)
    earlier = Path("reports/smoke/provenance-0123456789.json")
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    told()
    calls.screen.give_up()
    calls.log(
        "WorkflowError: At least one job did not complete successfully.", LogEvent.ERROR, exception="WorkflowError"
    )
    assert told() == [
        "",
        f"Failed: {words(second)}",
        "    message 1",
        "    All that it said: 1.log",
        "reports/smoke/ still shows the earlier plan 0123456789.",
        "",
        "Failed. What was finished is kept, and this goes on from there:",
        "    snakemake --profile local --config 'study=it'\"'\"'s' -- all_tables",
    ]


def test_the_command_that_goes_on_is_one_that_the_users_shell_finds(monkeypatch, tmp_path):
    installed = tmp_path / "bin/snakemake"
    installed.parent.mkdir()
    installed.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    for name in ("MAKELEVEL", "SNAKEMAKE_PROFILE", "COMPUTE_AGAIN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", [str(installed), "--profile", "local", "all_tables"])
    monkeypatch.setenv("PATH", str(installed.parent))
    assert command() == "snakemake --profile local all_tables"
    monkeypatch.setenv("MAKELEVEL", "1")  # make has the environment in its PATH, and the user may not
    assert command() == "bin/snakemake --profile local all_tables"
    monkeypatch.delenv("MAKELEVEL")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("COMPUTE_AGAIN", "yes")
    assert command() == "COMPUTE_AGAIN=yes bin/snakemake --profile local all_tables"
    monkeypatch.delenv("COMPUTE_AGAIN")
    monkeypatch.setattr(sys, "argv", ["/lib/snakemake/__main__.py", "all_tables"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    assert command() == "bin/python -m snakemake all_tables"


# The time left --------------------------------------------------------------------------------------------------------

NETWORKS = "network,timm,resolution,heads,parameters,multiply_adds\n"


@pytest.fixture
def lookup(clone) -> Lookup:
    """Of the smoke study, whose networks have a thousand multiply-adds each."""
    lookup = smoke()
    folder = Path(lookup.plan.output_of(lookup.plan.networks))
    folder.mkdir(parents=True)
    names = {f"{run.model}/{run.resolution}" for run in lookup.plan.runs}
    rows = "".join(f"{name},x,16,1,1,1000\n" for name in sorted(names))
    (folder / "networks.csv").write_text(NETWORKS + rows, encoding="utf-8")
    return lookup


def test_the_time_left_is_known_to_the_second_where_all_jobs_go_alike(lookup, monkeypatch):
    """Ten seconds a start, one a million of multiply-adds, two jobs beside each other."""
    monkeypatch.setattr("time.monotonic", lambda: 0.0)
    left = TimeLeft(lookup, lookup.plan.jobs)
    counted = left.count()
    assert len([digest for digest, amount in counted.items() if amount]) > 20
    took = {digest: 10 + amount / 1e6 for digest, amount in counted.items()}
    assert left.seconds({}) is None
    done = [*sorted(took, key=counted.get)[:3], *sorted(took, key=counted.get)[-3:]]
    for digest in done:
        left.learn(digest, took[digest])
    now = sum(took[digest] for digest in done) / 2
    monkeypatch.setattr("time.monotonic", lambda: now)
    rest = sum(seconds for digest, seconds in took.items() if digest not in done)
    assert left.seconds({}) == pytest.approx(rest / 2)


def test_a_training_computes_three_times_what_a_cache_does(lookup):
    plan = lookup.plan
    student = next(job for job in plan.jobs.values() if "teacher-logits" in job.execution.folders)
    caches = [job for job in plan.jobs.values() if job.execution.output in student.execution.folders["teacher-logits"]]
    networks = dict.fromkeys((f"{run.model}/{run.resolution}" for run in plan.runs), 7)
    asked = sum(work(job, lookup, networks) for job in caches)
    assert work(student, lookup, networks) == 3 * asked > 0
    assert work(plan.jobs[plan.networks], lookup, networks) == 0
