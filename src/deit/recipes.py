"""What a command is asked to do: resolved, validated, immutable.

A *job* is one step of the pipeline. Its recipe, the digests of what it is made from and the behaviour of its code
determine its result, and so its digest, which ends the name of the folder that it fills. `execution` says how to run it
(GPUs, workers, where the data lies); it may be edited freely, because it changes no result.

The descriptions below the fields are docstrings on purpose: they can be reworded without giving any result a new name.
"""

import hashlib
import json
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

DIGEST_LENGTH = 10

Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Reader = Literal["idx", "cifar", "timm"]
Part = Literal["images", "labels", "batch_1", "batch_2", "batch_3", "batch_4", "batch_5"]

# Part by part: timm overlooks a part without its number, and the name of a set of operations that it does not know.
AUGMENTATION = re.compile(
    r"(rand(-(m[0-9]+|n[1-9]|p[01]|p0\.[0-9]+|mstd[0-9]+(\.[0-9]+)?|mmax[0-9]+|inc[01]|t(3a|3aw|weights)))*"
    r"|(v0|v0r|original|originalr|3a)(-mstd[0-9]+(\.[0-9]+)?)?)?"
)
"""timm's configuration strings of RandAugment and AutoAugment, or nothing."""


def known_augmentation(configuration: str) -> str:
    if AUGMENTATION.fullmatch(configuration):
        return configuration
    raise PydanticCustomError(
        "augmentation",
        "should be rand-m9-mstd0.5-inc1, original-mstd0.5 or another string by which timm configures RandAugment "
        "(rand-...) or AutoAugment (v0, v0r, original, originalr, 3a), or empty",
    )


Augmentation = Annotated[str, AfterValidator(known_augmentation)]


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Split(Recipe):
    """Which images of a data set: files by name and checksum, or a folder or tar read by timm."""

    images: Count
    """How many images the split holds; checked when the data are prepared."""
    files: dict[Part, str] = {}
    """File names below the root. IDX reader: gzip-compressed `images` and `labels`. CIFAR reader: `batch_1` and so
    on, of the "python version"."""
    md5: dict[Part, str] = {}
    """The published checksums of these files. CIFAR reader: of each, for they are Python pickles."""
    folder: str = ""
    """timm reader: folder (one sub-folder a class) or .tar below the root."""
    listing: str = ""
    """timm reader: sha256 of the sorted listing 'class/name size'; empty = recorded, not checked."""


class TrainingData(Recipe):
    """The images that a run learns from."""

    name: str
    reader: Reader
    classes: Annotated[int, Field(ge=2, le=65536)]
    """Number of classes; labels are cached as uint16."""
    channels: Literal[1, 3]
    mean: tuple[float, ...]
    """Per channel, of pixel values in [0, 1]."""
    std: tuple[float, ...]
    """Per channel, of pixel values in [0, 1]."""
    split: Split
    held_out: Annotated[int, Field(ge=0)] = 0
    """Training images kept apart for choosing hyper-parameters, drawn with a fixed seed; 0 for the final study."""

    @property
    def images(self) -> int:
        return self.split.images - self.held_out


class Corruption(Recipe):
    """A seeded corruption of evaluation images: a data set with a shift, as ImageNet-V2 is in the paper."""

    noise: NonNegative
    """Standard deviation of Gaussian pixel noise; pixel values are in [0, 1]."""
    blur: NonNegative
    """Radius of a Gaussian blur in pixels, before the noise."""
    shift: Annotated[int, Field(ge=0)]
    """Largest translation in pixels, either direction, either axis, drawn per image."""
    seed: int


class EvaluationSet(Recipe):
    """Images and true labels to evaluate on."""

    reader: Reader
    split: Split
    labels: str = ""
    """ReaL: file below the root with a JSON list, a list of class numbers an image; images without any do not count."""
    corruption: Corruption | None = None
    held_out: Annotated[int, Field(ge=0)] = 0
    """Evaluate on this many held-out training images instead (`split` is then the training split)."""


