"""The lock of a run, and the words that start its processes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import launch
import pytest

FAKE = "import time; print('trained', flush=True); time.sleep({seconds})"


@pytest.fixture
def fake_slurm(tmp_path, monkeypatch):
    """Puts a `squeue` first in PATH that answers with one state of a job."""

    def answer(text: str, status: int = 0) -> None:
        script = tmp_path / "bin/squeue"
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\necho '{text}' >&{2 if status else 1}\nexit {status}\n")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    return answer


def lock(folder: Path, **changes) -> Path:
    """A lock of this process, changed."""
    path = folder / "lock.json"
    path.write_text(json.dumps(launch.myself() | changes))
    return path


def test_a_lock_is_taken_once(tmp_path):
    path = tmp_path / "resume/lock.json"
    assert launch.take(path) and not launch.take(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["lock.json"]


@pytest.mark.parametrize("changes", [{"pid": 2**22 + 1, "start": "1"}, {"start": "1"}], ids=["gone", "number reused"])
def test_a_lock_of_a_process_that_is_gone_counts_for_nothing(tmp_path, changes):
    path = lock(tmp_path, **changes)
    assert launch.take(path) and json.loads(path.read_text()) == launch.myself()


@pytest.mark.parametrize(
    ("said", "status", "alive"),
    [
        ("RUNNING", 0, True),
        ("COMPLETING", 0, True),
        ("PENDING", 0, False),
        ("TIMEOUT", 0, False),
        ("NODE_FAIL", 0, False),
        ("", 0, False),
        ("slurm_load_jobs error: Invalid job id specified", 1, False),
        ("slurm_load_jobs error: Unable to contact slurm controller", 1, True),
    ],
)
def test_slurm_is_asked_about_a_job_on_another_host(tmp_path, fake_slurm, said, status, alive):
    fake_slurm(said, status)
    path = lock(tmp_path, host="elsewhere", job="7")
    assert launch.take(path) is not alive


def test_a_requeued_job_takes_its_own_lock_again(tmp_path, fake_slurm, monkeypatch):
    fake_slurm("RUNNING")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert launch.take(lock(tmp_path, host="elsewhere", job="7"))


def test_without_slurm_nobody_can_tell_of_another_host(tmp_path):
    assert not launch.take(lock(tmp_path, host="elsewhere", job=""))


def launched(folder: Path, **options) -> subprocess.Popen:
    """launch.py with a module that prints a word and sleeps, as its own process."""
    (folder / "fake.py").write_text(FAKE.format(**options))
    words = ["--processes", "1", "fake", "--resume", str(folder / "resume"), "--output", str(folder / "output")]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.Popen(
        [sys.executable, launch.__file__, *words], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_the_launched_process_is_the_trainer_itself(tmp_path):
    process = launched(tmp_path, seconds=60)
    assert "1 node(s) x 1 process(es)" in process.stdout.readline()
    assert process.stdout.readline() == "trained\n"
    assert json.loads((tmp_path / "resume/lock.json").read_text())["pid"] == process.pid
    assert b"fake" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_a_second_start_waits_and_trains_nothing_that_was_finished_meanwhile(tmp_path):
    first = launched(tmp_path, seconds=60)
    first.stdout.readline(), first.stdout.readline()
    second = launched(tmp_path, seconds=0)
    assert f"process {first.pid} on" in second.stdout.readline()
    (tmp_path / "output").mkdir()
    (tmp_path / "output/provenance.json").touch()
    first.kill()
    text, _ = second.communicate(timeout=30)
    assert second.returncode == 0 and "finished by another job" in text and "trained" not in text


def test_a_run_that_is_finished_is_not_trained_again(tmp_path):
    """A job that was queued meanwhile comes late; the finished run has no resume folder any more."""
    (tmp_path / "output").mkdir()
    (tmp_path / "output/provenance.json").touch()
    text, _ = launched(tmp_path, seconds=0).communicate(timeout=30)
    assert "finished by another job" in text and "trained" not in text and not (tmp_path / "resume").exists()


def test_a_second_start_goes_on_where_the_first_has_died(tmp_path):
    first = launched(tmp_path, seconds=60)
    first.stdout.readline(), first.stdout.readline()
    second = launched(tmp_path, seconds=0)
    second.stdout.readline()
    first.kill()
    first.wait()
    start = time.monotonic()
    text, _ = second.communicate(timeout=30)
    assert "trained" in text and time.monotonic() - start < 2 * launch.WAIT_SECONDS + 5


def test_the_words_for_one_process_and_for_several():
    command = ["deit.commands.train", "--output", "a b"]
    alone = launch.started(Namespace(command=command, nodes=1, processes=1, cpus=1))
    assert alone == [sys.executable, "-m", *command]
    several = launch.started(Namespace(command=command, nodes=1, processes=8, cpus=88))
    assert "--nproc-per-node=8" in several and "--standalone" in several and several[-3:] == command


def test_torchrun_leaves_a_training_the_profiles_time_to_save():
    profile = Path(launch.__file__).parent / "profiles/slurm/config.yaml"
    assert set(re.findall(r"--signal=TERM@(\d+)", profile.read_text())) == {str(launch.SAVE_SECONDS)}
    assert f"--shutdown-timeout={launch.SAVE_SECONDS}" in launch.torchrun(2)


def test_several_nodes_need_slurm(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(SystemExit, match="--profile slurm"):
        launch.started(Namespace(command=["m"], nodes=2, processes=1, cpus=1))
