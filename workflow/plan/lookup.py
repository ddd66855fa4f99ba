"""What the rules ask: the inputs, flags and resources of a job, by the digest in its wildcards.

The main process plans the study and writes every recipe before the first job starts. A job on a cluster parses the
Snakefile again, perhaps days later and with other params: it reads its recipe file and plans nothing.
"""

import atexit
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import NoReturn

from snakemake.exceptions import WorkflowError
from snakemake.io import ancient
from study.files_here import count_problems, counted_images, image_problems, unset_roots
from study.params import read_layers
from study.problem import ParamsError, Problem, refusal

from deit.learn.recipes import Pass
from deit.store.finished import is_complete, seal_at
from deit.store.hardware import gpus, visible
from deit.store.job import Execution, Job
from deit.store.reach import ROOT
from plan.given import refuse_unfinished
from plan.memory import asked_memory
from plan.passes import plan_passes
from plan.plan import PRUNABLE, Plan
from plan.recorded import RecordsRefused, refuse_to_compute_again
from plan.shared import plan_copies
from plan.studies import plan_study

# The commands of all jobs, and the notebooks, import deit and what stands beside this file from this clone.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [f"{ROOT}/src", f"{ROOT}/workflow", os.environ.get("PYTHONPATH")])
)
PLAN_TODAY = "import sys; from plan.studies import plan_study; print(*plan_study(sys.argv[1]).jobs)"

# Section of results/<study>/ -> the file that stands for a finished result. Folders get their names when complete.
PRODUCT = {
    "data": "manifest.json",
    "networks": "networks.csv",
    "views": "manifest.json",
    "given": "weights.safetensors",
    "teachers": "weights.safetensors",
    "adapted": "weights.safetensors",
    "teacher_logits": "manifest.json",
    "students": "weights.safetensors",
    "finetuned": "weights.safetensors",
    "predictions": "provenance.json",
    "throughput": "throughput.csv",
    "tokens": "tokens.json",
    "tables": "provenance.json",
    "passes": "provenance.json",
}


def product(folder: str) -> str:
    """results/<study>/<section>/... -> its file, whose age does not matter."""
    return ancient(f"{folder}/{PRODUCT[folder.split('/')[2]]}")


def refuse_clone() -> None:
    """ParamsError where the clone lies at a path that no program finds its parts by."""
    if os.pathsep in str(ROOT):
        why = f"'{os.pathsep}' separates folders where programs look for code (PYTHONPATH)"
        raise ParamsError(f"{ROOT}: path of the clone: {why}; move the clone to a path without it.")


def end(message: str) -> NoReturn:
    """Ends Snakemake, which would bury a message under the position in the Snakefile, with a traceback."""
    print(message, file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)


