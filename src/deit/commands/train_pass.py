"""Train runs of one stream by one job, and fill the caches of their teachers on the way."""

import argparse
import json
import logging
import shutil
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from pathlib import Path

from deit.commands import run
from deit.commands.train import check_cache, planned_input
from deit.learn.teacher import cached_teacher
from deit.learn.training import set_up, train_together, write
from deit.networks.distributed import Place, joined_ranks
from deit.see.stored_views import open_stream
from deit.see.views import ViewStream
from deit.store.checkpoints import WEIGHTS, ResumeState
from deit.store.finished import is_due
from deit.store.history import log_file
from deit.store.job import Job
from deit.store.results import Result, Unpublished, check_input, new_folder, read_job
from deit.teach.recording import PassRecorder
from deit.teach.teacher_logits import PartlyCachedTeacher, TeacherInTheLoop, load_teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", type=Path, required=True, help="beside those of its runs and caches")
    parser.add_argument("--resume", type=Path, required=True, help="folder of the folders for interrupted runs' states")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    job = read_job(arguments.recipe)
    with joined_ranks(job.execution) as place:
        logging.basicConfig(level=logging.INFO if place.writes else logging.ERROR, format="%(message)s")
        with new_folder(arguments.output, job) if place.writes else nullcontext() as folder:
            outcome = train_members(job, place, arguments.recipe.parent, arguments.resume)
            if place.writes:
                (folder / "outcome.json").write_text(json.dumps(outcome, indent=1), encoding="utf-8")


def members(digests: tuple[str, ...], recipes: Path) -> list[Job]:
    """The jobs with these digests whose results are not there yet, or to be made again."""
    jobs = [read_job(recipes / f"{digest}.json") for digest in digests]
    locks = recipes.parent / "locks"
    return [job for job in jobs if is_due(Path(job.execution.output, "provenance.json"), locks / f"{job.digest}.again")]


def train_members(job: Job, place: Place, recipes: Path, resume: Path) -> dict[str, str]:
    """Fills the folders of all runs and caches of the pass. Digest of each -> why it was given up; empty if it was not.

    What is finished is left out; that may be all of the pass.
    """
    jobs = [with_resources(each, job) for each in members(job.resolved().runs, recipes)]
    caches = [with_resources(each, job) for each in members(job.resolved().caches, recipes)]
    if not jobs and not caches:
        return {}
    results: dict[str, Unpublished] = {}
    if place.writes:
        new = partial(Unpublished, jobs=len(jobs + caches))
        results = {each.name: new(Path(each.execution.output), each, resume / each.digest) for each in jobs}
        results |= {each.name: new(Path(each.execution.output), each, keep=True) for each in caches}
    stream, outcome = stream_of((jobs + caches)[0]), {}
    with ExitStack() as opened:
        logs = {each.name: opened.enter_context(ExitStack()) for each in jobs}
        for each in jobs:
            logs[each.name].enter_context(log_file(folder_of(results, each), each.name))
        teachers = teachers_of(jobs, caches, place)
        runs = [
            set_up(each, stream, ResumeState(resume / each.digest, each.digest), place, teacher, initial_of(each))
            for each in jobs
            for teacher in [teachers.get(each.inputs.get("teacher", ""))]
        ]
        for each, one in zip(jobs, runs, strict=True):
            one.folder = folder_of(results, each)
        recorders = [
            PassRecorder(
                each, folder_of(results, each), teachers[each.inputs["teacher"]], stream, place, weights.sha256
            )
            for each in caches
            for weights in [check_input(only(each, "teacher"), each, "teacher")]
        ]
        for one in opened.enter_context(closing(train_together(runs, recorders))):
            digest = next(each.digest for each in jobs + caches if each.name == one.name)
            outcome[digest] = one.failure
            if one.name in logs:
                logs[one.name].close()  # as others of the pass have more to say
            if not one.failure and place.writes:
                one.finish() if isinstance(one, PassRecorder) else write(one, results[one.name].folder)
                results[one.name].publish()
                shutil.rmtree(resume / digest, ignore_errors=True)
    return outcome


def folder_of(results: dict[str, Unpublished], job: Job) -> Path | None:
    """Where a member's files go; rank 0 alone has such folders."""
    return results[job.name].folder if results else None


def with_resources(job: Job, of: Job) -> Job:
    """A member's job, run with the resources of the pass."""
    given = of.execution.model_dump(include={"gpus", "nodes", "threads", "workers", "deterministic"})
    return job.model_copy(update={"execution": job.execution.model_copy(update=given)})


def only(job: Job, flag: str) -> Path | None:
    """The one folder that a job is given by a flag."""
    folders = job.execution.folders.get(flag)
    return Path(folders[0]) if folders else None


def stream_of(job: Job) -> ViewStream:
    """The stream that all members see, as one of them would open it."""
    manifest = check_input(only(job, "data"), job, "data").json("manifest.json")
    return open_stream(job.resolved(), job.execution.data_root, only(job, "views"), manifest)


def initial_of(job: Job) -> Path | None:
    """The weights that a run starts from."""
    initial = planned_input(only(job, "initial"), job, "initial")
    return initial and initial.file(WEIGHTS)


def teachers_of(jobs: list[Job], caches: list[Job], place: Place) -> dict[str, PartlyCachedTeacher]:
    """Digest of a teacher run -> the teacher, read from caches that are there, and asked where `caches` are missing."""
    teachers = {}
    written = {cache.execution.output for cache in caches}  # by this pass, even where another job is done meanwhile
    for digest in {job.inputs["teacher"]: None for job in jobs + caches if "teacher" in job.inputs}:
        students = [job for job in jobs if job.inputs.get("teacher") == digest]
        folders = dict.fromkeys(path for job in students for path in job.execution.folders["teacher-logits"])
        finished = [Path(path) for path in folders if path not in written and Path(path, "provenance.json").exists()]
        missing = [cache for cache in caches if cache.inputs["teacher"] == digest]
        network = check_input(only(missing[0], "teacher"), missing[0], "teacher") if missing else None
        weights = network.sha256[WEIGHTS] if network else ""
        cached = None
        for job in students:
            for folder in finished:
                check_cache(folder, job)
            cached = cached_teacher(finished, job.resolved(), weights, epochs=())
        asked = in_the_loop(missing[0], network, place) if network else None
        teachers[digest] = PartlyCachedTeacher(cached, asked)
    return teachers


def in_the_loop(cache: Job, network: Result, place: Place) -> TeacherInTheLoop:
    """The teacher that a cache is made by."""
    recipe = cache.resolved()
    net = load_teacher(network, recipe.model, recipe.data, place.device, recipe.precision)
    return TeacherInTheLoop(net, recipe.precision)


if __name__ == "__main__":
    run(main)
