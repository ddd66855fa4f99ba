"""What the rules ask: the inputs, flags and resources of a job, by the digest in its wildcards.

The main process plans the study and writes every recipe before the first job starts. A job on a cluster parses the
Snakefile again, perhaps days later and with other params: it reads its recipe file and plans nothing.
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from shlex import quote

from snakemake.io import ancient

from deit.store.finished import is_complete
from deit.store.job import Execution, Job, lock_name
from plan.memory import asked_memory
from plan.passes import plan_passes
from plan.plan import PRUNABLE, Plan
from plan.shared import plan_copies
from plan.studies import plan_study

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


class Lookup:
    """The plan in the main process, recipe files in a job."""

    plan: Plan
    """In the main process alone."""

    def __init__(
        self, study: str, main_process: bool, elsewhere: bool = False, as_if_new: bool = False, gres_only: bool = False
    ):
        """`elsewhere`: on nodes of a cluster. `gres_only`: it knows GPUs by --gres alone. Raises ParamsError."""
        self.study, self.main_process, self.elsewhere = study, main_process, elsewhere
        self.as_if_new, self.gres_only = as_if_new, gres_only
        self.passes: dict[str, Job] = {}
        if main_process:
            self.plan = plan_study(study)
            if not as_if_new:
                plan_copies(self.plan)
            self.passes = plan_passes(self.plan, everything=as_if_new)

    def job(self, wildcards) -> Job:
        return self.job_of(wildcards.digest)

    def job_of(self, digest: str) -> Job:
        """A job of the plan; its recipe file's, where this is no main process."""
        if self.main_process and (job := self.plan.jobs.get(digest) or self.passes.get(digest)):
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

    def flags(self, wildcards) -> dict[str, str]:
        """Role -> the flag of the command with the folders that it reads so; "" in a role in which it reads none.

        They are those of the inputs, but also where Snakemake is told of none: a finished result may be made again.
        """
        folders = self.job(wildcards).execution.folders
        flags = {role: f"--{role} {' '.join(map(quote, paths))}" for role, paths in folders.items()}
        return defaultdict(str, {role.replace("-", "_"): flag for role, flag in flags.items()})

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

    @property
    def screen(self) -> str:
        """Where the output of a job goes besides its log: with Slurm to Slurm's log, which tells of every attempt."""
        return ">/dev/null" if self.main_process else ""

    def launcher(self, wildcards, resources, threads, output) -> str:
        """What starts a job alone on its result and, a training, on all GPUs that it was given, one process each.

        With the python that runs Snakemake, whatever `python` is in PATH. On a cluster that is the node's: each job is
        started there by a Snakemake of its own, which reads the rules again.
        """
        job = self.job(wildcards)
        kind = job.kind
        lock = f"results/{self.study}/locks/{lock_name(kind, job.digest)}"
        words = f"{quote(sys.executable)} {self.started_by(wildcards)} --lock {lock}"
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
        for member in self.members(job):
            words += f" --member results/{self.study}/locks/{member.digest} {member.execution.output}/provenance.json"
        size = f"--nodes {resources.nodes} --processes {max(gpus, 1)} --cpus {threads}"
        return f"{words} {size}"

    @property
    def is_here(self) -> bool:
        """Whether the jobs run on this machine, and this process starts them."""
        return self.main_process and not self.elsewhere

    def started_by(self, wildcards) -> str:
        """launch.py; of a job that is one process on this machine, in a python that has imported its packages."""
        several = max(self.request(wildcards).gpus, 1) * self.request(wildcards).nodes > 1
        return "workflow/jobs/launch.py" if several or not self.is_here else "-IS workflow/jobs/preloaded.py"

    def members(self, job: Job) -> list[Job]:
        """The jobs whose results a pass makes; none for another training."""
        return [self.job_of(digest) for part in ("runs", "caches") for digest in job.recipe.get(part, ())]

    def targets(self, *sections: str) -> Callable:
        """An input function: the products of all planned jobs of these sections.

        Of caches and stored views only those that unfinished jobs read: the others may have been pruned.
        """

        def products(_) -> list[str]:
            jobs = self.plan.of_section(*sections)
            if not self.as_if_new:
                unfinished = {job.digest for job in self.plan.unfinished()}
                jobs = [job for job in jobs if job.kind not in PRUNABLE or job.digest in unfinished]
            return [product(job.execution.output) for job in jobs]

        return products

    def report(self, _) -> str:
        """An input function: the file that exists only while reports/<study>/ shows exactly this plan."""
        (report,) = self.plan.of_section("report")
        return str(self.plan.record_of(report))