@contextmanager
def writing(folder: str) -> Iterator[None]:
    """WorkflowError where the folder of the results cannot be written."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        remedy = "make it writable for you, free its disk, or work in a clone of your own"
        raise WorkflowError(f"{folder} cannot be written ({where}: {error.strerror}): {remedy}.") from None


def lock_name(job: Job) -> str:
    """By which a result is locked; the reports of all plans go to one folder, and have one lock."""
    return job.kind if job.kind == "report" else job.digest


READS_IMAGES = ("data", "views", "train", "cache", "predict", "tokens")
"""Kinds of jobs that open the images themselves."""


class Lookup:
    """The plan in the main process, recipe files in a job."""

    def __init__(
        self, study: str, main_process: bool, elsewhere: bool = False, as_if_new: bool = False, gres_only: bool = False
    ):
        """`elsewhere`: jobs run on a cluster's nodes. `gres_only`: it knows GPUs by --gres alone."""
        self.study, self.elsewhere, self.gres_only = study, elsewhere, gres_only
        self.as_if_new = as_if_new
        self.passes: dict[str, Job] = {}
        self.plan = self._plan() if main_process else None

    def _plan(self) -> Plan:
        try:
            refuse_clone()
            plan = plan_study(self.study)
            copies = 0 if self.as_if_new else plan_copies(plan)
            self.passes = plan_passes(plan, everything=self.as_if_new)
            if copies:
                told = f"{copies} results of {self.study} are there in other studies: they are copied, not made again."
                print(told, file=sys.stderr)
            self._look_for_images(plan)
            refuse_unfinished(self.study, plan.givers, plan.unfinished())
            self._look_for_room(plan)
            self._tell_of_networks(plan)
            return plan
        except ParamsError as error:
            end(f"Nothing was started, because of params/:\n{error}")
        except WorkflowError as error:
            end(f"Nothing was started: {error}")

    def _tell_of_networks(self, plan: Plan) -> None:
        """A line where no job has built the networks yet, as timm is not asked when a study is planned."""
        if not plan.is_finished(plan.jobs[plan.networks]):
            print(f"The networks of {self.study} were not built yet: check_networks does, in seconds.", file=sys.stderr)

    def _look_for_room(self, plan: Plan) -> None:
        """WorkflowError where something is to be made and the folder of the results cannot be written."""
        folder = Path("results", self.study)
        with writing(str(folder)):
            if plan.unfinished():
                folder.mkdir(parents=True, exist_ok=True)
                if not os.access(folder, os.W_OK):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    def _look_for_images(self, plan: Plan) -> None:
        """ParamsError where jobs of this machine would miss the images; elsewhere they may have copies of their own."""
        if not any(job.kind in READS_IMAGES and not job.execution.copy_of for job in plan.unfinished()):
            return
        for key, root in unset_roots(plan.study).items():
            what = "that variable is not set here, so no image was looked for, and each job must have it"
            print(f"{key} is {root}: {what}.", file=sys.stderr)
        missing = list(image_problems(plan.study)) or self._count_images(plan)
        if missing:
            error = refusal(missing, read_layers(self.study, Path("params")))
            if not self.elsewhere:
                raise error
            print(f"Not on this machine, so each job's must have it:\n{error}", file=sys.stderr)

    def _count_images(self, plan: Plan) -> list[Problem]:
        """What is wrong with their numbers, as long as `prepare_data` has not counted them."""
        if all(plan.is_finished(job) for job in plan.of_section("data")):
            return []
        counts = counted_images(plan.study)
        if unknown := [key for key, count in counts.items() if count is None]:
            what = "prepare_data does, as it would take some seconds here"
            print(f"The images of {', '.join(unknown)} were not counted: {what}.", file=sys.stderr)
        return list(count_problems(plan.study, counts))

    def start(self, jobs: Iterable) -> None:
        """Put every recipe where the jobs will look for it; `jobs` are those of Snakemake that are about to run.

        Nothing starts where DVC could fetch the results, or where the images' folder has no name. But jobs that run
        elsewhere may have variables that are not set here: each job fills them in.
        """
        if not self.plan:
            return
        for key, root in unset_roots(self.plan.study).items():
            if not self.elsewhere:
                raise WorkflowError(f"{key} is {root}, and that variable is not set: export it first.")
        try:
            to_make = [job for job in self.plan.unfinished() if not job.execution.copy_of]
            refuse_to_compute_again(self.study, to_make)
        except RecordsRefused as error:
            raise WorkflowError(str(error)) from None
        with writing(f"results/{self.study}"):
            self.plan.write(self.passes)
            self.mark_what_is_made_again(jobs)

    def mark_what_is_made_again(self, jobs: Iterable) -> None:
        """Notes the seal of each result that is there and that Snakemake will make all the same: it was told to.

        A job, perhaps days later on another machine, so tells it from one that was finished meanwhile
        (deit.store.finished).
        """
        locks = Path(f"results/{self.study}/locks")
        locks.mkdir(exist_ok=True)
        for path in locks.glob("*.again"):
            path.unlink()
        for digest in [job.wildcards_dict["digest"] for job in jobs if "digest" in job.wildcards_dict]:
            job = self.job_of(digest)
            if is_complete(record := self.plan.record_of(job)):
                (locks / f"{lock_name(job)}.again").write_text(seal_at(record), encoding="utf-8")

    def refuse_edits_meanwhile(self) -> None:
        """Fails where params or code were edited while jobs ran, whose results are complete, but of what stood before.

        DVC records a stage when its command has ended well, with the params and code of that moment. Not asked where
        nothing was to be done. A fresh process plans, as this one has the planning code of the start in memory.
        """
        if not self.plan:
            return
        words = [sys.executable, "-c", PLAN_TODAY, self.study]
        today = subprocess.run(words, capture_output=True, encoding="utf-8")
        if set(today.stdout.split()) != self.plan.jobs.keys():
            atexit.unregister(self.name_report)
            raise WorkflowError(
                "All jobs ended well, but params/ or code were edited meanwhile. The results are those of what stood "
                "there at the start. For today's, give the command again."
            )

    def tell_what_stands(self) -> None:
        """After a failure: what is kept, and that an older report is not of these params."""
        if not self.plan:
            return
        atexit.unregister(self.name_report)
        print("Failed. What was finished is kept, and the same command goes on from there.", file=sys.stderr)
        for path in Path(f"reports/{self.study}").glob("provenance-*.json"):
            if path != self.shown:
                print(f"reports/{self.study}/ still shows the earlier plan {path.stem[-10:]}.", file=sys.stderr)

    def job(self, wildcards) -> Job:
        return self.job_of(wildcards.digest)

    def job_of(self, digest: str) -> Job:
        """A job of the plan; its recipe file's, where this is no main process."""
        if self.plan and (job := self.plan.jobs.get(digest) or self.passes.get(digest)):
            return job
        path = self.path(digest)
        if not path.exists():
            raise ValueError(f"{digest} is not in the plan of the study '{self.study}'; ask for all_tables.")
        return Job.model_validate_json(path.read_text(encoding="utf-8"))

    def recipe(self, wildcards) -> str:
        return str(self.path(wildcards.digest))

    def path(self, digest: str) -> Path:
        return Path(f"results/{self.study}/recipes/{digest}.json")

    def folder(self, wildcards) -> str:
        """Where the result of a job goes."""
        return self.job(wildcards).execution.output

    def needs(self, role: str) -> Callable:
        """An input function: the files of the results that a job reads in one role; none where it reads none so."""
        return lambda wildcards: self.inputs(wildcards).get(role, [])

    def inputs(self, wildcards) -> dict[str, list[str]]:
        """Role -> files of the results that the job reads or waits for; nothing if its own result is there already.

        Without that exception a pruned cache that is built again for a new student would make Snakemake repeat
        finished students too. `as_if_new` brings all edges back, for drawings of the DAG. What a pass makes waits for
        the pass alone.
        """
        job = self.job(wildcards)
        if not self.as_if_new and is_complete(Path(job.execution.output, "provenance.json")):
            return {}
        if job.execution.made_by:
            return {"train_pass": [product(job.execution.made_by)]}
        read = {
            flag.replace("-", "_"): [product(folder) for folder in folders]
            for flag, folders in job.execution.folders.items()
        }
        return read | {folder.split("/")[2]: [product(folder)] for folder in job.execution.after}

    def flags(self, wildcards) -> str:
        """The folders that the job reads as flags of its command."""
        folders = self.job(wildcards).execution.folders
        return " ".join(f"--{role} {' '.join(map(quote, paths))}" for role, paths in folders.items())

    def request(self, wildcards) -> Execution:
        """What the job is run with; one whose result a pass makes has only to look for it, a copy takes no GPU."""
        execution = self.job(wildcards).execution
        if execution.copy_of:
            return Execution(mem_mb=1000, minutes=execution.minutes)
        return Execution(mem_mb=1000, minutes=10) if execution.made_by else execution

    def execution(self, key: str) -> Callable:
        """A resource function: one field of the job's execution settings."""
        return lambda wildcards: getattr(self.request(wildcards), key)

    @property
    def resources(self) -> dict[str, Callable]:
        """What a job that computes asks for: GPUs, nodes, memory (MB) and time (minutes)."""
        return {
            "gpu": self.gpu,
            "gres": self.gres,
            "nodes": self.execution("nodes"),
            "mem_mb": self.memory,
            "runtime": self.execution("minutes"),
        }

    @property
    def training_resources(self) -> dict[str, Callable]:
        """Those of a training, which several nodes may share: a task a node, that srun starts."""
        several = self.on_several_nodes
        return self.resources | {"mpi": several("srun"), "tasks": several(), "tasks_per_gpu": several(0)}

    def memory(self, wildcards, attempt: int) -> int:
        """MB; more for a further attempt where an earlier one ran out of it."""
        return asked_memory(self.request(wildcards).mem_mb, wildcards.digest, attempt)

    # What a cluster is asked for; a resource that is None is not asked for at all.

    def cpus(self, wildcards) -> int:
        """CPUs of the job on each node: for each of its processes, threads and data loading processes."""
        execution = self.request(wildcards)
        return max(execution.gpus, 1) * (execution.threads + execution.workers)

    def gpu(self, wildcards) -> int | None:
        """GPUs of a job on one node; 0 asks for none. Elsewhere `gres` asks for each node's."""
        execution = self.request(wildcards)
        return execution.gpus if execution.nodes == 1 and not self.gres_only else None

    def gres(self, wildcards) -> str | None:
        execution = self.request(wildcards)
        per_node = execution.nodes > 1 or self.gres_only
        return f"gpu:{execution.gpus}" if per_node and execution.gpus else None

    def on_several_nodes(self, value: str | int | None = None) -> Callable:
        """A resource that only a job on several nodes has: `value`, or the number of its nodes."""

        def resource(wildcards) -> str | int | None:
            nodes = self.request(wildcards).nodes
            return None if nodes == 1 else nodes if value is None else value

        return resource

    def launcher(self, wildcards, resources, threads, output) -> str:
        """What starts a job alone on its result and, a training, on all GPUs that it was given, one process each.

        With the python that runs Snakemake, whatever `python` is in PATH. On a cluster that is the node's: each job is
        started there by a Snakemake of its own, which reads the rules again.
        """
        job = self.job(wildcards)
        kind = job.kind
        words = (
            f"{quote(sys.executable)} {self.started_by(wildcards)} --lock results/{self.study}/locks/{lock_name(job)}"
        )
        words += f" --finished {quote(output.provenance)}"
        if made_by := job.execution.made_by:
            return f"{words} --made-by {quote(made_by)}"
        if copy_of := job.execution.copy_of:
            return f"{words} --copy-of {quote(copy_of)}"
        gpus = int(resources.get("gpu") or (resources.get("gres") or "0").rpartition(":")[2])
        if gpus and self.is_here:
            words += f" --gpus {gpus} --share {job.execution.share}"
        if kind not in ("train", "pass"):
            return words
        for member in self.members(wildcards):
            words += f" --member results/{self.study}/locks/{member.digest} {member.execution.output}/provenance.json"
        size = f"--nodes {resources.nodes} --processes {max(gpus, 1)} --cpus {threads}"
        return f"{words} {size}"

    @property
    def is_here(self) -> bool:
        """Whether the jobs run on this machine, and this process starts them."""
        return bool(self.plan) and not self.elsewhere

    @property
    def jobs_on_gpus(self) -> int | None:
        """How many jobs this machine's GPUs take at the same time; None where they are not this machine's to count."""
        shares = {job.execution.share for job in self.plan.jobs.values() if job.execution.gpus} if self.is_here else ()
        return len(visible(gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))) * max(shares) if shares else None

    def started_by(self, wildcards) -> str:
        """launch.py; of a job that is one process on this machine, in a python that has imported its packages."""
        several = max(self.request(wildcards).gpus, 1) * self.request(wildcards).nodes > 1
        return "workflow/jobs/launch.py" if several or not self.is_here else "-IS workflow/jobs/preloaded.py"

    def members(self, wildcards) -> list[Job]:
        """The jobs whose results a pass makes; none for another job."""
        recipe = self.job(wildcards).resolved()
        digests = (*recipe.runs, *recipe.caches) if isinstance(recipe, Pass) else ()
        return [self.job_of(digest) for digest in digests]

    def targets(self, *sections: str) -> Callable:
        """An input function: the products of all planned jobs of these sections.

        Of caches and stored views only those that unfinished jobs read: the others may have been pruned. The sections'
        folders exist afterwards, even where a study has no job of the kind, as DVC stores each of them.
        """

        def products(_) -> list[str]:
            with writing(f"results/{self.study}"):
                for section in sections:
                    os.makedirs(f"results/{self.study}/{section}", exist_ok=True)
            jobs = self.plan.of_section(*sections)
            if not self.as_if_new:
                unfinished = {job.digest for job in self.plan.unfinished()}
                jobs = [job for job in jobs if job.kind not in PRUNABLE or job.digest in unfinished]
            return [product(job.execution.output) for job in jobs]

        return products

    def report(self, _) -> str:
        """An input function: the file that stands for the report, which is named last where it is asked for."""
        atexit.unregister(self.name_report)
        atexit.register(self.name_report)
        return str(self.shown)

    @property
    def shown(self) -> Path:
        """The file that exists only while reports/<study>/ shows exactly this plan."""
        (report,) = self.plan.of_section("report")
        return Path(f"reports/{self.study}/provenance-{report.digest}.json")

    def name_report(self) -> None:
        """The last line, after all of Snakemake's own: where the report is, once nothing is left to make."""
        if not self.plan.unfinished():
            print(f"The report of {self.study}: reports/{self.study}/index.html", file=sys.stderr)
