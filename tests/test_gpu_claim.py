"""GPUs of a machine are shared among its jobs: real processes, and a fake nvidia-smi that lists two GPUs."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from call.gpus import jobs_on_gpus
from jobs import gpu_claim, launch
from plan.lookup import Lookup
from smoke_study import ROOT

from deit.store import hardware
from deit.store.hardware import Gpu, visible
from deit.store.job import Execution, Job
from deit.store.results import provenance

FAKE = "import os, time; print('sees', os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); time.sleep(60)"
NAMES = "GPU-{0}-one, NVIDIA H100 80GB, 580.1\\nGPU-{0}-two, NVIDIA H100 80GB, 580.1\\n"


class Machine:
    """Two GPUs that no other test has, and launch.py with a command that says which it sees."""

    def __init__(self, folder: Path):
        self.folder, self.of = folder, str(os.getpid()) + folder.name
        self.one, self.two = f"GPU-{self.of}-one", f"GPU-{self.of}-two"
        (folder / "fake.py").write_text(FAKE, encoding="utf-8")
        program = folder / "bin/nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\nprintf '{NAMES.format(self.of)}'\n", encoding="utf-8")
        program.chmod(0o755)
        self.environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        self.environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"
        self.environment["PYTHONPATH"] = f"{folder}:{ROOT}/workflow:{ROOT}/src"
        self.jobs: list[subprocess.Popen] = []

    def start(self, *words: str, **variables: str) -> subprocess.Popen:
        lock = f"{self.folder}/locks/{len(self.jobs)}"
        line = [
            sys.executable,
            launch.__file__,
            "--lock",
            lock,
            "--finished",
            f"{lock}/provenance.json",
            *words,
            "fake",
        ]
        self.jobs.append(
            subprocess.Popen(line, env=self.environment | variables, stdout=subprocess.PIPE, encoding="utf-8")
        )
        return self.jobs[-1]


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path)
    yield machine
    for job in machine.jobs:
        job.kill()
        job.communicate()


def seen(job: subprocess.Popen) -> set[str]:
    """The GPUs of a job, once it has got them."""
    for line in job.stdout:
        if line.startswith("sees"):
            return {*line.split()[1].split(",")}
    raise AssertionError("it has ended")


def test_jobs_take_different_gpus_and_a_third_waits_until_one_is_free(machine):
    first, second = machine.start("--gpus", "1"), machine.start("--gpus", "1")
    own = seen(second)
    assert sorted([*seen(first), *own]) == [machine.one, machine.two]
    third = machine.start("--gpus", "1")
    assert third.stdout.readline() == "waiting for 1 of 2 GPU(s)\n"
    second.send_signal(signal.SIGKILL)
    assert seen(third) == own


def test_a_job_of_two_waits_for_both_and_holds_none_meanwhile(machine):
    first = machine.start("--gpus", "1")
    own = seen(first)
    both = machine.start("--gpus", "2")
    assert both.stdout.readline() == "waiting for 2 of 2 GPU(s)\n"
    other = machine.start("--gpus", "1")
    assert seen(other) | own == {machine.one, machine.two}
    first.kill(), other.kill()
    assert seen(both) == {machine.one, machine.two}


def test_small_jobs_share_a_gpu_which_another_one_then_does_not_get(machine):
    small = [machine.start("--gpus", "1", "--share", "2", CUDA_VISIBLE_DEVICES="1") for _ in range(2)]
    assert [seen(job) for job in small] == [{machine.two}] * 2
    whole = machine.start("--gpus", "1", CUDA_VISIBLE_DEVICES="1")
    assert whole.stdout.readline() == "waiting for 1 of 1 GPU(s)\n"
    for job in small:
        job.kill()
    assert seen(whole) == {machine.two}


def test_more_than_there_are_is_one_message(machine, monkeypatch):
    monkeypatch.setenv("PATH", machine.environment["PATH"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", machine.one)
    with pytest.raises(SystemExit, match=r"asks for 2 GPUs, and this machine has 1: lower execution's gpus\."):
        gpu_claim.claim(2, 1)


def test_without_a_driver_the_command_is_left_to_say_so(monkeypatch):
    monkeypatch.setattr(gpu_claim, "gpus", list)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu_claim.claim(1, 1)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


ALL = [Gpu(f"GPU-{letter}0", "H100", "580") for letter in "abc"]


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (None, ["GPU-a0", "GPU-b0", "GPU-c0"]),
        ("", []),
        ("2, 0", ["GPU-c0", "GPU-a0"]),
        ("GPU-b", ["GPU-b0"]),
        ("0,7,1", ["GPU-a0"]),
        ("-1", []),
        ("MIG-x,1", ["MIG-x", "GPU-b0"]),
    ],
)
def test_those_that_are_visible(named, found):
    assert [gpu.uuid for gpu in visible(ALL, named)] == found


def test_a_result_records_the_gpus_that_its_job_was_given(machine, monkeypatch):
    monkeypatch.setenv("PATH", machine.environment["PATH"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", machine.two)
    assert provenance(uses_gpus=True)["gpus"] == [{"uuid": machine.two, "name": "NVIDIA H100 80GB", "driver": "580.1"}]
    assert provenance()["gpus"] == [] and provenance()["machine"].endswith(f"{os.cpu_count()} cores")


def test_an_nvidia_smi_that_fails_lists_none(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n", encoding="utf-8")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hardware.gpus() == []


@pytest.mark.parametrize(("elsewhere", "limit"), [(False, 16), (True, None)])
def test_snakemake_is_told_how_many_jobs_the_gpus_take(machine, monkeypatch, elsewhere, limit):
    monkeypatch.setenv("PATH", machine.environment["PATH"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    asked = ({"gpus": 1, "share": 8}, {"gpus": 2}, {})
    jobs = [Job(kind="train", name="a", recipe={}, behaviour={}, execution=Execution(**each)) for each in asked]
    lookup = Lookup("study", main_process=False, elsewhere=elsewhere)
    lookup.main_process, lookup.plan = True, SimpleNamespace(jobs=dict(enumerate(jobs)))
    assert jobs_on_gpus(lookup) == limit
