"""What a command is asked to do: resolved, validated, immutable.

A *job* is one step of the pipeline. Its recipe, the digests of what it is made from and the behaviour of its code
determine its result, and so its digest, which ends the name of the folder that it fills. `execution` says how to run it
(GPUs, workers, where the data lies); it may be edited freely, because it changes no result.

The descriptions below the fields are docstrings on purpose: they can be reworded without giving any result a new name.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

DIGEST_LENGTH = 10

# Numbers, each with the least and the most that somebody could mean: a slip is refused, and nothing overflows later.
Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, le=1e4)]
Positive = Annotated[float, Field(gt=0, le=1e4)]
Rate = Annotated[float, Field(ge=0, le=1e3)]
"""Of learning or of decay."""
Fraction = Annotated[float, Field(ge=1e-4, le=1)]
"""Of an image's area, of a range of pixel values."""
Crop = Annotated[float, Field(ge=0.1, le=1)]
"""Part of an image's side that is shown; the image is resized to resolution / crop."""
Ratio = Annotated[float, Field(ge=0.01, le=100)]
Temperature = Annotated[float, Field(ge=0.01, le=1e4)]
Minutes = Annotated[float, Field(gt=0, le=1e9)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Size = Annotated[int, Field(ge=0, le=10**9)]
"""A count that may be none."""
Pixels = Annotated[int, Field(ge=1, le=4096)]
Epochs = Annotated[int, Field(ge=1, le=10**6)]
Few = Annotated[int, Field(ge=1, le=1000)]
Machines = Annotated[int, Field(ge=1, le=10**4)]
Option = Annotated[int, Field(ge=-(10**9), le=10**9)] | Annotated[float, Field(ge=-1e9, le=1e9)] | bool | str
"""A value of a key that another library, or another class of this file, knows."""
AsList = Field(strict=False)
"""Of a tuple: YAML and JSON write it as a list."""
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


def no_truth(value: object) -> object:
    if isinstance(value, bool):  # Python holds True for equal to 1
        raise PydanticCustomError("number", "must be a number")
    return value


Channels = Annotated[Literal[1, 3], BeforeValidator(no_truth)]


class Recipe(BaseModel):
    # strict: `true` is no number, `1.0` no count and `"3"` neither.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Split(Recipe):
    """Which images of a data set: files by name and checksum, or a folder or tar read by timm."""

    images: Count
    """How many images the split holds; another number found ends the first job."""
    files: dict[Part, str] = {}
    """File names below the root. IDX reader: `images` and `labels`, gzip-compressed, in MNIST's format; both are
    needed. CIFAR reader: `batch_1` and so on, of the "python version"."""
    md5: dict[Part, str] = {}
    """The published checksums of these files, compared before anything runs. IDX reader: without, nothing is compared.
    CIFAR reader: of each, for they are Python pickles. Trap: they are part of all names, so give them before the first
    training."""
    folder: str = ""
    """timm reader: folder (one sub-folder a class) or .tar below the root. Classes are numbered by their names in small
    letters, with numbers as numbers (2 before 10), and ties by the characters. A folder and its tar hold the same
    images, but are two recipes: choose before the first training."""
    listing: str = ""
    """timm reader: sha256 of the sorted listing 'class/name size'; empty = recorded, not checked."""


class TrainingData(Recipe):
    """The images that a run learns from."""

    name: str
    reader: Reader
    classes: Annotated[int, Field(ge=2, le=65536)]
    """Number of classes; labels are cached as uint16."""
    channels: Channels
    mean: Annotated[tuple[Probability, ...], AsList]
    """Per channel, of pixel values in [0, 1]."""
    std: Annotated[tuple[Fraction, ...], AsList]
    """Per channel, of pixel values in [0, 1]."""
    split: Split
    held_out: Size = 0
    """Training images kept apart for choosing hyper-parameters, drawn with a fixed seed; 0 for the final study."""

    @property
    def images(self) -> int:
        return self.split.images - self.held_out


class Corruption(Recipe):
    """A seeded corruption of evaluation images: a data set with a shift, as ImageNet-V2 is in the paper."""

    noise: NonNegative
    """Standard deviation of Gaussian pixel noise, added last; pixel values are in [0, 1]."""
    blur: NonNegative
    """Radius of a Gaussian blur in pixels, before the noise; 0 = none."""
    shift: Annotated[int, Field(ge=0, le=4096)]
    """Largest translation in pixels, either direction, either axis, drawn per image; the border is repeated."""
    seed: Size
    """Of the draws: each image's depend on this and its number alone, so all runs see the same corrupted images."""


class EvaluationSet(Recipe):
    """Images and true labels to evaluate on."""

    reader: Reader
    """How the files are read: `idx`, MNIST's format; `cifar`, CIFAR's official batches; `timm`, a folder or tar with a
    sub-folder a class, in timm's order."""
    split: Split
    """Which images; of held-out images, the training split."""
    labels: str = ""
    """ReaL: file below the root with a JSON list, a list of class numbers an image; images without any do not count,
    and any one of several is right. Empty = the split's own labels."""
    corruption: Corruption | None = None
    """Change the images by seeded draws, for a data set with a shift where none exists; absent = as they are."""
    held_out: Size = 0
    """Evaluate on this many held-out training images instead (`split` is then the training split); as many as
    `data.held_out`."""


class Views(Recipe):
    """How an image becomes a view; with a seed and a data set it makes a stream."""

    resolution: Pixels
    """Pixels a side."""
    batch: Count
    """Views per optimiser step over all GPUs, repeats included."""
    mix_group: Count
    """Views that share one mixing draw (lambda, kind); the released code's batch of one GPU."""
    epoch_views: Size = 0
    """Views an epoch, the incomplete last batch dropped; 0 = as many as there are training images."""
    repeats: Few
    """Repeated augmentation: views of one image in an epoch."""
    scale: Annotated[tuple[Fraction, Fraction], AsList]
    """Area of the random crop, as a fraction of the image."""
    ratio: Annotated[tuple[Ratio, Ratio], AsList]
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

    resolution: Pixels
    crop: Crop


class Model(Recipe):
    """An architecture of timm's."""

    timm: str
    """Name in timm's registry."""
    arguments: dict[str, Option] = {}
    """Arguments over timm's own for that name (width, depth, heads, ...)."""
    classes: Count
    channels: Channels
    resolution: Pixels
    stochastic_depth: Probability
    """Drop-path rate of the last block; it grows linearly with depth."""


TIMM_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)?")
"""A name of timm's registry, with a tag of published weights where one is meant."""
FROM_ELSEWHERE = {
    "num_classes": "data.classes",
    "in_chans": "data.channels",
    "img_size": "resolutions",
    "drop_path_rate": "stochastic_depth",
}
"""Argument of timm's -> the key that it comes from."""
NOT_OF_THE_NETWORK = (
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn"),
    *("pretrained_model_args", "checkpoint_path", "cache_dir", "model_cls", "variant", "model_cfg", "kwargs_filter"),
    *("features_only", "feature_cfg", "feature_cls", "out_indices", "pruned", "scriptable", "exportable", "no_jit"),
    *("device", "dtype"),
)
"""Arguments by which timm's builder takes weights, another configuration or another kind of module."""


