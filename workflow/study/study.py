"""What a params file may say: every key of a study, its type and its bounds.

`params.py` reads files into these types, `checks.py` holds the rules between keys, `plan.py` makes runs of them.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializeAsAny
from pydantic_core import PydanticCustomError

from deit.bounds import (
    AsList,
    Count,
    Crop,
    Epochs,
    Few,
    Fraction,
    NonNegative,
    Option,
    Pixels,
    Probability,
    Ratio,
    Recipe,
    Size,
)
from deit.learn.objectives import Objective
from deit.learn.recipes import Optimisation
from deit.networks.recipes import Validation
from deit.see.recipes import Augmentation, Channels, EvaluationSet, EvaluationView, Reader, Split
from deit.store.job import Execution, Resources
from study.names import NAME

TRAINING_PHASES = ("teachers", "students", "adaptation", "finetuning")
VALIDATION_IMAGES = 5000
"""On which a training is watched, at most: the standard error of an accuracy is then at most 0.7 %."""
TEACHERS_STREAM = 1_000_000
"""Seed of the stream on which convnet teachers are trained: never that of a student, whose views they label later."""


def unique(values: list) -> list:
    if twice := [value for number, value in enumerate(values) if value in values[:number]]:
        raise PydanticCustomError("twice", "names {value} twice; remove one", {"value": repr(twice[0])})
    return values


Once = [AfterValidator(unique), Field(json_schema_extra={"uniqueItems": True})]
"""Of a list: each of its items makes a run, a row or a column."""
Name = Annotated[str, Field(pattern=NAME)]
Names = Annotated[list[Name], *Once]
SomeNames = Annotated[list[Name], Field(min_length=1), *Once]
Seed = Annotated[int, Field(ge=0, lt=TEACHERS_STREAM)]
SeedList = Annotated[list[Seed], Field(min_length=1), *Once]
Pattern = Annotated[str, Field(min_length=1, max_length=400)]
"""Of names of runs, with the shell's wildcards: `deit-ti/*`."""


class EvaluationParams(EvaluationSet):
    title: str
    """How tables and the report call it."""
    paper: Literal["imagenet", "real", "v2", ""] = ""
    """The column of the paper's Table 5 that stands beside it: ImageNet, ImageNet-ReaL or ImageNet-V2; empty = none."""


class DataParams(Recipe):
    """The images: training split and evaluation sets."""

    name: str
    """Of the data set, in the report and in every recipe: another name is other data, and all is made anew."""
    root: str
    """Folder of the files below; `~` and environment variables are expanded. Not part of any digest: images may move,
    and each node may have its own copy, which jobs compare with the manifest of the first."""
    reader: Reader
    """How the files are read: `idx`, gzip-compressed files in MNIST's format; `cifar`, CIFAR's official batches;
    `timm`, a folder or tar with a sub-folder a class, in timm's order: .jpg, .jpeg, .png, .bmp, .gif, .pgm, .ppm, .tif,
    .tiff, .webp. Evaluation sets name their own."""
    classes: Annotated[int, Field(ge=2, le=65536)]
    """Number of classes; another number found ends the first job. Labels are cached in 16 bits."""
    channels: Channels
    """Colours of an image: 1 = grey, 3 = RGB; others are converted. Transparency is dropped, so the colours below it
    show; what EXIF tells of an image's orientation is not applied, as timm and torchvision do not. Grey of 16 bits is
    scaled to 8; values without a known range (floats, 32 bits) and images above 180 megapixels are refused."""
    mean: Annotated[tuple[Probability, ...], AsList]
    """Per channel, of pixel values in [0, 1]; subtracted from every view. The code's: ImageNet's 0.485, 0.456,
    0.406."""
    std: Annotated[tuple[Fraction, ...], AsList]
    """Per channel, of pixel values in [0, 1]; views are divided by it. The code's: ImageNet's 0.229, 0.224, 0.225."""
    training: Split
    """The images to learn from; held-out ones are taken from them."""
    held_out: Size = 0
    """Training images kept apart for choosing hyper-parameters, drawn with a fixed seed; 0 for the final study. They
    are evaluated on by an evaluation set with the same `held_out`."""
    evaluation: Annotated[dict[Name, EvaluationParams], Field(min_length=1)]
    """Name -> images and labels on which every run is evaluated; the columns of Table 5."""
    primary: Name
    """The evaluation set of Tables 2-4, of the token analysis and of the figure, by its name."""
    decode: bool = True
    """timm reader: `prepare_data` decodes every image once, by `threads` + `workers` of `execution.data`, and refuses
    the data with the paths of all damaged ones before anything is trained. false skips that: a damaged image then ends
    the first job that reads it. Changes no number and no name."""


