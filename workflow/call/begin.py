"""Before the first job: what is refused, in one message, what is told, and what is written for the jobs."""

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from plan.given import refuse_unfinished
from plan.lookup import Lookup
from plan.plan import Plan
from snakemake.settings.types import RerunTrigger
from study.files_here import checksum_problems, expanded
from study.params import read_layers
from study.problem import ParamsError, Problem, refusal

from call.images_here import count_problems, counted_images, image_problems, shared_images, unset_roots
from call.recorded import RecordsRefused, refuse_to_compute_again
from deit.store.finished import is_complete, seal_at
from deit.store.job import Job, lock_name
from deit.store.reach import ROOT

READS_IMAGES = ("data", "views", "train", "cache", "predict", "tokens")
"""Kinds of jobs that open the images themselves."""


@contextmanager
def refusals() -> Iterator[None]:
    """SystemExit with what params/ are refused for. Other errors Snakemake buries under a place in the Snakefile."""
    try:
        yield
    except ParamsError as error:
        raise SystemExit(f"Nothing was started, because of params/:\n{error}") from None


def refuse_clone() -> None:
    """ParamsError where the clone lies at a path that no program finds its parts by."""
    if os.pathsep in str(ROOT):
        why = f"'{os.pathsep}' separates folders where programs look for code (PYTHONPATH)"
        raise ParamsError(f"{ROOT}: path of the clone: {why}; move the clone to a path without it.")


