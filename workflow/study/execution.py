"""The section `execution` of a params file: its keys, and what can be wrong in them."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from deit.bounds import Name, Once, Recipe
from deit.store.job import Execution, Resources
from study.models import Models
from study.phases import TRAINING_PHASES, Pattern, Phase, phase_of
from study.problem import Problem


class PassParams(Recipe):
    """Runs that one job trains together where they see the same stream: each view is made once for all of them."""

    runs: Annotated[list[Pattern], Field(min_length=1), *Once]
    """Patterns of names of runs, model/supervision/resolution/seed: `deit-ti/*`, `*/token-from-*/224/seed0`."""
    caches: bool = True
    """The pass asks the runs' teachers itself and fills their caches on the way; false: it waits for these caches,
    which others may need sooner and many jobs fill side by side."""
    resources: Resources = Resources()
    """What the pass asks for; without, the most that one of the runs asks for, and the time of all."""


class ExecutionParams(Recipe):
    """Changes no result; may be edited at any time."""

    default: Resources = Resources()
    """Of every job; the phases below, and then `models`, change single keys of it."""
    data: Resources = Resources()
    """Of `prepare_data`, which counts, compares and decodes images, and, but for `workers`, of importing published
    weights."""
    teachers: Resources = Resources()
    """Of the trainings of convnets at the lower resolution."""
    adaptation: Resources = Resources()
    """Of the trainings of convnets at the higher resolution."""
    teacher_logits: Resources = Resources()
    """Of the caches of teachers and of stored views, a job a chunk."""
    students: Resources = Resources()
    """Of the trainings of transformers at the lower resolution, teachers among them."""
    finetuning: Resources = Resources()
    """Of the trainings of transformers at the higher resolution."""
    evaluation: Resources = Resources()
    """Of predictions and of comparing tokens."""
    throughput: Resources = Resources()
    """Of measuring throughput; on a CPU, by so many `threads`."""
    tables: Resources = Resources()
    """Of rendering tables and the report."""
    models: dict[Name, Resources] = {}
    """Model -> what its trainings need beyond their phase; the last to win."""
    passes: dict[Name, PassParams] = {}
    """Name -> runs that are trained together: each view is made once for all of them. The weights are those of runs
    trained alone."""

    def of(self, phase: str, model: str = "") -> Execution:
        """How a job of this phase is run."""
        layers = [self.default, getattr(self, phase)]
        if phase in TRAINING_PHASES and model in self.models:
            layers.append(self.models[model])
        return Execution(
            **{key: value for layer in layers for key, value in layer.model_dump(exclude_unset=True).items()}
        )


def uneven_problems(
    execution: ExecutionParams, section: str, key: str, phase: Phase, models: Models
) -> Iterator[Problem]:
    """GPUs of a section that do not share the batches of a phase, which stands at `key`, evenly."""
    groups = phase.batch // phase.mix_group
    for model in ("", *(model for model in execution.models if model in models)):
        resources = execution.of(section, model)
        ranks = max(resources.gpus, 1) * resources.nodes
        if groups % ranks and (not model or phase_of(models[model], section) == section):
            own = [f"execution.models.{model}"] if model else []
            sections = [*own, f"execution.{section}", "execution.default"]
            first, *others = [f"{part}.{name}" for part in sections for name in ("gpus", "nodes")]
            text = f"{ranks} GPUs (or CPU nodes) cannot share {groups} mix groups a batch evenly"
            remedy = f"choose gpus x nodes that divide {groups}, or another {key}.mix_group."
            yield Problem(first, text, remedy, (*others, f"{key}.batch", f"{key}.mix_group"))
