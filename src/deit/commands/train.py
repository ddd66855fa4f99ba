"""Train a teacher or a student, or fine-tune one: weights, history and log."""

import argparse
import logging
import shutil
from contextlib import nullcontext
from pathlib import Path

from deit.checkpoints import ResumeState
from deit.commands import run
from deit.datasets import read_manifest
from deit.distributed import Place, joined_ranks
from deit.recipes import Job
from deit.results import check_input, made_by, new_folder, read_job
from deit.run_state import Teacher
from deit.stored_views import open_stream
from deit.teacher_logits import CachedTeacher, TeacherInTheLoop, load_teacher, weights_digest
from deit.training import train


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
    for role, folder in {"data": arguments.data, "initial": arguments.initial, "teacher": arguments.teacher}.items():
        check_planned(folder, job, role)
    with joined_ranks(job.execution) as place:
        logging.basicConfig(level=logging.INFO if place.writes else logging.ERROR, format="%(message)s")
        train_run(job, place, arguments)


def check_planned(folder: Path | None, job: Job, role: str) -> None:
    """Refuse an input that the run was not planned with, or its absence; a cache may stand in for the teacher."""
    if folder and role not in job.inputs:
        raise SystemExit(f"{folder}: {job.name} was planned without any --{role}. Leave it out.")
    if folder:
        check_input(folder, job, role)
    elif role in job.inputs and role != "teacher":
        raise SystemExit(f"{job.name}: was planned with the --{role} {job.inputs[role]}, which is not given.")


def train_run(job: Job, place: Place, arguments: argparse.Namespace) -> None:
    """Fills the output folder; the resume state is deleted once that folder has its name."""
    resume = ResumeState(arguments.resume, job.digest)
    teacher = teacher_of(job, place, arguments.teacher, arguments.teacher_logits)
    manifest = read_manifest(arguments.data)
    stream = open_stream(job.resolved(), job.execution.data_root, arguments.views, manifest)
    with new_folder(arguments.output, job, arguments.resume) if place.writes else nullcontext() as folder:
        train(job, stream, folder, resume, place, teacher, arguments.initial)
    if place.writes:
        shutil.rmtree(arguments.resume, ignore_errors=True)


def teacher_of(job: Job, place: Place, run: Path | None, caches: list[Path]) -> Teacher | None:
    """The teacher that the objective asks for, cached or in the loop; refuses caches of another teacher run."""
    recipe = job.resolved()
    if not recipe.objective.teacher_says:
        return None
    for cache in caches:
        if (cached := made_by(cache).inputs["teacher"]) != job.inputs["teacher"]:
            raise SystemExit(
                f"{cache}: logits of the teacher run {cached}, but {job.name} learns from {job.inputs['teacher']}. "
                "Give the folders that the plan names."
            )
    if caches:
        return CachedTeacher(caches, recipe, weights_digest(run) if run else None)
    if run is None:
        raise SystemExit(f"{job.name}: the objective {recipe.objective.loss!r} needs --teacher-logits or --teacher.")
    model = made_by(run).resolved().model.model_copy(update={"resolution": recipe.views.resolution})
    return TeacherInTheLoop(load_teacher(run, model, place.device), recipe)


if __name__ == "__main__":
    run(main)
