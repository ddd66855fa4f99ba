"""What the params say of every run: its teacher, where it starts, the views that it sees and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, cached_property

from study.changes import changed
from study.data import DataParams
from study.phases import Phase
from study.seeds import TEACHERS_STREAM
from study.study import Study
from study.transfer import TransferParams
from study.variants import Variant

from deit.learn.objectives import Objective
from deit.networks.recipes import Model
from deit.see.recipes import Data, EvaluationSet, TrainingData, Views


@dataclass(frozen=True, order=True)
class Run:
    """One trained model: {model}/{supervision}[+{variant}][-to-{data}]/{resolution}/seed{n}."""

    model: str
    supervision: str
    teacher: str
    """Model that it learns from; empty for labels."""
    resolution: int
    seed: int
    variant: str = ""
    """What it does differently, one of the study's variants; empty for the study's own recipe."""
    data: str = ""
    """The data set of `transfer` that it is taken to; empty for the study's own."""

    @property
    def name(self) -> str:
        teacher = f"-from-{self.teacher}" if self.teacher else ""
        variant = f"+{self.variant}" if self.variant else ""
        return f"{self.model}/{self.supervision}{teacher}{variant}{to(self)}/{self.resolution}/seed{self.seed}"


def to(run: Run) -> str:
    """How names of runs, networks and sheets end where they are of another data set than the study's."""
    return f"-to-{run.data}" if run.data else ""


