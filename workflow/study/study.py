"""A study: the sections of a params file, each of which is a file beside this one, and what its tables may say."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from deit.bounds import Count, Name, Names, Recipe, SomeNames
from deit.networks.recipes import Validation
from deit.see.recipes import EvaluationSet, EvaluationView
from deit.store.job import Execution
from study.data import DataParams, data_problems
from study.evaluation import EvaluationRecipe, ThroughputParams
from study.execution import ExecutionParams, execution_problems
from study.models import ModelParams, model_problems, patch_problems
from study.phases import TRAINING_PHASES, Phase, phase_problems, run_problems
from study.problem import Problem
from study.released import Released, released_problems
from study.seeds import Seeds, seed_problems
from study.supervision import Supervision, supervision_problems
from study.teacher_logits import LogitsParams, cache_problems
from study.variants import Variant, Varied, variant_problems
from study.views import Resolutions, ViewParams, resolution_problems, view_problems

VALIDATION_IMAGES = 5000
"""On which a training is watched, at most: the standard error of an accuracy is then at most 0.7 %."""


class TableParams(Recipe):
    caption: str = ""
    """In place of the table's own caption; empty = that."""
    decimals: Annotated[int, Field(ge=0, le=4)] = 1
    """Of the numbers shown; the CSV files have all."""


class Table1(TableParams):
    """Variants of the architecture."""

    models: SomeNames
    """Its rows, transformers; only parameters and images per second are needed, so nothing is trained for it."""


class Table2(TableParams):
    """The teacher matters."""

    student: Name
    """The model that learns from each of the teachers; the paper's DeiT-B."""
    supervision: Name
    """Name of the supervision by which it learns. The paper does not say; its last row equals Table 3's hard
    distillation, so `hard`, without a distillation token."""
    teachers: SomeNames
    """Its rows: models, each trained from labels. Each costs a training and an adaptation, two caches, a student and
    its fine-tuning."""


class Table3(TableParams):
    """The distillation method."""

    teacher: Name
    """The model from which all students learn, itself trained from labels; the paper's RegNetY-16GF."""
    students: SomeNames
    """Its columns at the lower resolution: models, each trained once a row."""
    finetuned: Names
    """Of them, those with a column at the higher resolution; the paper's DeiT-B. Each row is then fine-tuned."""
    rows: dict[Literal["labels", "soft", "soft_mean", "hard", "token"], Name]
    """Method -> name of the supervision. `labels` and `token` are needed, by Tables 4 and 5; the three ⚗ rows are the
    one run of `token`, read through its heads. `soft_mean`: soft with `reduction: mean`."""


class Table4(TableParams):
    """Disagreement."""

    teacher: Name
    """The convnet of the matrix. The paper does not say; its numbers fit RegNetY-16GF."""
    student: Name
    """The model whose runs from labels and by token are compared, at the lower resolution, as Table 3's rows train
    them. The paper's numbers fit DeiT-B."""


class Table5(TableParams):
    """Throughput and accuracy."""

    convnets: Names
    """Rows of convnets, which become trained if no other table needs them."""
    students: SomeNames
    """Rows of students at the lower resolution, from labels and with a distillation token, trained as Table 3's
    rows."""
    finetuned: Names
    """Rows of students at the higher resolution, likewise."""
    longer: dict[Name, Name] = {}
    """Ending of further rows of distilled students, `1000-epochs` in the paper -> name of their supervision, of the
    loss token; their `epochs` stand in `runs` of the phases."""


class TokenAnalysis(TableParams):
    """Cosines of the class and the distillation token."""

    students: SomeNames
    """Students whose class and distillation token are compared, as Table 3's token row trains them."""
    control: Names = []
    """Students also trained with two class tokens, whose cosine the paper gives as 0.999; empty = no control."""
    images: Count
    """Images of the primary evaluation set over which the cosine of each layer is averaged, at most; its first ones."""


class Ablation(TableParams):
    """The training recipe, one ingredient at a time (paper, Table 8)."""

    student: Name
    """Of all rows; the paper's is DeiT-B."""
    supervision: Name
    """Of all rows; one that learns from labels alone, as the paper's."""
    finetuned: bool = False
    """With a column of the fine-tuned runs, too."""
    rows: Annotated[dict[Name, Name], Field(min_length=1)]
    """Row -> variant. `baseline`, the study's own recipe, stands above them."""


