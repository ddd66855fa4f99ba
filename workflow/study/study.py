"""A study: the sections of a params file, each a file beside this one, and the rules of all but its tables."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from deit.bounds import Name, Recipe
from deit.networks.recipes import Validation
from deit.see.recipes import EvaluationSet, EvaluationView
from deit.store.job import Execution
from study.data import DataParams, data_problems
from study.evaluation import EvaluationRecipe, ThroughputParams
from study.execution import ExecutionParams
from study.given import given_problems
from study.models import ModelParams, unknown_model
from study.phases import TRAINING_PHASES, Phase
from study.problem import Problem
from study.released import Released, released_problems
from study.rules import recipe_problems
from study.seeds import Seeds, seed_problems
from study.supervision import Supervision, supervision_problems
from study.tables import Tables
from study.teacher_logits import LogitsParams
from study.transfer import Transfer, transfer_problems
from study.variants import Variant, variant_problems
from study.views import Resolutions, ViewParams, resolution_problems

VALIDATION_IMAGES = 5000
"""On which a training is watched, at most: the standard error of an accuracy is then at most 0.7 %."""


class Study(Recipe):
    """One params file and all that comes from it."""

    title: str
    """Heading of the report."""
    description: str
    """Paragraph below the report's heading: what is trained on what."""
    data: DataParams
    """The images: training split, evaluation sets, and how pixels become numbers."""
    resolutions: Resolutions
    """The two sizes of views: of pre-training, and of fine-tuning."""
    models: Annotated[dict[Name, ModelParams], Field(min_length=1)]
    """Name -> architecture. One that no table names is never trained, so it costs nothing."""
    views: ViewParams
    """How an image becomes a view: augmentation, the same for teachers and students, as the paper has it (Table 9,
    section 5.1). A teacher sees exactly the view that its student sees."""
    supervision: Supervision
    """Name -> what a student learns from (paper, section 4). Names stand in tables and in names of runs,
    `token-from-regnety-16gf`; one with the loss `labels` is needed, as every teacher learns by it."""
    teachers: Phase
    """Convnets at the lower resolution. The paper: SGD, with DeiT's data and augmentation; no learning rate, decay or
    epochs are published. They learn from a view stream of their own, so that they never label the very views that they
    learnt."""
    students: Phase
    """Transformers at the lower resolution, by the paper's recipe; those that teach, too."""
    adaptation: Phase
    """Convnet teachers brought to the higher resolution, as FixRes adapts them (paper, section 5.2); no recipe is
    published."""
    finetuning: Phase
    """Transformers brought to the higher resolution, distilled as in pre-training by the teacher at that resolution.
    Trap: the released code refuses distillation here, so no public code makes Table 3's last column."""
    stored_views: bool = False
    """Make every view once, on disk, for all runs that see it: views x pixels x channels x 1.2 bytes. Pays where views
    are small; changes no number."""
    teacher_logits: LogitsParams
    """The teacher cache: what a teacher says of every view of a stream, asked once for all students."""
    evaluation: EvaluationRecipe
    """How images are shown and computed when runs are evaluated."""
    throughput: ThroughputParams
    """How images per second are measured: inference in fp32, as in the paper's Table 1."""
    seeds: Seeds
    """How many runs stand in a cell."""
    released: Released | None = None
    """Evaluate published weights, and train nothing."""
    variants: dict[Name, Variant] = {}
    """Other recipes, for the rows of the ablation and the lengths of the epochs figure."""
    transfer: Transfer = {}
    """Name -> another data set, to which trained or given networks are taken, for the table `transfer` (arXiv version
    of the paper, Table 7)."""
    tables: Tables
    """The tables decide which runs exist. At least one."""
    execution: ExecutionParams = ExecutionParams()
    """How jobs run, on this machine or a cluster. Changes no result, up to last bits, and no name; may be edited at any
    time."""

    def phase(self, name: str, run: str, supervision: str) -> Phase:
        """The settings of a phase for one run."""
        return getattr(self, name).of(run, supervision)

    def watched(self, execution: Execution, resolution: int, data: DataParams) -> Execution:
        """With the images on which a training is watched: the held-out ones, or else of the primary evaluation set."""
        if not execution.validate_epochs:
            return execution
        name = "held_out" if data.held_out else data.primary
        if data.held_out:
            images = EvaluationSet(reader=data.reader, split=data.training, held_out=data.held_out)
        else:
            images = EvaluationSet(**data.evaluation[name].model_dump(exclude={"title", "paper"}))
        view = EvaluationView(resolution=resolution, crop=self.evaluation.crop)
        validation = Validation(name=name, evaluation_set=images, view=view, images=VALIDATION_IMAGES)
        return execution.model_copy(update={"validation": validation.model_dump(mode="json")})


def problems(study: Study) -> Iterator[Problem]:
    """Every broken rule of a study whose types are right, but for those of its tables."""
    yield from data_problems(study.data)
    yield from recipe_problems(study, TRAINING_PHASES, study.models)
    yield from given_problems(study.models, study.data, bool(study.released))
    yield from supervision_problems(study.supervision)
    yield from seed_problems(study.seeds, study.models)
    for name in study.execution.models:
        yield from unknown_model(study.models, f"execution.models.{name}", name)
    if study.released:
        yield from released_problems(study.released, study)
    yield from resolution_problems(study.resolutions)
    yield from transfer_problems(study)
    yield from variant_problems(study)
