"""Runs of all kinds whose steps may be graphs, alone or together, for the tests of graphs on a CPU and on a GPU."""

from pathlib import Path

import torch
from tiny_runs import CPU, REGNETY, stream_of, teacher_net, training_job

from deit.learn import training
from deit.learn.run_state import TrainingRun
from deit.learn.training import Shown, set_up, train_together
from deit.networks import models
from deit.networks.distributed import Place
from deit.store import checkpoints
from deit.store.checkpoints import ResumeState
from deit.store.job import Job
from deit.teach.teacher_logits import TeacherInTheLoop

KINDS = {
    "labels": {},
    "soft": {"loss": "soft"},
    "hard": {"loss": "hard"},
    "token": {"loss": "token"},
    "two tokens": {"loss": "two-class-tokens"},
    "convnet": {"model": REGNETY},
    "average": {"optimisation": {"ema_decay": 0.9}},
    "average of a convnet": {"model": REGNETY, "optimisation": {"ema_decay": 0.9}},
    "sgd, clipped": {"optimisation": {"optimizer": "sgd", "clip_gradients": 0.1}},
    "adam": {"optimisation": {"optimizer": "adam"}},
    "fine-tuning": {"loss": "token", "initial": True, "optimisation": {"train_mode": False}},
    "bf16": {"loss": "token", "optimisation": {"precision": "bf16"}},
    "a group a forward pass": {"loss": "hard", "execution": {"groups_per_forward": 1}},
}
"""Name of a kind of run -> what is changed for it."""


def job_of(root: Path, kind: str, **execution) -> Job:
    """Its name is the kind."""
    changes = dict(KINDS[kind])
    changes.pop("initial", None)
    execution |= changes.pop("execution", {})
    return training_job(root, changes.pop("loss", "labels"), execution, **changes).model_copy(update={"name": kind})


def trained(
    jobs: list[Job], folder: Path, place: Place = CPU, teacher: TeacherInTheLoop | None = None
) -> dict[str, dict[str, torch.Tensor]]:
    """Trains runs together, from where they are; name -> weights. Those that are taught share a teacher."""
    stream = stream_of(jobs[0])
    teacher = teacher or TeacherInTheLoop(teacher_net(REGNETY).to(place.device), jobs[0].resolved().hears)
    folder.mkdir(exist_ok=True)
    start = folder / "start.safetensors"
    torch.manual_seed(1)
    checkpoints.save_weights(start, models.create(jobs[0].resolved().model).state_dict())
    runs = []
    for job in jobs:
        resume = ResumeState(folder / job.name, job.digest)
        initial = start if KINDS[job.name].get("initial") else None
        runs.append(set_up(job, stream, resume, place, teacher, initial))
    ended = {}
    for one in train_together(runs):
        assert not one.failure, one.failure
        ended[one.name] = {name: tensor.cpu().clone() for name, tensor in one.learned.state_dict().items()}
    return ended


def steps_taken(monkeypatch, then=lambda a_run: None) -> list[TrainingRun]:
    """Fills with the run of each step that is taken; calls `then` after it."""
    taken, inner = [], training.take_step

    def take_step(a_run, shown):
        inner(a_run, shown)
        taken.append(a_run)
        then(a_run)

    monkeypatch.setattr(training, "take_step", take_step)
    return taken


def without_graph(job: Job) -> Job:
    return job.model_copy(update={"execution": job.execution.model_copy(update={"graph": False})})


def show_nan(monkeypatch, *steps: int) -> None:
    """Makes the views of some steps not finite."""
    inner = training.shown

    def shown(a_run, seen, answers) -> Shown:
        return inner(a_run, seen._replace(views=seen.views * (float("nan") if a_run.step in steps else 1)), answers)

    monkeypatch.setattr(training, "shown", shown)
