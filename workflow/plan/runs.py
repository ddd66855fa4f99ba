"""What the params say of every run: its teacher, where it starts, the views that it sees and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

from study.changes import changed
from study.phases import Phase
from study.seeds import TEACHERS_STREAM
from study.study import Study
from study.variants import Variant

from deit.learn.objectives import Objective
from deit.networks.recipes import Model
from deit.see.recipes import Views


@dataclass(frozen=True, order=True)
class Run:
    """One trained model: {model}/{supervision}[+{variant}]/{resolution}/seed{n}."""

    model: str
    supervision: str
    teacher: str
    """Model that it learns from; empty for labels."""
    resolution: int
    seed: int
    variant: str = ""
    """What it does differently, one of the study's variants; empty for the study's own recipe."""

    @property
    def name(self) -> str:
        teacher = f"-from-{self.teacher}" if self.teacher else ""
        variant = f"+{self.variant}" if self.variant else ""
        return f"{self.model}/{self.supervision}{teacher}{variant}/{self.resolution}/seed{self.seed}"


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

    def seeds(self, model: str) -> list[int]:
        if self.is_convnet(model):
            return [0]
        return self.study.seeds.models.get(model, self.study.seeds.default)

    def is_convnet(self, model: str) -> bool:
        return self.study.models[model].kind == "convnet"

    def is_given(self, run: Run) -> bool:
        """Whether its weights are given, and not trained."""
        low = run.resolution == self.resolutions[0]
        return bool(self.study.models[run.model].weights) and run.supervision == self.labels and low and not run.variant

    def teacher_of(self, run: Run) -> Run | None:
        """The teacher at the run's own resolution; all students of a model share one, of its first seed."""
        if not run.teacher or not self.objective(run).teacher_says:
            return None
        return Run(run.teacher, self.labels, "", run.resolution, self.seeds(run.teacher)[0])

    def initial_of(self, run: Run) -> Run | None:
        """The run that a run at the higher resolution starts from."""
        low, _ = self.resolutions
        if run.resolution == low:
            return None
        return self.run(run.model, run.supervision, run.teacher, low, run.seed, run.variant)

    # How they are trained --------------------------------------------------------------------------------------------

    def variant(self, run: Run) -> Variant:
        return self.study.variants[run.variant] if run.variant else Variant()

    def section(self, run: Run) -> str:
        """The section of the params that says how a run is trained."""
        low, _ = self.resolutions
        if run.resolution == low:
            return "teachers" if self.is_convnet(run.model) else "students"
        return "adaptation" if self.is_convnet(run.model) else "finetuning"

    def phase(self, run: Run) -> Phase:
        """How a run is trained: the section's keys, then those for its model and supervision, then its variant's."""
        section = self.section(run)
        phase = self.study.phase(section, run.model, run.supervision)
        return changed(phase, getattr(self.variant(run), section, {}))

    def objective(self, run: Run) -> Objective:
        """What a run learns from: its supervision, or what its phase has in place of that."""
        instead = self.study.phases()[self.section(run)].supervision
        return self.study.supervision[instead.get(run.supervision, run.supervision)]

    @cache  # noqa: B019 (as long as the process: a study is planned once)
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
        if self.is_convnet(run.model):
            return views, TEACHERS_STREAM
        return views, run.seed if self.study.seeds.streams == "per-seed" else 0

    @cache  # noqa: B019
    def stream_key(self, run: Run) -> tuple[str, int]:
        """What tells the stream of a run from others."""
        views, seed = self.stream(run)
        return views.model_dump_json(), seed

    def network_name(self, run: Run) -> str:
        """{model}[-token][+{variant}]/{resolution}: of the network alone, the same for all seeds and supervisions."""
        token = "-token" if self.study.supervision[run.supervision].tokens == 2 else ""
        variant = f"+{run.variant}" if run.variant else ""
        return f"{run.model}{token}{variant}/{run.resolution}"

    @cache  # noqa: B019
    def model(self, run: Run) -> Model:
        params = self.study.models[run.model].changed(self.variant(run).model)
        two_tokens = self.study.supervision[run.supervision].tokens == 2
        return Model(
            timm=params.timm_distilled if two_tokens else params.timm,
            arguments=params.arguments,
            classes=self.study.data.classes,
            channels=self.study.data.channels,
            resolution=run.resolution,
            stochastic_depth=params.stochastic_depth,
        )