class RunSettings:
    """The params of a study, asked run by run."""

    def __init__(self, study: Study):
        self.study = study

    @cached_property
    def labels(self) -> str:
        """The supervision by true labels, that of every teacher."""
        return next(name for name, objective in self.study.supervision.items() if objective.loss == "labels")

    @property
    def resolutions(self) -> tuple[int, int]:
        return self.study.resolutions.pretraining, self.study.resolutions.finetuning

    # Which data ------------------------------------------------------------------------------------------------------

    def data(self, name: str) -> DataParams:
        """The study's own data set, whose name is empty, or one of `transfer`."""
        return self.study.transfer[name].data if name else self.study.data

    @cache  # noqa: B019 (as long as the process: a study is planned once)
    def training_data(self, name: str) -> TrainingData:
        data = self.data(name)
        return TrainingData(split=data.training, **data.model_dump(include=set(Data.model_fields)))

    @cache  # noqa: B019
    def evaluation_sets(self, name: str) -> dict[str, EvaluationSet]:
        return {
            key: EvaluationSet(**evaluation.model_dump(exclude={"title", "paper"}))
            for key, evaluation in self.data(name).evaluation.items()
        }

    # Which runs ------------------------------------------------------------------------------------------------------

    def run(self, model: str, supervision: str, teacher: str, resolution: int, seed: int, variant: str = "") -> Run:
        """A run; its teacher is named only where the objective takes one, a variant where it makes a difference."""
        takes_teacher = bool(self.study.supervision[supervision].teacher_says)
        if variant and resolution == self.resolutions[0] and not self.study.variants[variant].changes_pretraining:
            variant = ""
        return Run(model, supervision, teacher if takes_teacher else "", resolution, seed, variant)

    def seeded(self, model: str, supervision: str, teacher: str, resolution: int, variant: str = "") -> list[Run]:
        """A run for every seed of its model; of one whose run from labels is given, that one network and no other."""
        seeds = self.seeds(model)
        if supervision == self.labels and self.study.models[model].weights and not variant:
            seeds = seeds[:1]
        return [self.run(model, supervision, teacher, resolution, seed, variant) for seed in seeds]

    def taken(self, run: Run, data: str) -> list[Run]:
        """A run of the study's own images on a data set of `transfer`, for every seed of its model."""
        return [replace(run, data=data, seed=seed) for seed in self.seeds(run.model)]

    def seeds(self, model: str) -> list[int]:
        if self.is_convnet(model) and not self.teacher_a_seed:
            return [0]
        return self.study.seeds.models.get(model, self.study.seeds.default)

    @property
    def teacher_a_seed(self) -> bool:
        """Whether students of each seed have teachers of their own."""
        return self.study.seeds.teachers == "per-seed"

    def is_convnet(self, model: str) -> bool:
        return self.study.models[model].kind == "convnet"

    def is_given(self, run: Run) -> bool:
        """Whether its weights are given, and not trained."""
        own = run.resolution == self.resolutions[0] and not run.variant and not run.data
        return bool(self.study.models[run.model].weights) and run.supervision == self.labels and own

    def teacher_of(self, run: Run) -> Run | None:
        """The teacher at the run's own resolution: that of its seed, or the first, which all students share."""
        if not run.teacher or not self.objective(run).teacher_says:
            return None
        teacher = (self.task(run).teacher or run.teacher) if run.data else run.teacher
        shared = not self.teacher_a_seed or self.study.models[teacher].weights
        seed = self.seeds(teacher)[0] if shared else run.seed
        return Run(teacher, self.labels, "", run.resolution, seed, data=run.data)

    def initial_of(self, run: Run) -> Run | None:
        """The run that a run at the higher resolution, or on another data set, starts from."""
        low, _ = self.resolutions
        if run.data:
            own = replace(run, data="")
            own = replace(own, seed=self.seeds(run.model)[0]) if self.is_given(own) else own
            return None if self.task(run).from_scratch else own
        if run.resolution == low:
            return None
        return self.run(run.model, run.supervision, run.teacher, low, run.seed, run.variant)

    # How they are trained --------------------------------------------------------------------------------------------

    def variant(self, run: Run) -> Variant:
        return self.study.variants[run.variant] if run.variant else Variant()

    def section(self, run: Run) -> str:
        """The section of the params that says how a run is trained, or, of one on another data set, with what."""
        if self.initial_of(run):
            return "adaptation" if self.is_convnet(run.model) else "finetuning"
        return "teachers" if self.is_convnet(run.model) else "students"

    def task(self, run: Run) -> TransferParams:
        """The data set of `transfer` that a run is taken to, and how it learns it."""
        return self.study.transfer[run.data]

    def general(self, run: Run) -> Phase:
        """How runs of its kind are trained, but for what `runs` say of single ones."""
        return self.task(run).training if run.data else getattr(self.study, self.section(run))

    def phase(self, run: Run) -> Phase:
        """How a run is trained: the section's keys, then those for its model and supervision, then its variant's."""
        phase = self.general(run).of(run.model, run.supervision)
        return changed(phase, {} if run.data else getattr(self.variant(run), self.section(run), {}))

    def objective(self, run: Run) -> Objective:
        """What a run learns from: its supervision, or what its phase has in place of that."""
        return self.study.supervision[self.general(run).supervision.get(run.supervision, run.supervision)]

    @cache  # noqa: B019
    def stream(self, run: Run) -> tuple[Views, int]:
        """The views of a run and the seed of their stream.

        Convnet teachers have a stream of their own, so that they never label the very views that they learnt. DeiT-B
        from labels is a student of Table 3 too, and stays on the students' stream.
        """
        phase = self.phase(run)
        params = changed(phase.sees(self.study.views), self.variant(run).views)
        views = Views(
            resolution=run.resolution,
            batch=phase.batch,
            mix_group=phase.mix_group,
            epoch_views=phase.epoch_views,
            **params.model_dump(),
        )
        seed = run.seed if self.study.seeds.streams == "per-seed" else 0
        return views, TEACHERS_STREAM + seed if self.is_convnet(run.model) else seed

    @cache  # noqa: B019
    def stream_key(self, run: Run) -> tuple[str, str, int]:
        """What tells the stream of a run from others."""
        views, seed = self.stream(run)
        return run.data, views.model_dump_json(), seed

    def network_name(self, run: Run) -> str:
        """{model}[-token][+{variant}][-to-{data}]/{resolution}: of the network alone, of any seed and supervision."""
        token = "-token" if self.study.supervision[run.supervision].tokens == 2 else ""
        variant = f"+{run.variant}" if run.variant else ""
        return f"{run.model}{token}{variant}{to(run)}/{run.resolution}"

    @cache  # noqa: B019
    def model(self, run: Run) -> Model:
        params = self.study.models[run.model].changed(self.task(run).model if run.data else self.variant(run).model)
        two_tokens = self.study.supervision[run.supervision].tokens == 2
        return Model(
            timm=params.timm_distilled if two_tokens else params.timm,
            arguments=params.arguments,
            classes=self.data(run.data).classes,
            channels=self.data(run.data).channels,
            resolution=run.resolution,
            stochastic_depth=params.stochastic_depth,
            uniform_stochastic_depth=params.uniform_stochastic_depth or None,
        )