def let_jobs_find_our_code() -> None:
    """The commands of all jobs, and the notebooks, import deit and the folders of workflow from this clone."""
    paths = [f"{ROOT}/src", f"{ROOT}/workflow", os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def let_existence_decide(workflow) -> None:
    """As our profiles say, also for whoever gives the command without one.

    Snakemake's other triggers compare with what a job was told when it ran, and would repeat finished work. Its
    settings are not there before the Snakefile is read.
    """
    type(workflow).rerun_triggers = frozenset({RerunTrigger.MTIME})


# When the Snakefile is read, so by a dry run too ----------------------------------------------------------------------


def look_ahead(plan: Plan, elsewhere: bool) -> None:
    """Refuses what cannot end well, and tells what a plan cannot show. `elsewhere`: jobs run on a cluster's nodes."""
    unfinished = plan.unfinished()
    if copies := sum(bool(job.execution.copy_of) for job in unfinished):
        tell(f"{copies} results of {plan.name} are there elsewhere in results/: they are copied, not made again.")
    if any(job.kind in READS_IMAGES and not job.execution.copy_of for job in unfinished):
        look_for_images(plan, elsewhere)
    refuse_unfinished(plan.name, plan.givers, unfinished)
    look_at_given_files(plan, unfinished)
    if unfinished:
        look_for_room(plan)
    if not plan.is_finished(plan.jobs[plan.networks]):  # timm is not asked when a study is planned
        tell(f"The networks of {plan.name} were not built yet: check_networks does, in seconds.")


def look_at_given_files(plan: Plan, unfinished: list[Job]) -> None:
    """ParamsError where files that imports are about to read are not the declared ones."""
    imports = [job for job in unfinished if job.kind == "import" and not job.execution.copy_of]
    sources = [(expanded(job.execution.data_root), job.recipe["source"].get("file")) for job in imports]
    files = {Path(root, file) for root, file in sources if file}  # others are from the hub or another study
    if wrong := list(checksum_problems(plan.study, files)):
        raise refusal(wrong, read_layers(plan.name, Path("params")))


def tell(line: str) -> None:
    print(line, file=sys.stderr)


def look_for_images(plan: Plan, elsewhere: bool) -> None:
    """ParamsError where jobs of this machine would miss the images; elsewhere they may have copies of their own."""
    for key, root in unset_roots(plan.study).items():
        what = "that variable is not set here, so no image was looked for, and each job must have it"
        tell(f"{key} is {root}: {what}.")
    is_counted = all(plan.is_finished(job) for job in plan.of_section("data"))
    if not is_counted and (shared := list(shared_images(plan.study))):
        raise refusal(shared, read_layers(plan.name, Path("params")))
    if missing := list(image_problems(plan.study)) or ([] if is_counted else count_images(plan)):
        error = refusal(missing, read_layers(plan.name, Path("params")))
        if not elsewhere:
            raise error
        tell(f"Not on this machine, so each job's must have it:\n{error}")


def count_images(plan: Plan) -> list[Problem]:
    """What is wrong with their numbers, as long as `prepare_data` has not counted them."""
    counts = counted_images(plan.study)
    if unknown := [key for key, count in counts.items() if count is None]:
        what = "prepare_data does, as it would take some seconds here"
        tell(f"The images of {', '.join(unknown)} were not counted: {what}.")
    return list(count_problems(plan.study, counts))


def look_for_room(plan: Plan) -> None:
    """SystemExit where the folder of the results, or the one that it will be in, is none or cannot be written."""
    folder = Path("results", plan.name)
    there = next(path for path in (folder, *folder.parents) if path.exists()).resolve()
    with writing(str(folder)):
        if not there.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
        if not os.access(there, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


@contextmanager
def writing(folder: str) -> Iterator[None]:
    """SystemExit where the folder of the results cannot be written."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        remedy = "make it writable for you, free its disk, or work in a clone of your own"
        message = f"Nothing was started: {folder} cannot be written ({where}: {error.strerror}): {remedy}."
        raise SystemExit(message) from None


# When jobs are about to start -----------------------------------------------------------------------------------------


def begin(lookup: Lookup, jobs: Iterable) -> None:
    """Puts every recipe where the jobs will look for it; `jobs` are those of Snakemake that are about to run.

    SystemExit where DVC could fetch the results, or where the images' folder has no name. But jobs that run elsewhere
    may have variables that are not set here: each job fills them in.
    """
    plan = lookup.plan
    for key, root in unset_roots(plan.study).items():
        if not lookup.elsewhere:
            raise SystemExit(f"Nothing was started: {key} is {root}, and that variable is not set: export it first.")
    try:
        refuse_to_compute_again(plan.name, [job for job in plan.unfinished() if not job.execution.copy_of])
    except RecordsRefused as error:
        raise SystemExit(str(error)) from None
    about_to_run = [lookup.job_of(job.wildcards_dict["digest"]) for job in jobs if "digest" in job.wildcards_dict]
    made_again = [job for job in about_to_run if is_complete(plan.record_of(job))]
    refuse_what_lacks_inputs(made_again)
    with writing(f"results/{plan.name}"):
        plan.write(lookup.passes)
        mark(plan, made_again)


def refuse_what_lacks_inputs(finished: list[Job]) -> None:
    """SystemExit where Snakemake was told to make a finished result again, and what it is made from is no more there.

    Of finished results it is told no inputs (plan.lookup), so it would not make these before; but of the report it is.
    """
    for job in (job for job in finished if job.kind != "report"):
        folders = [folder for folders in job.execution.folders.values() for folder in folders]
        if missing := [folder for folder in folders if not is_complete(Path(folder, "provenance.json"))]:
            raise SystemExit(
                f"Nothing was started: {job.name} is to be made again, and {missing[0]}, which it reads, is not here "
                f"(pruned, or not pulled). Delete {job.execution.output} (rm -r), and give the command without -R, "
                "--forcerun or --forceall: then it is made with all that it needs."
            )


def mark(plan: Plan, made_again: list[Job]) -> None:
    """Notes the seal of each result that is there and that Snakemake will make all the same: it was told to.

    A job, perhaps days later on another machine, so tells it from one that was finished meanwhile
    (deit.store.finished).
    """
    locks = Path(f"results/{plan.name}/locks")
    locks.mkdir(exist_ok=True)
    for path in locks.glob("*.again"):
        path.unlink()
    for job in made_again:
        name = lock_name(job.kind, job.digest)
        (locks / f"{name}.again").write_text(seal_at(plan.record_of(job)), encoding="utf-8")