class Views(Recipe):
    """How an image becomes a view; with a seed and a data set it makes a stream."""

    resolution: Count
    """Pixels a side."""
    batch: Count
    """Views per optimiser step over all GPUs, repeats included."""
    mix_group: Count
    """Views that share one mixing draw (lambda, kind); the released code's batch of one GPU."""
    epoch_views: Annotated[int, Field(ge=0)] = 0
    """Views an epoch, the incomplete last batch dropped; 0 = as many as there are training images."""
    repeats: Count
    """Repeated augmentation: views of one image in an epoch."""
    scale: tuple[Positive, Positive]
    """Area of the random crop, as a fraction of the image."""
    ratio: tuple[Positive, Positive]
    """Aspect ratio of the random crop."""
    flip: Probability
    """Probability of a horizontal flip."""
    randaugment: Augmentation
    """timm's configuration string, of RandAugment or of AutoAugment (`original-mstd0.5`); empty = none."""
    erasing: Probability
    """Probability of random erasing (per-pixel noise)."""
    mixup: NonNegative
    """Alpha of mixup's Beta distribution; 0 = no mixup."""
    cutmix: NonNegative
    """Alpha of cutmix's Beta distribution; 0 = no cutmix."""
    mix_probability: Probability
    """Probability that a mix group is mixed at all."""
    switch_probability: Probability
    """Probability of cutmix rather than mixup in a group that is mixed, when both are on."""
    label_smoothing: Probability
    """Smoothing of the true labels; teacher labels are never smoothed."""

    def steps_per_epoch(self, images: int) -> int:
        """Optimiser steps an epoch, of a data set of so many images."""
        return (self.epoch_views or images) // self.batch


class EvaluationView(Recipe):
    """How an image is shown when evaluating: resize to resolution/crop, bicubic, then a centre crop."""

    resolution: Count
    crop: Annotated[float, Field(gt=0, le=1)]


class Model(Recipe):
    """An architecture of timm's."""

    timm: str
    """Name in timm's registry."""
    arguments: dict[str, int | float | bool | str] = {}
    """Arguments over timm's own for that name (width, depth, heads, ...)."""
    classes: Count
    channels: Literal[1, 3]
    resolution: Count
    stochastic_depth: Probability
    """Drop-path rate of the last block; it grows linearly with depth."""


class Objective(Recipe):
    """A training objective (paper, section 4)."""

    loss: Literal["labels", "soft", "hard", "token", "two-class-tokens"]
    """`two-class-tokens` is the control of the token analysis: a second class token with the true label too."""
    weight: Probability = 0.1
    """soft: lambda, the weight of the distillation term."""
    temperature: Positive = 3.0
    """soft: tau."""
    reduction: Literal["batchmean", "mean"] = "batchmean"
    """soft: KL summed over classes (the equation), or averaged over them too (what the original runs did)."""

    @property
    def tokens(self) -> int:
        """Tokens with a head of their own that the student needs."""
        return 2 if self.loss in ("token", "two-class-tokens") else 1

    @property
    def teacher_says(self) -> Literal["", "labels", "logits"]:
        """What the objective asks of a teacher: nothing, its decision, or its logits."""
        if self.loss == "soft":
            return "logits"
        return "labels" if self.loss in ("hard", "token") else ""