class ModelParams(Recipe):
    """An architecture."""

    kind: Literal["convnet", "transformer"]
    """`convnet`: trained by `teachers` and `adaptation`, with one seed. `transformer`: trained by `students` and
    `finetuning`, also where it is a teacher."""
    timm: str
    """timm's name; weights are initialised here, never downloaded."""
    timm_distilled: str = ""
    """timm's name of the variant with a distillation token; needed by the losses token and two-class-tokens."""
    arguments: dict[str, Option] = {}
    """Arguments over timm's own for that name: `embed_dim`, `num_heads`, `depth`, `patch_size` of a transformer, those
    of timm's RegNetCfg of a RegNet. Resolution, classes and channels come from elsewhere."""
    stochastic_depth: Probability = 0.1
    """Drop-path rate of the last block; it grows linearly with depth. The paper's 0.1 at all sizes (code:
    `--drop-path`); its DeiT-B diverged without. A convnet should name its own: no teacher's is published."""


class Resolutions(Recipe):
    pretraining: Pixels
    """Pixels a side of `students` and `teachers`; the paper's 224. A multiple of every transformer's patch size."""
    finetuning: Pixels
    """Pixels a side of `finetuning` and `adaptation`; the paper's 384. Larger than `pretraining`, and a multiple of
    every patch size; position embeddings are interpolated bicubically."""


class ViewParams(Recipe):
    """Augmentation, the same for teachers and students (paper, Table 9)."""

    repeats: Few
    """Repeated augmentation: views of one image in an epoch; the paper's 3, 1 = off. An epoch is not longer for it: it
    shows 1/repeats of the images. Trap: the code drops it silently on one process; here it works on any number."""
    scale: Annotated[tuple[Fraction, Fraction], AsList]
    """Area of the random crop, as a fraction of the image, least and most; the code's 0.08 to 1."""
    ratio: Annotated[tuple[Ratio, Ratio], AsList]
    """Aspect ratio of the random crop, least and most; the code's 3/4 to 4/3."""
    flip: Probability
    """Probability of a horizontal flip; the code's 0.5."""
    randaugment: Augmentation
    """timm's configuration string, of RandAugment or of AutoAugment (`original-mstd0.5`); empty = none. The paper's
    9/0.5 is `rand-m9-mstd0.5-inc1` (code: `--aa`). Trap: it posterizes some views to no bits, which Pillow 13 refuses;
    here they become black, as in the paper's runs."""
    erasing: Probability
    """Probability of random erasing, filled with noise a pixel; the paper's 0.25 (code: `--reprob 0.25 --remode
    pixel`). Without it the paper's DeiT-B diverged."""
    mixup: NonNegative
    """Alpha of mixup's Beta distribution; 0 = no mixup. The paper's 0.8 (code: `--mixup`). Trap: the paper's Table 9
    calls it a probability."""
    cutmix: NonNegative
    """Alpha of cutmix's Beta distribution; 0 = no cutmix. The paper's 1.0 (code: `--cutmix`), a probability there,
    likewise."""
    mix_probability: Probability
    """Probability that a mix group is mixed at all; code: `--mixup-prob 1.0`."""
    switch_probability: Probability
    """Probability of cutmix rather than mixup in a group that is mixed, when both are on; code: `--mixup-switch-prob
    0.5`."""
    label_smoothing: Probability
    """Smoothing of the true labels; the paper's 0.1 (code: `--smoothing`). Teacher labels are never smoothed."""


