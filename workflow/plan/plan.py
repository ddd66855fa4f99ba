"""Params -> runs -> jobs with digests: what a study needs, and the name of every result before it exists.

The rows of the tables decide which runs exist. A job's digest is made of its recipe, the digests of what it is made
from and the behaviour of its code, so the whole plan is known before anything runs, and existence is correctness.
"""

import csv
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any, Literal

from study.study import Study

from deit.bounds import Recipe
from deit.learn.recipes import Optimisation, Training
from deit.networks.recipes import (
    CheckedNetwork,
    CheckingNetworks,
    ComparingTokens,
    Importing,
    MeasuringThroughput,
    Model,
    PredictedRun,
    Predicting,
    Source,
    Weights,
)
from deit.see.recipes import EvaluationView, PreparingData, StoringViews
from deit.store.finished import is_complete
from deit.store.job import Execution, Job
from deit.store.reach import ROOT, our_code
from deit.tables.recipes import Report, Table
from deit.teach.recipes import Caching
from plan.given import Givers
from plan.runs import Run, RunSettings, to

COMMANDS = {
    "data": "deit.commands.prepare_data",
    "networks": "deit.commands.check_networks",
    "views": "deit.commands.store_views",
    "train": "deit.commands.train",
    "import": "deit.commands.import_weights",
    "cache": "deit.commands.cache_teacher_logits",
    "predict": "deit.commands.predict",
    "throughput": "deit.commands.measure_throughput",
    "tokens": "deit.commands.compare_tokens",
}
CHECKED = ("train", "import")
"""Kinds of jobs that begin when the networks of the study are known to be fit."""
PRUNABLE = ("cache", "views")
"""Kinds of results that are made for others, and can be made again from what stays."""
PAPER = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("src/deit/paper/*.csv"))
NOTEBOOK = "workflow/notebooks/table.ipynb"
RENDER = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("workflow/jobs/render*.*"))
REPORT = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("workflow/jobs/report*.*"))


