"""What a params file may say: every key of a study, its type and its bounds.

`params.py` reads files into these types, `checks.py` holds the rules between keys, `plan.py` makes runs of them.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from deit.recipes import (
    Augmentation,
    Count,
    EvaluationSet,
    EvaluationView,
    Execution,
    NonNegative,
    Objective,
    Optimisation,
    Positive,
    Probability,
    Reader,
    Recipe,
    Resources,
    Split,
    Validation,
)

TRAINING_PHASES = ("teachers", "students", "adaptation", "finetuning")
VALIDATION_IMAGES = 5000
"""On which a training is watched, at most: the standard error of an accuracy is then at most 0.7 %."""
NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
"""Of studies, models, supervisions and evaluation sets: they are parts of paths, wildcards and shell words."""
NAMES = "names hold letters, digits, - and _, at most 64, and begin with a letter or digit"
TEACHERS_STREAM = 1_000_000
"""Seed of the stream on which convnet teachers are trained: never that of a student, whose views they label later."""

Name = Annotated[str, Field(pattern=NAME)]
Seed = Annotated[int, Field(ge=0, lt=TEACHERS_STREAM)]
Models = Annotated[list[str], Field(min_length=1)]


class EvaluationParams(EvaluationSet):
    title: str
    """How tables call it."""
    paper: Literal["imagenet", "real", "v2", ""] = ""
    """The column of the paper's Table 5 that stands beside it."""


class DataParams(Recipe):
    """The images: training split and evaluation sets."""

    name: str
    root: str
    """Folder of the files below; `~` and environment variables are expanded. Not part of any digest."""
    reader: Reader
    classes: Annotated[int, Field(ge=2, le=65536)]
    channels: Literal[1, 3]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    training: Split
    held_out: Annotated[int, Field(ge=0)] = 0
    """Training images kept apart for choosing hyper-parameters."""
    evaluation: Annotated[dict[Name, EvaluationParams], Field(min_length=1)]
    primary: str
    """The evaluation set of Tables 2-4."""


class ModelParams(Recipe):
    """An architecture."""

    kind: Literal["convnet", "transformer"]
    timm: str
    """timm's name."""
    timm_distilled: str = ""
    """timm's name of the variant with a distillation token."""
    arguments: dict[str, int | float | bool | str] = {}
    """Arguments over timm's own for that name."""
    stochastic_depth: Probability = 0.1


class Resolutions(Recipe):
    pretraining: Count
    """Pixels a side."""
    finetuning: Count
    """Pixels a side; the paper's 384."""


class ViewParams(Recipe):
    """Augmentation, the same for teachers and students (paper, Table 9)."""

    repeats: Count
    scale: tuple[Positive, Positive]
    ratio: tuple[Positive, Positive]
    flip: Probability
    randaugment: Augmentation
    erasing: Probability
    mixup: NonNegative
    cutmix: NonNegative
    mix_probability: Probability
    switch_probability: Probability
    label_smoothing: Probability


class Phase(Optimisation):
    """How the runs of one phase are trained."""

    batch: Count
    """Views per optimiser step over all GPUs."""
    mix_group: Count
    """Views that share one mixing draw."""
    epoch_views: Annotated[int, Field(ge=0)] = 0
    """Views an epoch; 0 = as many as there are training images."""
    runs: dict[str, dict[str, int | float | bool | str]] = {}
    """What single runs do differently: `model` or `model/supervision` -> keys of this phase."""


class LogitsParams(Recipe):
    """The teacher cache."""

    chunk_epochs: Count
    """Epochs a caching job; chunks are filled side by side, and pruned one by one."""
    soft: Literal["dense", "top-k"]
    """What is kept for soft distillation: all logits, in the 2 (bf16) or 4 bytes of the precision, which loses nothing;
    or the k largest and the mass of the rest."""
    k: Annotated[int, Field(ge=0)] = 0
    precision: Literal["fp32", "bf16"]
    """In which the teacher computes."""