class Epochs(TableParams):
    """Accuracy over the length of the training (paper, Figure 3)."""

    teacher: Name
    """Of the distilled rows; the paper's is RegNetY-16GF."""
    student: Name
    """Of all rows; the paper's is DeiT-B."""
    rows: Annotated[dict[Literal["labels", "soft", "hard", "token"], Name], Field(min_length=1)]
    """Method -> name of the supervision."""
    variants: SomeNames
    """Further lengths beside the study's own: variants of `students: {epochs: …}`."""


class Tables(Recipe):
    """The tables decide which runs exist."""

    table_1: Table1 | None = None
    """Variants of the architecture: parameters and throughput. Absent, as any table, it is not made, and nothing runs
    for it."""
    table_2: Table2 | None = None
    """The teacher matters: one student, many teachers."""
    table_3: Table3 | None = None
    """The distillation method: methods by students. Tables 4 and 5, the token analysis and the figure read its runs."""
    table_4: Table4 | None = None
    """Disagreement: the fraction of images on which two classifiers decide differently."""
    table_5: Table5 | None = None
    """Throughput and accuracy of convnets, students and distilled students on every evaluation set."""
    token_analysis: TokenAnalysis | None = None
    """Cosines of the class and the distillation token, learned and after every layer (paper, section 4)."""
    accuracy_throughput: TableParams | None = None
    """The figure of accuracy over throughput, of Table 5's networks; `{}` is enough."""
    ablation: Ablation | None = None
    """The training recipe, one ingredient changed a row: a run, or two, for each."""
    epochs: Epochs | None = None
    """Accuracy over the length of the training."""


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
    tables: Tables
    """The tables decide which runs exist. At least one."""
    execution: ExecutionParams = ExecutionParams()
    """How jobs run, on this machine or a cluster. Changes no result, up to last bits, and no name; may be edited at any
    time."""

    def phases(self) -> dict[str, Phase]:
        return {name: getattr(self, name) for name in TRAINING_PHASES}

    def phase(self, name: str, run: str, supervision: str) -> Phase:
        """The settings of a phase for one run."""
        return self.phases()[name].of(run, supervision)

    def watched(self, execution: Execution, resolution: int) -> Execution:
        """With the images on which a training is watched: the held-out ones, or else of the primary evaluation set."""
        if not execution.validate_epochs:
            return execution
        data, name = self.data, "held_out" if self.data.held_out else self.data.primary
        if data.held_out:
            images = EvaluationSet(reader=data.reader, split=data.training, held_out=data.held_out)
        else:
            images = EvaluationSet(**data.evaluation[name].model_dump(exclude={"title", "paper"}))
        view = EvaluationView(resolution=resolution, crop=self.evaluation.crop)
        validation = Validation(name=name, evaluation_set=images, view=view, images=VALIDATION_IMAGES)
        return execution.model_copy(update={"validation": validation.model_dump(mode="json")})


def problems(study: Study) -> Iterator[Problem]:
    """Every broken rule of a study whose types are right, but for those of its tables."""
    models, phases = study.models, study.phases()
    yield from data_problems(study.data)
    for name, model in models.items():
        yield from model_problems(name, model)
    yield from patch_problems(models, study.resolutions)
    for name, phase in phases.items():
        yield from phase_problems(name, phase, study.data, study.views)
        yield from run_problems(name, phase, models, study.supervision)
    yield from supervision_problems(study.supervision)
    yield from seed_problems(study.seeds, models)
    yield from execution_problems(study.execution, phases, models)
    yield from cache_problems(study.teacher_logits, {name: phases[name] for name in ("students", "finetuning")})
    if study.released:
        yield from released_problems(study.released, models, study.supervision, study.resolutions, study.seeds)
    yield from resolution_problems(study.resolutions)
    yield from view_problems(study.views)
    for name, variant in study.variants.items():
        yield from variant_problems(name, variant, varied(study))


def varied(study: Study) -> Varied:
    """What variants change of a study: its sections, and the students of the tables that name variants."""
    named = [table.student for table in (study.tables.ablation, study.tables.epochs) if table]
    parts = {name: getattr(study, name) for name in ("data", "resolutions", "models", "supervision", "views")}
    return Varied(
        students=study.students,
        finetuning=study.finetuning,
        students_of_tables=[name for name in dict.fromkeys(named) if name in study.models],
        **parts,
    )
