"""What the rules are told of a job: its inputs, GPUs, memory, and where the images' folder is looked for."""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from plan.lookup import Lookup
from plan.memory import LOGS, RAN_OUT
from plan.passes import plan_passes
from plan.studies import plan_study
from rule_files import FILES, RuleText, rules_of

from deit.store.job import Execution, Job

ROOT = Path(__file__).resolve().parent.parent
FIRST = 256000
ENDS = {
    "time limit": "slurmstepd: error: *** JOB 11 ON n1 CANCELLED AT 2026-11-25T03:05:04 DUE TO TIME LIMIT ***",
    "cancelled": "slurmstepd: error: *** STEP 1.0 ON n1 CANCELLED AT 2026-11-25T03:05:04 ***",
    "node": "slurmstepd: error: *** JOB 11 ON n1 CANCELLED AT 2026-11-25T03:05:04 DUE TO NODE FAILURE ***",
    "error": "FloatingPointError: the loss of epoch 3 is nan",
    "GPU": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
    "nothing": "",
}
OUT_OF_MEMORY = {
    "cgroups": "slurmstepd: error: Detected 1 oom_kill event in StepId=11.0. Some of the step tasks have been OOM ...",
    "cgroups, Slurm 20": "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=11.batch cgroup.",
    "srun": "srun: error: n1: task 0: Out Of Memory",
    "without cgroups": "slurmstepd-n1: error: StepId=1.0 exceeded memory limit (764166144 > 734003200), being killed",
    "python": "MemoryError",
    "numpy": "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 7.28 TiB for an array",
    "torch": "RuntimeError: [enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried",
    "fork": "OSError: [Errno 12] Cannot allocate memory",
}


# GPUs ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "nodes", "gres_only", "asked"),
    [
        (8, 1, False, (8, None)),
        (8, 1, True, (None, "gpu:8")),
        (0, 1, True, (None, None)),
        (8, 2, False, (None, "gpu:8")),
    ],
)
def test_gpus_are_asked_for_as_the_cluster_knows_them(tmp_path, monkeypatch, gpus, nodes, gres_only, asked):
    """--gpus of a job, or --gres of each node."""
    monkeypatch.chdir(tmp_path)
    execution = Execution(gpus=gpus, nodes=nodes)
    job = Job(kind="train", name="students/a/labels/16/seed0", recipe={}, behaviour={}, execution=execution)
    recipe = Path(f"results/study/recipes/{job.digest}.json")
    recipe.parent.mkdir(parents=True)
    recipe.write_text(job.model_dump_json(), encoding="utf-8")
    lookup, wildcards = Lookup("study", False, gres_only=gres_only), SimpleNamespace(digest=job.digest)
    assert (lookup.gpu(wildcards), lookup.gres(wildcards)) == asked


def test_what_a_rule_asks_the_cluster_for():
    """GPUs in both ways, whichever the cluster knows; several nodes for trainings only."""
    lookup = Lookup("study", False)
    assert [*lookup.resources] == ["gpu", "gres", "nodes", "mem_mb", "runtime"]
    assert lookup.training_resources.keys() - lookup.resources.keys() == {"mpi", "tasks", "tasks_per_gpu"}
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert "gpu=" not in rules and "gres=" not in rules


@pytest.mark.parametrize(
    ("execution", "plans", "elsewhere", "script"),
    [
        ({}, True, False, "preloaded.py"),
        ({"gpus": 1}, True, False, "preloaded.py"),
        ({"gpus": 2}, True, False, "launch.py"),
        ({}, True, True, "launch.py"),
        ({}, False, False, "launch.py"),
    ],
    ids=["here", "on a GPU", "on two", "to a cluster", "in a job of a cluster"],
)
def test_jobs_of_one_process_on_this_machine_are_forked(monkeypatch, execution, plans, elsewhere, script):
    monkeypatch.setattr(Lookup, "request", lambda *_: Execution(**execution))
    lookup = Lookup("study", main_process=False, elsewhere=elsewhere)
    lookup.main_process = plans
    assert lookup.started_by(SimpleNamespace()).endswith(f"workflow/jobs/{script}")


# What a job reads ----------------------------------------------------------------------------------------------------


RULES = rules_of(*FILES)
OWN_SHELL = {rule.name: rule for rule in RULES if not rule.like}
STUDIES = sorted(path.stem for path in (ROOT / "params").glob("*.yaml") if path.stem != "study")


def shell_roles(rule: RuleText) -> set[str]:
    """The roles that its shell names."""
    return rule.named or OWN_SHELL[rule.like or rule.name].named


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_input_is_named_in_the_shell_or_explained_in_the_docstring(rule):
    explained = {*re.findall(r"`(\w+)`", rule.docstring + (OWN_SHELL[rule.like].docstring if rule.like else ""))}
    assert rule.roles.keys() - explained == rule.roles.keys() & shell_roles(rule)
    assert rule.like or rule.named <= rule.roles.keys() | {"teacher_logits"}, "no edge for what the command reads"