class Optimisation(Recipe):
    """How the weights are learned."""

    optimizer: Literal["adamw", "sgd"]
    epochs: Count
    """Of `views.epoch_views` views each."""
    learning_rate: Positive
    """For a batch of 512; multiplied by batch / 512."""
    schedule: Literal["cosine", "constant"]
    warmup_epochs: NonNegative
    warmup_learning_rate: NonNegative
    """Where the linear warm-up starts; not scaled by the batch."""
    final_learning_rate: NonNegative
    """Where the cosine ends; not scaled by the batch."""
    weight_decay: NonNegative
    """Not applied to biases, norms, position embedding and tokens."""
    momentum: Probability = 0.9
    """SGD: Nesterov momentum."""
    train_mode: bool = True
    """False: the model stays in evaluation mode (no stochastic depth), as in the original fine-tunings."""
    precision: Literal["fp32", "bf16"] = "fp32"
    skip_nonfinite_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of a run that may be left out because their loss or gradient is not finite; one more stops the run."""
    ema_decay: Probability = 0.0
    """Decay a step of an exponential moving average of the weights, which is then what is published and watched; 0 =
    none (the released code's --model-ema-decay: 0.99996)."""


class Heard(Recipe):
    """How exactly a run hears its teacher: what is rounded or left out between the teacher's logits and its loss."""

    precision: Literal["fp32", "bf16"]
    """In which the teacher computes."""
    k: Annotated[int, Field(ge=0)] = 0
    """soft: so many of the largest logits, and the mass of the rest; 0 = all logits."""


class Training(Recipe):
    """One run."""

    data: TrainingData
    model: Model
    objective: Objective
    views: Views
    stream_seed: int
    """Seed of the view stream."""
    seed: int
    """Seed of the initialisation, of stochastic depth and of dropout."""
    optimisation: Optimisation
    heard: Heard | None = None
    """Of a student; None = as the teacher's own training computes, in the loop."""


class Importing(Recipe):
    """Weights that others have published, in place of a training's."""

    model: Model
    mean: tuple[float, ...]
    """Per channel, of pixel values in [0, 1]."""
    std: tuple[float, ...]
    """Per channel, of pixel values in [0, 1]."""
    hub: str = ""
    """Repository of the Hugging Face hub, with `@revision` where one is meant; empty = `file`."""
    file: str = ""
    """File below the folder of the weights."""
    sha256: str = ""
    """What the sha256 of the file begins with; empty = recorded, not checked."""


class StoringViews(Recipe):
    """The views of all epochs of a stream, on disk."""

    data: TrainingData
    views: Views
    stream_seed: int
    epochs: Count


class Caching(Recipe):
    """What a teacher says of every view of some epochs of a stream."""

    data: TrainingData
    views: Views
    stream_seed: int
    model: Model
    """The teacher."""
    first_epoch: Annotated[int, Field(ge=0)]
    last_epoch: Annotated[int, Field(ge=0)]
    """Inclusive."""
    keep: Literal["labels", "dense", "top-k"]
    """The teacher's decision only, or also its logits: all of them, in the bytes of the precision, or the k largest and
    the mass of the rest."""
    k: Annotated[int, Field(ge=0)] = 0
    temperature: Positive = 1.0
    """top-k: the temperature at which the mass of the rest is exact."""
    precision: Literal["fp32", "bf16"]


class PredictedRun(Recipe):
    run: str
    model: Model


class Predicting(Recipe):
    """Predictions of several runs of one model on every evaluation set."""

    data: TrainingData
    """Classes, channels and normalisation; the images when an evaluation set is held out of them."""
    runs: tuple[PredictedRun, ...]
    view: EvaluationView
    evaluation_sets: dict[str, EvaluationSet]
    precision: Literal["fp32", "bf16"]


class MeasuringThroughput(Recipe):
    """Images per second at inference in fp32 (paper, Table 1)."""

    models: dict[str, Model]
    """Label -> model."""
    batch: Annotated[int, Field(ge=0)]
    """0 = the largest power of two that fits into the GPU's memory."""
    repeats: Count
    """Timed forward passes; the mean counts."""


class ComparingTokens(Recipe):
    """Cosine between the class and the distillation token, as parameters and after every layer."""

    data: TrainingData
    run: PredictedRun
    view: EvaluationView
    evaluation_set: EvaluationSet
    images: Count
    """Average over this many of the first images of the set, at most."""


class PreparingData(Recipe):
    """Check the data against what the params declare and write the manifest."""

    training: TrainingData
    evaluation_sets: dict[str, EvaluationSet]


class Pass(Recipe):
    """Runs of one stream that are trained together, and the caches of their teachers that are filled meanwhile."""

    runs: tuple[str, ...]
    """Digests."""
    caches: tuple[str, ...] = ()
    """Digests."""


class Cell(Recipe):
    """One cell of a table: the runs it averages over, one a seed, and the head through which they are read."""

    row: str
    column: str
    runs: tuple[str, ...]
    """Names of runs; empty = the study does not have this cell."""
    read: Literal["class", "distillation", "fusion", "fusion_logits"] = "class"
    evaluation_set: str = ""


class Table(Recipe):
    """One table or figure of the paper."""

    table: str
    """table_1 ... table_5, token_analysis, accuracy_throughput."""
    caption: str = ""
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()
    options: dict[str, Any] = {}
    """Numbers, words, lists and dictionaries of words, by the table's own names."""


class Report(Recipe):
    """The page that gathers all tables of a study."""

    study: str
    title: str
    description: str
    data: str
    evaluation_sets: dict[str, str]
    """Name -> title."""
    seeds: dict[str, list[int]]
    """Student -> seeds."""
    streams: Literal["shared", "per-seed"]
    """Whether the seeds of a run see the same views."""


class Validation(Recipe):
    """Images on which the accuracy of a training is watched."""

    name: str
    """Of the evaluation set, for messages."""
    evaluation_set: EvaluationSet
    view: EvaluationView
    images: Count
    """At most so many of the set, evenly spaced."""


class Resources(Recipe):
    """What a job may use; changes no result."""

    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs a node; 0 = CPU."""
    nodes: Count = 1
    threads: Count = 1
    """CPU threads of a process."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Data loading processes a GPU; 0 = in the training process."""
    groups_per_forward: Annotated[int, Field(ge=0)] = 0
    """Mix groups in one forward pass on one GPU; 0 = all of its share (no gradient accumulation)."""
    compile: bool = False
    """torch.compile the student."""
    save_minutes: Positive = 10
    """Time between two saves of the resume state."""
    validate_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs from one look at the accuracy on images that are not learnt from to the next, for those who watch a
    training; 0 = none."""
    mem_mb: Count = 2000
    """Memory that a cluster is asked for; the first attempt's."""
    minutes: Count = 60
    """Time limit that a cluster is asked for."""


class Execution(Resources):
    """How and where a job is run; changes no result."""

    output: str = ""
    """The folder of the result."""
    folders: dict[str, list[str]] = {}
    """Flag of the command -> folders of the results that it reads."""
    validation: Validation | None = None
    """What `validate_epochs` looks at."""
    made_by: str = ""
    """Folder of the pass that makes this result together with others; empty = a job of its own."""
    data_root: str = ""
    """The folder of the images; of an import, that of the weights."""


RECIPES: dict[str, type[Recipe]] = {
    "data": PreparingData,
    "views": StoringViews,
    "train": Training,
    "import": Importing,
    "pass": Pass,
    "cache": Caching,
    "predict": Predicting,
    "throughput": MeasuringThroughput,
    "tokens": ComparingTokens,
    "table": Table,
    "report": Report,
}


def canonical_digest(content: object) -> str:
    """The first hex digits of the sha256 of `content` as JSON with sorted keys; the same on every machine."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


class Job(Recipe):
    """One step of the pipeline, as written to `recipes/<digest>.json`."""

    kind: Literal[
        "data", "views", "train", "import", "pass", "cache", "predict", "throughput", "tokens", "table", "report"
    ]
    name: str
    """For people; not part of the digest."""
    recipe: dict
    """One of the recipes above, by `kind`."""
    inputs: dict[str, str] = {}
    """Role -> digest of the job that made it."""
    behaviour: dict[str, str]
    """File of the code that runs -> digest of what it does, without comments and docstrings."""
    execution: Execution = Execution()

    @property
    def digest(self) -> str:
        return canonical_digest(
            {"kind": self.kind, "recipe": self.recipe, "inputs": self.inputs, "behaviour": self.behaviour}
        )

    def resolved(self) -> Any:
        """The typed recipe."""
        return RECIPES[self.kind].model_validate(self.recipe)