class EvaluationRecipe(Recipe):
    crop: Annotated[float, Field(gt=0, le=1)]
    """Resize to resolution / crop, then crop the centre."""
    precision: Literal["fp32", "bf16"]


class ThroughputParams(Recipe):
    batch: Annotated[int, Field(ge=0)]
    """0 = the largest power of two that fits."""
    repeats: Count


class PublishedWeights(Recipe):
    """Weights of one run that others have published."""

    hub: str = ""
    """Repository of the Hugging Face hub that timm reads; `@revision` may follow."""
    file: str = ""
    """File below released.root: safetensors, or a .pth with a state dict, alone or as its `model`."""
    sha256: str = ""
    """Of the file, or its first digits, at least eight; the authors' names of files end in them."""


class Released(Recipe):
    """Published weights in place of trained ones. A study with this section trains nothing."""

    source: Literal["hub", "files"]
    """Whether weights come from the hub, which needs a network where Snakemake runs, or from files."""
    root: str = ""
    """Folder of the files; `~` and environment variables are expanded. Not part of any digest."""
    weights: Annotated[dict[str, PublishedWeights], Field(min_length=1)]
    """model/supervision/resolution -> its weights; cells of other runs stay empty."""
    missing: dict[str, str] = {}
    """Pattern of such names -> why there are no weights, which tables say below."""


class Variant(Recipe):
    """What the runs of a variant do differently from the study, at both resolutions."""

    views: dict[str, Any] = {}
    """Keys of `views`; the runs have a stream, and teacher caches, of their own."""
    model: dict[str, Any] = {}
    """Keys of the model; `arguments` are added to its own."""
    students: dict[str, Any] = {}
    """Keys of `students`: how they are pre-trained."""
    finetuning: dict[str, Any] = {}
    """Keys of `finetuning`. A variant of nothing else starts from the study's own pre-trained run."""

    @property
    def changes_pretraining(self) -> bool:
        return bool(self.views or self.model or self.students)


class Seeds(Recipe):
    default: Annotated[list[Seed], Field(min_length=1)]
    """Seeds of every student."""
    models: dict[str, Annotated[list[Seed], Field(min_length=1)]] = {}
    """Other seeds for single students."""
    streams: Literal["shared", "per-seed"]
    """shared: all seeds see the same views, so one teacher cache serves them and the seed varies initialisation and
    stochastic depth only; per-seed: each seed has views, and caches, of its own."""


class TableParams(Recipe):
    caption: str = ""
    decimals: Annotated[int, Field(ge=0, le=4)] = 1


class Table1(TableParams):
    """Variants of the architecture."""

    models: Models


class Table2(TableParams):
    """The teacher matters."""

    student: str
    supervision: str
    teachers: Models


class Table3(TableParams):
    """The distillation method."""

    teacher: str
    students: Models
    finetuned: list[str]
    rows: dict[Literal["labels", "soft", "soft_mean", "hard", "token"], str]
    """Method -> name of the supervision."""


class Table4(TableParams):
    """Disagreement."""

    teacher: str
    student: str


class Table5(TableParams):
    """Throughput and accuracy."""

    convnets: list[str]
    students: Models
    finetuned: list[str]
    longer: dict[Name, str] = {}
    """Ending of further rows of distilled students, `1000-epochs` in the paper -> name of their supervision."""


class TokenAnalysis(TableParams):
    """Cosines of the class and the distillation token."""

    students: Models
    control: list[str] = []
    """Students also trained with two class tokens."""
    images: Count


class Ablation(TableParams):
    """The training recipe, one ingredient at a time (paper, Table 8)."""

    student: str
    supervision: str
    """Of all rows: the paper's is that from labels."""
    finetuned: bool = False
    """With a column of the fine-tuned runs, too."""
    rows: Annotated[dict[Name, str], Field(min_length=1)]
    """Row -> variant. `baseline`, the study's own recipe, stands above them."""


