"""Train a teacher or a student, or fine-tune one: weights, history and log."""

import argparse
import logging
import shutil
from contextlib import nullcontext
from pathlib import Path

from deit.commands import run
from deit.learn.teacher import Teacher, cached_teacher
from deit.learn.training import train
from deit.networks.distributed import Place, joined_ranks
from deit.see.stored_views import open_stream
from deit.store.checkpoints import WEIGHTS, ResumeState
from deit.store.job import Job
from deit.store.results import Result, check_input, new_folder, read_job, read_result
from deit.teach.teacher_logits import TeacherInTheLoop, load_teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--views", type=Path, help="folder of the stored views; without, they are made on the way")
    parser.add_argument("--initial", type=Path, help="run folder whose weights to start from")
    parser.add_argument("--teacher", type=Path, help="run folder, asked about every view")
    parser.add_argument("--teacher-logits", type=Path, nargs="+", default=[], help="asked instead of --teacher")
    parser.add_argument("--resume", type=Path, required=True, help="folder for the state of an interrupted run")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    job = read_job(arguments.recipe)
    folders = {"data": arguments.data, "initial": arguments.initial, "teacher": arguments.teacher}
    with joined_ranks(job.execution) as place:
        logging.basicConfig(level=logging.INFO if place.writes else logging.ERROR, format="%(message)s")
        inputs = {role: planned_input(folder, job, role) for role, folder in folders.items()}
        train_run(job, place, arguments, inputs)


def planned_input(folder: Path | None, job: Job, role: str) -> Result | None:
    """The result that a run is given in a role; None for a teacher that its caches stand in for, or where none is due.

    Raises SystemExit for an input that the run was not planned with, or its absence.
    """
    if folder and role not in job.inputs:
        raise SystemExit(f"{folder}: {job.name} was planned without any --{role}. Leave it out.")
    if folder:
        return check_input(folder, job, role)
    if role in job.inputs and role != "teacher":
        raise SystemExit(f"{job.name}: was planned with the --{role} {job.inputs[role]}, which is not given.")
    return None


def train_run(job: Job, place: Place, arguments: argparse.Namespace, inputs: dict[str, Result | None]) -> None:
    """Fills the output folder; the resume state is deleted once that folder has its name."""
    resume = ResumeState(arguments.resume, job.digest)
    teacher = teacher_of(job, place, inputs["teacher"], arguments.teacher_logits)
    initial = inputs["initial"] and inputs["initial"].file(WEIGHTS)
    manifest = inputs["data"].json("manifest.json")
    stream = open_stream(job.resolved(), job.execution.data_root, arguments.views, manifest)
    with new_folder(arguments.output, job, arguments.resume) if place.writes else nullcontext() as folder:
        train(job, stream, folder, resume, place, teacher, initial)
    if place.writes:
        shutil.rmtree(arguments.resume, ignore_errors=True)


def teacher_of(job: Job, place: Place, run: Result | None, caches: list[Path]) -> Teacher | None:
    """The teacher that the objective asks for, cached or in the loop; refuses caches of another teacher run."""
    recipe = job.resolved()
    if not recipe.objective.teacher_says:
        return None
    for cache in caches:
        check_cache(cache, job)
    if caches:
        return cached_teacher(caches, recipe, run.sha256[WEIGHTS] if run else "")
    if run is None:
        raise SystemExit(f"{job.name}: the objective {recipe.objective.loss!r} needs --teacher-logits or --teacher.")
    model = run.job.resolved().model.model_copy(update={"resolution": recipe.views.resolution})
    net = load_teacher(run, model, recipe.data, place.device, recipe.hears)
    return TeacherInTheLoop(net, recipe.hears)


def check_cache(folder: Path, job: Job) -> None:
    """Refuse a damaged cache, or one of another teacher run than the job's."""
    cache = read_result(folder)
    if (cached := cache.job.inputs["teacher"]) != job.inputs["teacher"]:
        raise SystemExit(
            f"{folder}: logits of the teacher run {cached}, but {job.name} learns from {job.inputs['teacher']}. "
            "Give the folders that the plan names."
        )
    cache.file("manifest.json")  # which lists the sha256 of the shards: each is checked when its epoch begins


if __name__ == "__main__":
    run(main)