def unknown_to_digests(names: Mapping[str, str], arguments: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What would bring weights or a network that no digest knows: (key below the model, what is wrong, what to do).

    `names`: key -> a name for timm, which may be empty.
    """
    for key, name in names.items():
        if name and not TIMM_NAME.fullmatch(name):
            text = f"'{name}' is no name of timm's registry"
            yield key, text, "choose one of timm.list_models(), without source or path."
    for argument in arguments:
        if argument in FROM_ELSEWHERE:
            yield f"arguments.{argument}", f"comes from {FROM_ELSEWHERE[argument]}", "remove it here."
        elif argument in NOT_OF_THE_NETWORK:
            yield (
                f"arguments.{argument}",
                "is no argument of the network, but of timm's builder, and might bring weights or a network that no "
                "digest knows",
                "remove it (published weights are named by released.weights).",
            )


class Objective(Recipe):
    """A training objective (paper, section 4)."""

    loss: Literal["labels", "soft", "hard", "token", "two-class-tokens"]
    """`labels`: cross-entropy with the true labels, no teacher. `soft`: equation 2 of the paper, with the teacher's
    logits. `hard`: equation 3, one head learns half from the true labels and half from the teacher's decisions.
    `token`: each half has a token and a head of its own. `two-class-tokens` is the control of the token analysis: a
    second class token with the true label too, without a teacher. Trap: Table 3 of the paper prints that soft and hard
    have no true labels; they have (confirmed by the authors)."""
    weight: Probability = 0.1
    """soft: lambda, the weight of the distillation term; the paper's 0.1. Other losses ignore it, as hard and token
    weigh both halves alike; yet a change renames their runs."""
    temperature: Temperature = 3.0
    """soft: tau, by which the logits of both are divided; the paper's 3.0. Other losses ignore it."""
    reduction: Literal["batchmean", "mean"] = "batchmean"
    """soft: KL summed over classes (`batchmean`, the equation), or averaged over them too (`mean`, what the original
    runs did, which makes the teacher's weight some 1/1000 on ImageNet: it may be why the paper's usual distillation
    equals no distillation)."""

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
    """`adamw`: betas 0.9 and 0.999, eps 1e-8 (paper; code: `--opt adamw`), for students. `sgd`: Nesterov momentum, for
    teachers (paper, section 5.1). Gradients are never clipped."""
    epochs: Epochs
    """Epochs of `epoch_views` views each; the paper's 300 for students, 25 for fine-tuning (the code's README: 30).
    Trap: with `views.repeats: 3` an epoch shows as many views as there are images, but a third of the images."""
    learning_rate: Annotated[float, Field(gt=0, le=1e3)]
    """Of the peak, for a batch of 512; multiplied by batch / 512. The paper's 5e-4 for students (code: `--lr`), 5e-6
    for fine-tuning (the code's README). Trap: the code sets it once an epoch, after it, so its epochs 0 and 1 both run
    at 1e-6; here it is set at every step."""
    schedule: Literal["cosine", "constant"]
    """After the warm-up: `cosine` falls to `final_learning_rate` (code: `--sched cosine`); `constant` stays at the
    peak. As timm's, the cosine is counted from step 0, and the warm-up hides its beginning."""
    warmup_epochs: NonNegative
    """Epochs, or part of one, in which the learning rate rises linearly to its peak; the paper's 5 (code:
    `--warmup-epochs`). Trap: the code's fine-tuning has them too, as its command does not say otherwise."""
    warmup_learning_rate: Rate
    """Where the linear warm-up starts; not scaled by the batch. Code: `--warmup-lr 1e-6`."""
    final_learning_rate: Rate
    """Where the cosine ends; not scaled by the batch. Code: `--min-lr 1e-5`. `constant` ignores it."""
    weight_decay: Rate
    """Not applied to biases, norms, position embedding and tokens (timm's rule; the released code decays the
    distillation token). The paper's 0.05 for students (code: `--weight-decay`), 1e-8 for fine-tuning (the code's
    README); the teachers' is not published."""
    momentum: Probability = 0.9
    """SGD: Nesterov momentum; code: `--momentum 0.9`. AdamW ignores it."""
    train_mode: bool = True
    """False: the model stays in evaluation mode (no stochastic depth), as in the original fine-tunings, where batch
    norms of a convnet would keep their statistics, too."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the forward pass: `fp32`, or autocast to `bf16`, with weights and losses in fp32. The paper's fp16 gave NaN to
    many, and is not offered. On CPUs bf16 was never faster here."""
    skip_nonfinite_steps: Size = 0
    """Steps of a run that may be left out because their loss or gradient is not finite; one more stops the run."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay a step of an exponential moving average of the weights, which is then what is published and watched; 0 =
    none (the released code's --model-ema-decay: 0.99996)."""


class Heard(Recipe):
    """How exactly a run hears its teacher: what is rounded or left out between the teacher's logits and its loss."""

    precision: Literal["fp32", "bf16"]
    """In which the teacher computes."""
    k: Size = 0
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
    mean: Annotated[tuple[Probability, ...], AsList]
    """Per channel, of pixel values in [0, 1]."""
    std: Annotated[tuple[Fraction, ...], AsList]
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
    epochs: Epochs


class Caching(Recipe):
    """What a teacher says of every view of some epochs of a stream."""

    data: TrainingData
    views: Views
    stream_seed: int
    model: Model
    """The teacher."""
    first_epoch: Size
    last_epoch: Size
    """Inclusive."""
    keep: Literal["labels", "dense", "top-k"]
    """The teacher's decision only, or also its logits: all of them, in the bytes of the precision, or the k largest and
    the mass of the rest."""
    k: Size = 0
    temperature: Temperature = 1.0
    """top-k: the temperature at which the mass of the rest is exact."""
    precision: Literal["fp32", "bf16"]


class PredictedRun(Recipe):
    run: str
    model: Model


class Predicting(Recipe):
    """Predictions of several runs of one model on every evaluation set."""

    data: TrainingData
    """Classes, channels and normalisation; the images when an evaluation set is held out of them."""
    runs: Annotated[tuple[PredictedRun, ...], AsList]
    view: EvaluationView
    evaluation_sets: dict[str, EvaluationSet]
    precision: Literal["fp32", "bf16"]


class CheckedNetwork(Recipe):
    """A network, and what a study asks of it."""

    model: Model
    heads: Literal[1, 2]
    trained: bool
    initial: str = ""
    """Name of the network whose weights it starts from, at another resolution."""


class CheckingNetworks(Recipe):
    """Build every network of a study, without weights, before any is trained."""

    networks: dict[str, CheckedNetwork]
    """model[-token][+variant]/resolution -> network."""


class MeasuringThroughput(Recipe):
    """Images per second at inference in fp32 (paper, Table 1)."""

    models: dict[str, Model]
    """Label -> model."""
    batch: Size
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

    runs: Annotated[tuple[str, ...], AsList]
    """Digests."""
    caches: Annotated[tuple[str, ...], AsList] = ()
    """Digests."""


class Cell(Recipe):
    """One cell of a table: the runs it averages over, one a seed, and the head through which they are read."""

    row: str
    column: str
    runs: Annotated[tuple[str, ...], AsList]
    """Names of runs; empty = the study does not have this cell."""
    read: Literal["class", "distillation", "fusion", "fusion_logits"] = "class"
    evaluation_set: str = ""


class Table(Recipe):
    """One table or figure of the paper."""

    table: str
    """table_1 ... table_5, token_analysis, accuracy_throughput."""
    caption: str = ""
    rows: Annotated[tuple[str, ...], AsList] = ()
    columns: Annotated[tuple[str, ...], AsList] = ()
    cells: Annotated[tuple[Cell, ...], AsList] = ()
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

    gpus: Annotated[int, Field(ge=0, le=1000)] = 0
    """GPUs a node; 0 = CPU. All GPUs together must divide the mix groups of a batch (batch / mix_group). Only trainings
    and passes take more than one."""
    nodes: Machines = 1
    """Nodes of a training or pass; a run takes `gpus` x `nodes` GPUs."""
    threads: Machines = 1
    """CPU threads of a process. Trap: another number may change last bits of what a CPU computes."""
    workers: Annotated[int, Field(ge=0, le=1000)] = 0
    """Data loading processes a GPU; 0 = in the training process. Each takes a CPU core: a job asks for `gpus` x
    (`threads` + `workers`) a node. Views are the same for any number."""
    groups_per_forward: Size = 0
    """Mix groups in one forward pass on one GPU; 0 = all of its share (no gradient accumulation). Lower it where memory
    runs out. Networks with batch norm always take one, so that statistics do not depend on the GPUs."""
    compile: bool = False
    """torch.compile the student. Networks with batch norm are never compiled. May change last bits."""
    save_minutes: Minutes = 10
    """Minutes between two saves of the resume state: what a kill costs at most. SIGTERM and time limits save at
    once."""
    validate_epochs: Size = 0
    """Epochs from one look at the accuracy on images that are not learnt from to the next, for those who watch a
    training; 0 = none. Held-out images where the study has some, else the primary evaluation set: choose nothing by the
    latter."""
    mem_mb: Count = 2000
    """MB of memory a node that a cluster is asked for; the first attempt's. Each attempt that ran out of it is followed
    by one with half as much more, up to three times."""
    minutes: Count = 60
    """Time limit in minutes that a cluster is asked for. A training that reaches it saves before and is retried."""


class Execution(Resources):
    """How and where a job is run; changes no result."""

    output: str = ""
    """The folder of the result."""
    folders: dict[str, list[str]] = {}
    """Flag of the command -> folders of the results that it reads."""
    after: list[str] = []
    """Folders of results that must be there before, of which the job reads nothing."""
    validation: Validation | None = None
    """What `validate_epochs` looks at."""
    made_by: str = ""
    """Folder of the pass that makes this result together with others; empty = a job of its own."""
    data_root: str = ""
    """The folder of the images; of an import, that of the weights."""
    decode: bool = True
    """Whether `prepare_data` decodes every image."""


RECIPES: dict[str, type[Recipe]] = {
    "data": PreparingData,
    "networks": CheckingNetworks,
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
        "data",
        "networks",
        "views",
        "train",
        "import",
        "pass",
        "cache",
        "predict",
        "throughput",
        "tokens",
        "table",
        "report",
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