def assert_rules_name_what_is_read(jobs: Iterable[Job]) -> None:
    """In `input`, as the job could start too early; in `shell`, as its command would not be told."""
    rules = {rule.section: rule for rule in RULES}
    for job in jobs:
        rule = rules[job.name.partition("/")[0]]
        read = {flag.replace("-", "_") for flag in job.execution.folders}
        assert read <= rule.roles.keys(), job.name
        assert read <= shell_roles(rule) or job.kind == "pass", job.name
        assert not job.execution.made_by or "train_pass" in rule.roles, job.name


@pytest.mark.parametrize("passes", [False, True], ids=["", "passes"])
@pytest.mark.parametrize("study", STUDIES)
def test_a_rule_names_every_role_in_which_its_jobs_read(study, passes, monkeypatch):
    monkeypatch.chdir(ROOT)
    plan = plan_study(study)
    if passes:
        plan.jobs |= plan_passes(plan, everything=True)
    assert_rules_name_what_is_read(plan.jobs.values())


def test_a_training_that_starts_from_given_weights_waits_for_them(tmp_path):
    source = {"timm": "deit_tiny_distilled_patch16_224.fb_in1k"}
    layer = {"extends": "imagenet", "models": {"deit-ti": {"initial": source}}}
    for path in (ROOT / "params").glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(layer), encoding="utf-8")
    jobs = plan_study("mine", tmp_path).jobs.values()
    assert "students" in {job.name.partition("/")[0] for job in jobs if "initial" in job.execution.folders}
    assert_rules_name_what_is_read(jobs)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_rules_begins_with_what_it_needs_and_makes(path):
    head, rules = path.read_text(encoding="utf-8").split('"""')[1], rules_of(path)
    assert "REQUIRED INPUTS" in head and "OUTPUTS" in head
    for rule in rules:
        assert rule.section in head, rule.name
        assert all(name == role and name in head for name, role in rule.roles.items()), rule.name


# Memory --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """What the last attempts of a job printed -> the memory that the next one is asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    execution = Execution(mem_mb=FIRST)
    job = Job(kind="train", name="students/a/labels/16/seed0", recipe={}, behaviour={}, execution=execution)
    recipe = Path(f"results/study/recipes/{job.digest}.json")
    recipe.parent.mkdir(parents=True)
    recipe.write_text(job.model_dump_json(), encoding="utf-8")
    logs = Path(f"logs/slurm/rule_distil_student/study_a_labels_16_seed0_{job.digest}")
    logs.mkdir(parents=True)

    def memory(*printed: str, attempt: int | None = None) -> int:
        for number, text in enumerate(printed, 9):  # as text, job 10 would come before job 9
            (logs / f"{number}.log").write_text(
                f"job {number} on n1\nepoch 1/30\n{text}\nElapsed time: 0:00:04\n", encoding="utf-8"
            )
        wildcards = SimpleNamespace(digest=job.digest)
        return Lookup("study", main_process=False).memory(wildcards, attempt or len(printed) + 1)

    return memory


def test_a_first_attempt_is_asked_for_what_the_params_say(asked):
    assert asked() == FIRST


@pytest.mark.parametrize("end", ENDS)
def test_an_attempt_that_did_not_run_out_of_memory_changes_nothing(asked, end):
    assert asked(*[ENDS[end]] * 11) == FIRST


@pytest.mark.parametrize("end", OUT_OF_MEMORY)
def test_an_attempt_that_ran_out_of_memory_gives_the_next_half_as_much_more(asked, end):
    assert asked(OUT_OF_MEMORY[end]) == 1.5 * FIRST
    assert asked(ENDS["time limit"], OUT_OF_MEMORY[end], ENDS["cancelled"]) == 1.5 * FIRST
    assert asked(OUT_OF_MEMORY[end], OUT_OF_MEMORY[end], ENDS["time limit"]) == 2 * FIRST


def test_it_grows_to_three_times_the_first_at_most(asked):
    assert asked(*[OUT_OF_MEMORY["cgroups"]] * 11) == 3 * FIRST


def test_earlier_calls_of_snakemake_do_not_count(asked):
    assert asked(OUT_OF_MEMORY["cgroups"], attempt=1) == FIRST
    assert asked(OUT_OF_MEMORY["cgroups"], ENDS["time limit"], attempt=2) == FIRST


def test_the_logs_are_read_where_the_profile_puts_them():
    profile = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text(encoding="utf-8"))
    assert profile["slurm-logdir"] == str(LOGS)


@pytest.mark.parametrize("code", ["bytearray(2**62)", "numpy.empty(2**58)", "torch.empty(2**58)"])
def test_the_words_of_python_numpy_and_torch(code):
    run = subprocess.run([sys.executable, "-c", f"import numpy, torch; {code}"], capture_output=True, encoding="utf-8")
    assert run.returncode and RAN_OUT.search(run.stderr), run.stderr


def test_the_job_itself_knows_the_same_number(asked, monkeypatch):
    """Snakemake evaluates it again within the job, whose own log is there by then."""
    monkeypatch.setenv("SLURM_JOB_ID", "10")
    assert asked(OUT_OF_MEMORY["cgroups"], "its own log", attempt=2) == 1.5 * FIRST