class Epochs(TableParams):
    """Accuracy over the length of the training (paper, Figure 3)."""

    teacher: str
    student: str
    rows: Annotated[dict[Literal["labels", "soft", "hard", "token"], str], Field(min_length=1)]
    """Method -> name of the supervision."""
    variants: Annotated[list[str], Field(min_length=1)]
    """Further lengths beside the study's own: variants of `students: {epochs: …}`."""


class Tables(Recipe):
    """The tables decide which runs exist."""

    table_1: Table1 | None = None
    table_2: Table2 | None = None
    table_3: Table3 | None = None
    table_4: Table4 | None = None
    table_5: Table5 | None = None
    token_analysis: TokenAnalysis | None = None
    accuracy_throughput: TableParams | None = None
    ablation: Ablation | None = None
    epochs: Epochs | None = None


class PassParams(Recipe):
    """Runs that one job trains together where they see the same stream: each view is made once for all of them."""

    runs: Annotated[list[str], Field(min_length=1)]
    """Patterns of names of runs, model/supervision/resolution/seed: `deit-ti/*`, `*/token-from-*/224/seed0`."""
    caches: bool = True
    """The pass asks the runs' teachers itself and fills their caches on the way; false: it waits for these caches,
    which others may need sooner and many jobs fill side by side."""
    resources: Resources = Resources()
    """Without, the most that one of the runs asks for, and the time of all."""


class ExecutionParams(Recipe):
    """Changes no result; may be edited at any time."""

    default: Resources = Resources()
    data: Resources = Resources()
    teachers: Resources = Resources()
    adaptation: Resources = Resources()
    teacher_logits: Resources = Resources()
    students: Resources = Resources()
    finetuning: Resources = Resources()
    evaluation: Resources = Resources()
    throughput: Resources = Resources()
    tables: Resources = Resources()
    models: dict[str, Resources] = {}
    """Model -> what its trainings need beyond their phase."""
    passes: dict[str, PassParams] = {}
    """Name -> runs that are trained together."""


class Study(Recipe):
    """One params file and all that comes from it."""

    title: str
    description: str
    data: DataParams
    resolutions: Resolutions
    models: Annotated[dict[Name, ModelParams], Field(min_length=1)]
    views: ViewParams
    supervision: dict[Name, Objective]
    teachers: Phase
    students: Phase
    adaptation: Phase
    """Teachers brought to the higher resolution."""
    finetuning: Phase
    stored_views: bool = False
    """Make every view once, on disk, for all runs that see it: views x pixels x 1.2 bytes."""
    teacher_logits: LogitsParams
    evaluation: EvaluationRecipe
    throughput: ThroughputParams
    seeds: Seeds
    released: Released | None = None
    """Evaluate published weights, and train nothing."""
    variants: dict[Name, Variant] = {}
    """Other recipes, for the rows of the ablation and the lengths of the epochs figure."""
    tables: Tables
    execution: ExecutionParams = ExecutionParams()

    def phase(self, name: str, run: str, supervision: str) -> Phase:
        """The settings of a phase for one run: the phase's, the model's, the run's; the last one wins."""
        phase = getattr(self, name)
        merged = phase.model_dump(exclude={"runs"})
        for key in (run, f"{run}/{supervision}"):
            merged |= phase.runs.get(key, {})
        return Phase.model_validate(merged)

    def resources(self, phase: str, model: str = "") -> Execution:
        """How a job of this phase is run."""
        layers = [self.execution.default, getattr(self.execution, phase)]
        if phase in TRAINING_PHASES and model in self.execution.models:
            layers.append(self.execution.models[model])
        return Execution(
            **{key: value for layer in layers for key, value in layer.model_dump(exclude_unset=True).items()}
        )

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
        return execution.model_copy(update={"validation": validation})
