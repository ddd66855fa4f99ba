"""Ranks of one training: they learn what one does, go on together, and end together."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from jobs import launch
from tiny_runs import DEIT, REGNETY, run, training_job
from training_runs import ENVIRONMENT, NO_DROP, SGD, close, command, history, on_two_ranks, spoil, stop_at, with_data

from deit.learn import training
from deit.learn.run_state import TrainingRun
from deit.networks.distributed import Place
from deit.store import checkpoints
from deit.store.checkpoints import ResumeState
from deit.store.job import Job

pytestmark = pytest.mark.long


def test_ranks_that_cannot_share_a_batch_are_refused(tmp_path, root):
    with pytest.raises(SystemExit, match="3 processes cannot share the 4 mix groups"):
        run(training_job(root), tmp_path / "run", place=Place(torch.device("cpu"), 0, 3))


@pytest.mark.parametrize("model", [DEIT, REGNETY], ids=["deit", "regnety"])
def test_two_ranks_learn_what_one_does(tmp_path, root, model):
    job = with_data(training_job(root, model=model, optimisation=SGD), tmp_path)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    ended = subprocess.run(
        command(job, tmp_path, torchrun), env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=600
    )
    assert ended.returncode == 0, ended.stderr
    alone = run(job, tmp_path / "alone")
    assert close(checkpoints.read_weights(tmp_path / "run" / "weights.safetensors"), alone)
    for ours, theirs in zip(history(tmp_path / "run"), history(tmp_path / "alone"), strict=True):
        assert [float(x) for x in ours] == pytest.approx([float(x) for x in theirs], rel=1e-4)


def test_an_error_of_one_rank_is_told_and_not_its_consequence(tmp_path):
    def work(place: Place) -> None:
        if place.rank:
            raise ValueError("of rank 1")
        place.largest_over_ranks(0)

    first, second = on_two_ranks(tmp_path, work)
    assert first == "1" and "ValueError: of rank 1" in second


@pytest.fixture
def interrupted(tmp_path, root, monkeypatch) -> Job:
    """A training whose states after one and after two steps lie in run.resume."""
    job = training_job(root, execution={"save_minutes": 1e-9}, model=NO_DROP, optimisation=SGD)
    with monkeypatch.context() as patch:
        stop_at(patch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            run(job, tmp_path / "run")
    return job


def test_a_bad_read_on_one_rank_starts_no_rank_afresh(tmp_path, interrupted, monkeypatch, caplog):
    caplog.set_level("INFO", "deit")
    inner = Path.read_bytes

    def unreadable(path: Path) -> bytes:
        return inner(path) if "resume" not in path.name else b"damaged"

    def work(place: Place) -> None:
        if place.rank:
            monkeypatch.setattr(Path, "read_bytes", unreadable)
        run(interrupted, tmp_path / "run", place=place)

    assert on_two_ranks(tmp_path, work) == ["", ""]
    assert "resumed after 2 optimiser steps" in (tmp_path / "run/log.txt").read_text(encoding="utf-8")
    assert close(checkpoints.read_weights(tmp_path / "run/weights.safetensors"), run(interrupted, tmp_path / "alone"))


@pytest.mark.parametrize("what", ["step", "weights"])
def test_ranks_that_go_on_from_different_states_are_refused(tmp_path, interrupted, monkeypatch, what):
    inner = TrainingRun.restore

    def restore(a_run, state):
        inner(a_run, state)
        a_run.step -= what == "step" and a_run.place.rank
        a_run.net.head.bias.data.add_(1e-6 * a_run.place.rank)

    monkeypatch.setattr(TrainingRun, "restore", restore)
    first, second = on_two_ranks(tmp_path, lambda place: run(interrupted, tmp_path / "run", place=place))
    steps = "[2, 1]" if what == "step" else "[2, 2]"
    assert f"from steps {steps} and different weights" in first and second == "1"
    assert not (tmp_path / "run").exists()


def test_a_damaged_state_ends_all_ranks_and_the_one_before_serves_all(tmp_path, interrupted, caplog):
    caplog.set_level("INFO", "deit")
    work = lambda place: run(interrupted, tmp_path / "run", place=place)  # noqa: E731
    latest, previous = (tmp_path / "run.resume" / name for name in ("resume.pt", "resume.previous.pt"))
    whole = previous.read_bytes()
    for path in (latest, previous):
        path.write_bytes(path.read_bytes()[:-100])
    first, second = on_two_ranks(tmp_path, work)
    assert f"{latest}: damaged" in first and f"{previous}: damaged" in first and second == "1"
    previous.write_bytes(whole)
    assert on_two_ranks(tmp_path, work) == ["", ""]
    log = (tmp_path / "run/log.txt").read_text(encoding="utf-8")
    assert "the state before it counts" in log and "resumed after 1 optimiser steps" in log


def test_all_ranks_end_where_the_loss_of_one_is_not_finite(tmp_path, root, monkeypatch):
    spoil(monkeypatch, 2, rank=1)
    monkeypatch.setattr(training, "ASK_EVERY", 1)
    job = training_job(root, execution={"save_minutes": 1e-9})
    first, second = on_two_ranks(tmp_path, lambda place: run(job, tmp_path / "run", place=place))
    assert "step 2 (epoch 0)" in first and second == "1"
    assert ResumeState(tmp_path / "run.resume", job.digest).load()["step"] == 2


def test_all_ranks_end_where_the_disk_is_full(tmp_path, root):
    (tmp_path / "run.resume").mkdir()
    (tmp_path / "run.resume/resume.partial").symlink_to("/dev/full")
    job = training_job(root, execution={"save_minutes": 1e-9})
    first, second = on_two_ranks(tmp_path, lambda place: run(job, tmp_path / "run", place=place))
    assert "resume.partial: cannot be written (No space left on device)" in first and second == "1"


SLOW_SAVE = r"""
import os, time
from deit.learn import training
from deit.store.checkpoints import ResumeState
from deit.commands.train import main

save, step = ResumeState.save, training.take_step

def slow(resume, state):
    os.write(1, b"saving\n")
    time.sleep(2)
    save(resume, state)

def told(*arguments):
    os.write(1, b"training\n")
    step(*arguments)

ResumeState.save, training.take_step = slow, told
main()
"""


def test_two_ranks_are_given_the_time_to_save(tmp_path, root):
    """torchrun's own patience, 30 s, is shortened to 1 s here, and saving takes 2 s."""
    job = with_data(training_job(root, optimisation={"epochs": 100_000}), tmp_path)
    _python, _m, _train, *flags = command(job, tmp_path)
    (tmp_path / "slow_save.py").write_text(SLOW_SAVE, encoding="utf-8")
    environment = {**ENVIRONMENT, "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "1"}
    environment["PYTHONPATH"] += f":{tmp_path}"
    line = [*launch.torchrun(2), "--standalone", "-m", "slow_save", *flags]
    process = subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    )
    assert process.stdout.readline() == process.stdout.readline() == "training\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=600)
    assert "saving" in output and process.returncode != 0
    assert ResumeState(tmp_path / "resume", job.digest).load()["step"] >= 0
