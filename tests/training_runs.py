"""Tiny trainings that are stopped, spoilt, killed or run on two ranks, and what they leave."""

import copy
import csv
import json
import multiprocessing
import os
import sys
import time
import traceback
from pathlib import Path

import torch

from deit.learn import training
from deit.learn.schedules import learning_rate
from deit.networks.distributed import Place
from deit.see.datasets import manifest_of
from deit.see.recipes import PreparingData
from deit.store.checkpoints import ResumeState
from deit.store.job import Job
from deit.store.ranks import ending_together
from deit.store.results import new_folder

# AdamW turns rounding errors of gradients that are zero in theory (a key's bias) into steps of full length.
SGD = {"optimizer": "sgd", "learning_rate": 0.05}
NO_DROP = {"stochastic_depth": 0.0}


def close(left: dict, right: dict) -> bool:
    numbers = [name for name in left if left[name].is_floating_point()]  # batch norms also count their passes
    return all(torch.allclose(left[name], right[name], rtol=1e-4, atol=1e-5) for name in numbers)


def stop_at(monkeypatch, step: int, action) -> None:
    """Calls `action` in the middle of an optimiser step."""

    def rate(optimisation, batch, now, steps_per_epoch):
        if now == step:
            action()
        return learning_rate(optimisation, batch, now, steps_per_epoch)

    monkeypatch.setattr(training, "learning_rate", rate)


def history(folder: Path) -> list[tuple]:
    """What of history.csv is not time."""
    return [(row["step"], row["loss"], row["accuracy"], row["learning_rate"]) for row in rows_of(folder)]


def spoil(monkeypatch, *steps: int, how: str = "loss", rank: int = 0) -> None:
    """Makes the loss, or only its gradient, infinite at some steps (0 = the run's first) of a rank."""
    inner_step, inner_loss, now = training.take_step, training.objective_loss, {"step": 0}

    def objective_loss(objective, logits, targets, answers):
        loss = inner_loss(objective, logits, targets, answers)
        if now["step"] not in steps or now["rank"] != rank:
            return loss
        logits[0].register_hook(lambda gradient: gradient * float("inf"))
        return loss * float("inf") if how == "loss" else loss

    def take_step(a_run, *arguments):
        now.update(step=a_run.step, rank=a_run.place.rank)
        inner_step(a_run, *arguments)

    for function in (objective_loss, take_step):
        monkeypatch.setattr(training, function.__name__, function)


def recorded_states(monkeypatch) -> list[dict]:
    """Fills with a copy of every state that is saved."""
    states, inner = [], ResumeState.save

    def save(resume, state):
        states.append(copy.deepcopy(state))
        inner(resume, state)

    monkeypatch.setattr(ResumeState, "save", save)
    return states


def rows_of(folder: Path) -> list[dict]:
    with (folder / "history.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def command(job: Job, folder: Path, launcher: tuple[str, ...] = ()) -> list[str]:
    """The command line that trains `job` into folder/run, its recipe and data folder written."""
    recipe = folder / f"{job.digest}.json"
    recipe.write_text(job.model_dump_json(), encoding="utf-8")
    paths = {"recipe": recipe, "data": folder / "prepared", "resume": folder / "resume", "output": folder / "run"}
    flags = [f"--{name}={path}" for name, path in paths.items()]
    return [sys.executable, *launcher, "-m", "deit.commands.train", *flags]


def with_data(job: Job, folder: Path) -> Job:
    """The job with a finished data folder as its input."""
    data = Job(kind="data", name="data", recipe={}, behaviour={})
    prepared = manifest_of(PreparingData(training=job.resolved().data, evaluation_sets={}), job.execution.data_root)
    with new_folder(folder / "prepared", data) as partial:
        (partial / "manifest.json").write_text(json.dumps(prepared), encoding="utf-8")
    return job.model_copy(update={"inputs": {**job.inputs, "data": data.digest}})


PATHS = os.pathsep.join(filter(None, [str(Path(training.__file__).parents[2]), os.environ.get("PYTHONPATH")]))
ENVIRONMENT = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}


def on_two_ranks(tmp_path: Path, work) -> list[str]:
    """Calls `work(place)` on two ranks, as processes of their own; how each ended: "" or what SystemExit said.

    They join and leave as the ranks of a command do: none ends while the other one may still have to hear from it, and
    an error of one is told, not its consequence for the other.
    """
    context = multiprocessing.get_context("fork")  # so that `work` may be any function, and see what was patched
    path, said = str(tmp_path / f"store{time.monotonic_ns()}"), context.SimpleQueue()

    def rank(number: int) -> None:
        ending = ""
        try:
            store = torch.distributed.FileStore(path, 2)
            torch.distributed.init_process_group("gloo", store=store, rank=number, world_size=2)
            with ending_together(store):
                work(Place(torch.device("cpu"), number, 2))
            torch.distributed.destroy_process_group()
        except SystemExit as ended:
            ending = str(ended)
        except Exception:
            ending = traceback.format_exc()
        said.put((number, ending))

    processes = [context.Process(target=rank, args=(number,), daemon=True) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    endings = dict(said.get() for process in processes if process.exitcode == 0)
    assert [process.exitcode for process in processes] == [0, 0], endings
    return [endings[number] for number in range(2)]