@dataclass
class Plan:
    """Everything that the tables of one study need, each thing once."""

    name: str
    study: Study
    jobs: dict[str, Job] = field(default_factory=dict)
    """Digest -> job, makers before users."""
    runs: dict[Run, str] = field(default_factory=dict)
    """Run -> digest."""
    epochs: dict[tuple[str, str, int], int] = field(default_factory=dict)
    """Stream (`stream_key`) -> the epochs of the run that sees most of it."""
    caches: dict[tuple, list[str]] = field(default_factory=dict)
    """Teacher and stream (`cache_key`) -> digests of the caching jobs, in the order of their epochs."""
    prepared: dict[str, str] = field(default_factory=dict)
    """Name of a job that looks at images -> its digest."""
    networks: str = ""
    """Digest of the check of all networks."""
    givers: Givers = field(default_factory=dict)
    """Runs of other studies whose weights are given to models of this one."""
    folder: Path = Path("params")
    """Of the study's files."""

    def add(
        self,
        kind: str,
        name: str,
        recipe: Recipe,
        inputs: dict[str, str],
        reads: dict[str, list[str]],
        execution: Execution,
        roots: Iterable[str] = (),
        data: str = "",
    ) -> str:
        """Plan one job; returns its digest.

        `inputs` (role -> digest) determine the result. `reads` (flag -> digests) are the folders that the command is
        given: the same, or a teacher's cache in place of the teacher. `roots` is the modules and files
        of what runs; without, the kind's command. `data` is the data set whose images the command may read.
        """
        job = Job(
            kind=kind,
            name=name,
            recipe=recipe.model_dump(mode="json"),
            inputs=inputs,
            **our_code().made_by([*(roots or [COMMANDS[kind]]), *recipe.chosen()])._asdict(),
        )
        digest = job.digest  # computed anew whenever it is asked for
        if digest in self.jobs:  # of another data set below `transfer`, with the same images
            return digest
        place = {
            "output": f"results/{self.name}/{name}-{digest}",
            "folders": {flag: list(map(self.output_of, digests)) for flag, digests in reads.items() if digests},
            "data_root": execution.data_root or self.settings.data(data).root,
            "data_key": f"transfer.{data}.data" if data else "data",
            "after": [self.output_of(self.networks)] if kind in CHECKED and self.networks else [],
        }
        self.jobs[digest] = job.model_copy(update={"execution": execution.model_copy(update=place)})
        return digest

    def output_of(self, digest: str) -> str:
        return self.jobs[digest].execution.output

    # Data ------------------------------------------------------------------------------------------------------------

    @cached_property
    def settings(self) -> RunSettings:
        return RunSettings(self.study)

    def plan_data(self, what: Literal["training", "evaluation"], data: str) -> str:
        """Plan to look at the training images of a data set, for `evaluation` at the others, too; once."""
        name = f"data/{f'{self.settings.data(data).name}-' if data else ''}{what}"
        if name not in self.prepared:
            sets = self.settings.evaluation_sets(data) if what == "evaluation" else {}
            recipe = PreparingData(training=self.settings.training_data(data), evaluation_sets=sets)
            decode = {"decode": self.settings.data(data).decode}
            execution = self.study.execution.of("data").model_copy(update=decode)
            self.prepared[name] = self.add("data", name, recipe, {}, {}, execution, data=data)
        return self.prepared[name]

    # Networks --------------------------------------------------------------------------------------------------------

    def plan_networks(self, wanted: Iterable[Run], measured: Iterable[Run]) -> None:
        """Plan the check of every network of the wanted runs, of what they need, and of those that are only measured.

        Trainings wait for it, and are not named after it: another network of the study changes none of theirs.
        """
        trains, given = not self.study.released, self.settings.is_given
        needed = [run for run in (self.needed(wanted) if trains else wanted) if not given(run)]
        runs = dict.fromkeys(measured, False) | dict.fromkeys(needed, trains)
        networks = {}
        for run, trained in runs.items():
            initial = self.settings.initial_of(run) if trained else None
            initial = None if initial and given(initial) else initial
            networks[self.settings.network_name(run)] = CheckedNetwork(
                model=self.settings.model(run),
                heads=self.study.supervision[run.supervision].tokens,
                trained=trained,
                initial=self.settings.network_name(initial) if initial else "",
            )
        recipe = CheckingNetworks(networks=networks)
        self.networks = self.add("networks", "networks/all", recipe, {}, {}, self.study.execution.of("data"))

    # Runs ------------------------------------------------------------------------------------------------------------

    def plan_runs(self, wanted: list[Run]) -> None:
        """Plan the wanted runs and all that they need: teachers, then caches, then students.

        A teacher cache is shared by all runs of one stream and one teacher, so it is planned when all are known.
        """
        needed = self.needed(wanted)
        for run in needed:
            if self.settings.is_given(run):
                self.runs[run] = self.plan_import(
                    run.name, self.settings.model(run), self.study.models[run.model].weights
                )
                continue
            key = self.settings.stream_key(run)
            self.epochs[key] = max(self.epochs.get(key, 0), self.settings.phase(run).epochs)
        teachers = {teacher for run in needed if (teacher := self.settings.teacher_of(run))}
        teachers |= {initial for run in teachers if (initial := self.settings.initial_of(run))}
        teaching = {replace(run, seed=0) for run in teachers}  # all seeds of one lie in one folder
        learners: dict[tuple, list[Run]] = {}
        for run in needed:
            learners.setdefault(self.cache_key(run), []).append(run)
        for run in needed:
            if run not in self.runs:
                self.plan_run(run, replace(run, seed=0) in teaching, learners[self.cache_key(run)])

    def cache_key(self, run: Run) -> tuple:
        """What the runs that read one cache have in common: teacher and stream."""
        return self.settings.teacher_of(run), *self.settings.stream_key(run)

    def needed(self, wanted: Iterable[Run]) -> dict[Run, None]:
        """The wanted runs and those that they learn or start from, makers before users."""
        needed: dict[Run, None] = {}
        for run in wanted:
            self.collect(run, needed)
        return needed

    def collect(self, run: Run, needed: dict[Run, None]) -> None:
        """A run after the runs that it needs."""
        for other in (self.settings.teacher_of(run), self.settings.initial_of(run)):
            if other:
                self.collect(other, needed)
        needed[run] = None

    def plan_run(self, run: Run, is_teacher: bool, learners: list[Run]) -> None:
        phase = self.settings.phase(run)
        views, stream_seed = self.settings.stream(run)
        recipe = Training(
            data=self.settings.training_data(run.data),
            model=self.settings.model(run),
            objective=self.settings.objective(run),
            views=views,
            stream_seed=stream_seed,
            seed=run.seed,
            optimisation=phase.model_dump(include=set(Optimisation.model_fields)),
            teacher_precision=self.study.teacher_logits.precision if self.settings.teacher_of(run) else None,
        )
        inputs = {"data": self.plan_data("training", run.data)}
        if initial := self.settings.initial_of(run):
            inputs["initial"] = self.runs[initial]
        elif self.study.models[run.model].initial and not run.data:
            inputs["initial"] = self.plan_initial(run.model)
        reads = {role: [digest] for role, digest in inputs.items()} | self.stored_views(run)
        if teacher := self.settings.teacher_of(run):
            inputs["teacher"] = self.runs[teacher]
            reads["teacher-logits"] = self.plan_cache(run, teacher, learners, phase.epochs)
        section = ("adapted" if initial else "teachers") if is_teacher else ("finetuned" if initial else "students")
        execution = self.study.execution.of(self.settings.section(run), run.model)
        execution = self.study.watched(execution, run.resolution, self.settings.data(run.data))
        self.runs[run] = self.add("train", f"{section}/{run.name}", recipe, inputs, reads, execution, data=run.data)

    def plan_import(self, name: str, model: Model, source: Source, **start: Any) -> str:
        """Plan to make a run's folder of given weights, as a training would leave it; or one to `start` from."""
        data, folder, giver = self.study.data, self.study.data.root, self.givers.get((source.study, source.run))
        if source.file:
            folder, file = os.path.split(source.file)
            source = source.model_copy(update={"file": file})
        weights = Weights(**source.model_dump())
        recipe = Importing(model=model, mean=data.mean, std=data.std, source=weights, **start)
        execution = self.study.execution.of("data").model_copy(update={"data_root": folder or ".", "workers": 0})
        digest = self.add("import", f"given/{name}", recipe, {"run": giver.digest} if giver else {}, {}, execution)
        if giver:  # no job of this plan
            place = self.jobs[digest].execution.model_copy(update={"folders": {"run": [giver.execution.output]}})
            self.jobs[digest] = self.jobs[digest].model_copy(update={"execution": place})
        return digest

    def plan_initial(self, model: str) -> str:
        """Plan the import of the weights from which a model's trainings start."""
        low, _ = self.settings.resolutions
        network = self.settings.model(self.settings.run(model, self.settings.labels, "", low, 0))
        params = self.study.models[model]
        token = {"timm_distilled": params.timm_distilled or None, "starts": True}
        return self.plan_import(f"{model}/initial", network, params.initial, **token)

    def stored_views(self, run: Run) -> dict[str, list[str]]:
        """The flag by which a job is given the views of a run's stream, where the study stores them."""
        if not self.study.stored_views:
            return {}
        views, stream_seed = self.settings.stream(run)
        epochs = self.epochs[self.settings.stream_key(run)]
        data = self.settings.training_data(run.data)
        recipe = StoringViews(data=data, views=views, stream_seed=stream_seed, epochs=epochs)
        inputs = {"data": self.plan_data("training", run.data)}
        name = f"views/{views.resolution}{to(run)}/stream{stream_seed}-epochs{epochs}"
        reads, execution = {"data": list(inputs.values())}, self.study.execution.of("teacher_logits")
        return {"views": [self.add("views", name, recipe, inputs, reads, execution, data=run.data)]}

    def plan_cache(self, run: Run, teacher: Run, learners: list[Run], epochs: int) -> list[str]:
        """Caching jobs for the first `epochs` epochs of a run's stream, in chunks; digests."""
        key, chunk = self.cache_key(run), self.chunk_epochs(run)
        if key not in self.caches:
            self.caches[key] = self.plan_chunks(run, teacher, learners)
        return self.caches[key][: ceil(epochs / chunk)]

    def chunk_epochs(self, run: Run) -> int:
        """Epochs in one caching job; on another data set so many as show about as many images."""
        own, here = (self.settings.training_data(name).images for name in ("", run.data))
        return max(1, self.study.teacher_logits.chunk_epochs * own // here)

    def plan_chunks(self, run: Run, teacher: Run, learners: list[Run]) -> list[str]:
        """Caching jobs for all who learn from the teacher on the run's stream, as many as the longest of them needs."""
        logits = self.study.teacher_logits
        views, stream_seed = self.settings.stream(run)
        asked = {self.settings.objective(learner).teacher_says for learner in learners}
        longest = max(self.settings.phase(learner).epochs for learner in learners)
        digests = []
        chunk = self.chunk_epochs(run)
        for first in range(0, longest, chunk):
            last = min(first + chunk, longest) - 1
            recipe = Caching(
                data=self.settings.training_data(run.data),
                views=views,
                stream_seed=stream_seed,
                model=self.settings.model(teacher),
                first_epoch=first,
                last_epoch=last,
                keep="dense" if "logits" in asked else "labels",
                precision=logits.precision,
            )
            name = f"teacher_logits/{teacher.name}/stream{stream_seed}-epochs{first}-{last}"
            inputs = {"data": self.plan_data("training", run.data), "teacher": self.runs[teacher]}
            reads = {role: [digest] for role, digest in inputs.items()} | self.stored_views(run)
            execution = self.study.execution.of("teacher_logits")
            digests.append(self.add("cache", name, recipe, inputs, reads, execution, data=run.data))
        return digests

    # Reading ---------------------------------------------------------------------------------------------------------

    def sheet_name(self, run: Run) -> str:
        """Runs on one sheet share the evaluation views: all of one transformer, and all convnets together."""
        return f"{'convnets' if self.settings.is_convnet(run.model) else run.model}{to(run)}/{run.resolution}"

    def plan_sheets(self, wanted: list[Run]) -> dict[str, str]:
        """One predicting job a sheet, over all its runs; sheet name -> digest."""
        sheets: dict[str, list[Run]] = {}
        for run in sorted(set(wanted)):
            sheets.setdefault(self.sheet_name(run), []).append(run)
        return {name: self.plan_sheet(name, runs) for name, runs in sheets.items()}

    def plan_sheet(self, name: str, runs: list[Run]) -> str:
        evaluation, data = self.study.evaluation, runs[0].data
        recipe = Predicting(
            data=self.settings.training_data(data),
            runs=tuple(PredictedRun(run=run.name, model=self.settings.model(run)) for run in runs),
            view=EvaluationView(resolution=runs[0].resolution, crop=evaluation.crop),
            evaluation_sets=self.settings.evaluation_sets(data),
            precision=evaluation.precision,
        )
        prepared = self.plan_data("evaluation", data)
        inputs = {"data": prepared} | {run.name: self.runs[run] for run in runs}
        reads = {"data": [prepared], "runs": [self.runs[run] for run in runs]}
        execution = self.study.execution.of("evaluation")
        return self.add("predict", f"predictions/{name}", recipe, inputs, reads, execution, data=data)

    def plan_throughput(self, models: dict[str, Model]) -> str:
        params = self.study.throughput
        recipe = MeasuringThroughput(models=models, batch=params.batch, repeats=params.repeats)
        return self.add("throughput", "throughput/all", recipe, {}, {}, self.study.execution.of("throughput"))

    def plan_tokens(self, run: Run, images: int) -> str:
        recipe = ComparingTokens(
            data=self.settings.training_data(""),
            run=PredictedRun(run=run.name, model=self.settings.model(run)),
            view=EvaluationView(resolution=run.resolution, crop=self.study.evaluation.crop),
            evaluation_set=self.settings.evaluation_sets("")[self.study.data.primary],
            images=images,
        )
        inputs = {"data": self.plan_data("evaluation", ""), "run": self.runs[run]}
        reads = {role: [digest] for role, digest in inputs.items()}
        return self.add("tokens", f"tokens/{run.name}", recipe, inputs, reads, self.study.execution.of("evaluation"))

    def plan_table(self, recipe: Table, inputs: dict[str, str]) -> str:
        roots, reads = [*PAPER, NOTEBOOK, *RENDER], self.by_section(inputs.values())
        return self.add(
            "table", f"tables/{recipe.table}", recipe, inputs, reads, self.study.execution.of("tables"), roots
        )

    def plan_report(self, tables: dict[str, str], students: list[str]) -> str:
        study = self.study
        taken_to = [task.data for task in study.transfer.values()]
        evaluation_sets = {name: evaluation.title for name, evaluation in study.data.evaluation.items()}
        recipe = Report(
            study=self.name,
            title=study.title,
            description=study.description,
            data=", then ".join(dict.fromkeys(data.name for data in (study.data, *taken_to))),
            evaluation_sets=evaluation_sets | {data.name: data.evaluation[data.primary].title for data in taken_to},
            seeds={model: self.settings.seeds(model) for model in students},
            streams=study.seeds.streams,
            teachers=None if study.seeds.teachers == "one" else study.seeds.teachers,
        )
        shown = [self.jobs[digest].resolved().module for digest in tables.values()]
        given = [digest for digest, job in self.jobs.items() if job.kind == "import"]
        reads = {"tables": list(tables.values()), "given": given}
        reads["runs"] = [digest for digest in self.runs.values() if digest not in given]
        reads |= self.by_section(made for table in tables.values() for made in self.jobs[table].inputs.values())
        makers = [self.jobs[digest] for section in ("runs", "predictions") for digest in reads.get(section, [])]
        reads["data"] = list(dict.fromkeys(job.inputs["data"] for job in makers))
        return self.add(
            "report", "report", recipe, tables, reads, self.study.execution.of("tables"), [*shown, *PAPER, *REPORT]
        )

    def by_section(self, digests: Iterable[str]) -> dict[str, list[str]]:
        """Each job once, by the section of its name, which is the flag of what reads it."""
        sections: dict[str, list[str]] = {}
        for digest in dict.fromkeys(digests):
            sections.setdefault(self.jobs[digest].name.split("/")[0], []).append(digest)
        return sections

    # Asking ----------------------------------------------------------------------------------------------------------

    def of_section(self, *sections: str) -> list[Job]:
        """Planned jobs whose names begin with one of these sections."""
        return [job for job in self.jobs.values() if job.name.split("/")[0] in sections]

    def unfinished(self) -> list[Job]:
        """What is not here, but for caches and views that nothing unfinished reads: these may have been pruned."""
        missing = [job for job in self.jobs.values() if not self.is_finished(job)]
        needed: list[Job] = []
        read: set[str] = set()
        for job in reversed(missing):  # users before makers: a cache may be the only one to read the stored views
            if job.kind not in PRUNABLE or job.execution.output in read:
                needed.append(job)
                read |= {folder for folders in job.execution.folders.values() for folder in folders}
        return needed[::-1]

    def is_finished(self, job: Job) -> bool:
        """Whether its record is there and all that this lists: Snakemake makes empty folders for jobs under way."""
        return is_complete(self.record_of(job))

    def record_of(self, job: Job) -> Path:
        """The file that is written last of a result."""
        if job.kind == "report":
            return Path(f"reports/{self.name}/provenance-{job.digest}.json")
        return Path(job.execution.output, "provenance.json")

    def write(self, passes: dict[str, Job]) -> None:
        """Write every recipe, those of passes too, and plan.csv; called before the first job starts."""
        root = Path("results") / self.name
        (root / "recipes").mkdir(parents=True, exist_ok=True)
        rows = [("phase", "kind", "name", "digest", "folder")]
        for digest, job in (self.jobs | passes).items():
            _write_if_changed(root / "recipes" / f"{digest}.json", job.model_dump_json(indent=1))
        for digest, job in self.jobs.items():
            section, _, name = job.name.partition("/")
            rows.append((section, job.kind, name or section, digest, job.execution.output))
        with (root / "plan.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        partial = path.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.rename(path)