class Phase(Optimisation):
    """How the runs of one phase are trained."""

    batch: Count
    """Views per optimiser step over all GPUs, repeats included: it does not change with their number. The paper's 1024,
    512 for fine-tuning (the code's README). A multiple of `mix_group`."""
    mix_group: Count
    """Views that share one mixing draw (kind and lambda) and mix with each other; even. A hidden hyper-parameter of the
    code, where it is one GPU's batch: 16 x 64 for the paper's students, so 64. Strided over the batch, so that repeats
    of an image never meet: at least `views.repeats` groups a batch. Batch norms see one group at a time, too."""
    epoch_views: Size = 0
    """Views an epoch, the incomplete last batch dropped; 0 = as many as there are training images. At most images x
    `views.repeats`."""
    runs: dict[Pattern, dict[str, Option]] = {}
    """What single runs do differently: `model` or `model/supervision` -> keys of this phase, but `batch`, `mix_group`,
    `epoch_views`; the latter wins. Batch and views stay the phase's, as all runs of a stream share them."""


class LogitsParams(Recipe):
    """The teacher cache."""

    chunk_epochs: Epochs
    """Epochs a caching job; chunks are filled side by side, and pruned one by one. Changes no number."""
    precision: Literal["fp32", "bf16"]
    """In which the teacher computes what it tells its students. A label takes 2 bytes a view; where students learn from
    logits all are kept, in 4 bytes, or 2 with bf16, and nothing is lost: 300 epochs of ImageNet take 0.77 TB in bf16.
    Renames all that learn from a teacher."""


class EvaluationRecipe(Recipe):
    crop: Crop
    """Resize to resolution / crop, bicubic, then crop the centre. The paper's 0.875 (256 to 224); timm's tags say 0.9,
    and 1.0 at 384, which differs by a few hundredths of a point."""
    precision: Literal["fp32", "bf16"]
    """In which the networks compute when they are evaluated, whatever they were trained in."""


class ThroughputParams(Recipe):
    batch: Size
    """Images a forward pass; 0 = the largest power of two that fits into the GPU's memory, as in the paper's Table 1
    (on a CPU: 64)."""
    repeats: Count
    """Timed forward passes, after a warm-up; their mean counts. The paper's 30."""


class PublishedWeights(Recipe):
    """Weights of one run that others have published."""

    hub: str = ""
    """source hub: repository of the Hugging Face hub that timm reads; `@revision` may follow."""
    file: str = ""
    """source files: file below released.root: safetensors, or a .pth with a state dict, alone or as its `model`; read
    as tensors only."""
    sha256: str = ""
    """source files: of the file, or its first digits, at least eight; the authors' names of files end in them."""


class Released(Recipe):
    """Published weights in place of trained ones. A study with this section trains nothing."""

    source: Literal["hub", "files"]
    """Whether weights come from the hub, which needs a network where Snakemake runs, or from files."""
    root: str = ""
    """Folder of the files; `~` and environment variables are expanded. Not part of any digest."""
    weights: Annotated[dict[Pattern, PublishedWeights], Field(min_length=1)]
    """model/supervision/resolution -> its weights; cells of other runs stay empty."""
    missing: dict[Pattern, str] = {}
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
    default: SeedList
    """Seeds of every student, each a run of its own: initialisation and stochastic depth, and the views where `streams`
    says so. The paper has one seed a cell; its ablation gives ±0.2 over three. Convnets have one, 0."""
    models: dict[Name, SeedList] = {}
    """Model -> other seeds, in place of the default. Students of a teacher learn from its first."""
    streams: Literal["shared", "per-seed"]
    """shared: all seeds see the same views, so one teacher cache serves them and the seed varies initialisation and
    stochastic depth only; per-seed: each seed has views, and caches, of its own."""


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
    supervision: dict[Name, SerializeAsAny[Objective]]
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
        return execution.model_copy(update={"validation": validation.model_dump(mode="json")})


def merged(params: dict, changes: dict) -> dict:
    """The params of a model with a variant's changes; arguments are added to those that are there."""
    arguments = params["arguments"] | changes.get("arguments", {})
    return params | changes | {"arguments": arguments}
