"""What is said of images and views: which, from where, how augmented, how shown when evaluating."""

import re
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from deit.bounds import (
    AsList,
    Count,
    Crop,
    Epochs,
    Few,
    Fraction,
    NonNegative,
    Pixels,
    Probability,
    Ratio,
    Recipe,
    Size,
    no_truth,
)
from deit.see.readers import known_readers, module_of
from deit.store.job import JobRecipe

# Part by part: timm overlooks a part without its number, and the name of a set of operations that it does not know.
AUGMENTATION = re.compile(
    r"(rand(-(m[0-9]+|n[1-9]|p[01]|p0\.[0-9]+|mstd[0-9]+(\.[0-9]+)?|mmax[0-9]+|inc[01]|t(3a|3aw|weights)))*"
    r"|(v0|v0r|original|originalr|3a)(-mstd[0-9]+(\.[0-9]+)?)?)?"
)
"""timm's configuration strings of RandAugment and AutoAugment, or nothing."""


def known_reader(name: str) -> str:
    if name in (known := known_readers()):
        return name
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
    raise PydanticCustomError("reader", "is no reader: {hint}", {"hint": hint})


def known_augmentation(configuration: str) -> str:
    if AUGMENTATION.fullmatch(configuration):
        return configuration
    raise PydanticCustomError(
        "augmentation",
        "should be rand-m9-mstd0.5-inc1, original-mstd0.5 or another string by which timm configures RandAugment "
        "(rand-...) or AutoAugment (v0, v0r, original, originalr, 3a), or empty",
    )


RandAugment = Annotated[str, AfterValidator(known_augmentation)]
Reader = Annotated[str, AfterValidator(known_reader), Field(json_schema_extra={"enum": known_readers()})]
"""The name of a file in readers/."""
Part = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""Of the files of a split; which there are, its reader says."""
Channels = Annotated[Literal[1, 3], BeforeValidator(no_truth)]


class Split(Recipe):
    """Which images of a data set: files by name and checksum, or a folder or tar read by timm."""

    images: Count
    """How many images the split holds; another number found ends the first job."""
    files: dict[Part, str] = {}
    """File names below the root. IDX reader: `images` and `labels`, gzip-compressed, in MNIST's format; both are
    needed. CIFAR readers: `batch_1` and so on, up to `batch_5`."""
    md5: dict[Part, str] = {}
    """The published checksums of these files, compared before anything runs. Without, nothing is compared; the reader
    `cifar` needs that of each, for they are Python pickles. Trap: they are part of all names, so give them before the
    first training."""
    folder: str = ""
    """timm reader: folder (one sub-folder a class) or .tar below the root. Classes are numbered by their names in small
    letters, with numbers as numbers (2 before 10), and ties by the characters. A folder and its tar hold the same
    images, but are two recipes: choose before the first training. hfds and wds readers: the folder of the data set. csv
    reader: the .csv file, whose columns `path`, from the folder of the file, and `label` name images and classes."""
    part: str = ""
    """hfds reader: the data set's part, `train`. wds reader: the shards in the folder, `train-{0000..0146}.tar`. csv
    reader: the lines with this in the column `split`; empty = all."""
    listing: str = ""
    """timm, csv, hfds, wds readers: sha256 of the sorted listing 'class/name size'; empty = recorded, not checked."""


def place_of(split: Split) -> str:
    """Under which name below `data.root` the manifest knows a split."""
    if split.part:
        return f"{split.folder}/{split.part}"
    return split.folder or ", ".join(file for part, file in sorted(split.files.items()) if part != "labels")


class Data(Recipe):
    """A data set: how it is read, and how pixels become numbers."""

    name: str
    """Of the data set, in the report and in every recipe: another name is other data, and all is made anew."""
    reader: Reader
    """How the files are read: `idx`, gzip-compressed files in MNIST's format; `cifar`, CIFAR's official batches in the
    "python version", `cifar_binary` in the "binary version"; `timm`, a folder or tar with a sub-folder a class, in
    timm's order: .jpg, .jpeg, .png, .bmp, .gif, .pgm, .ppm, .tif, .tiff, .webp; `hfds`, a data set of the Hugging Face
    hub in a folder, by the package datasets; `wds`, WebDataset's shards; `csv`, a file of paths and labels. Evaluation
    sets name their own."""
    classes: Annotated[int, Field(ge=2, le=65536)]
    """Number of classes; another number found ends the first job. Labels are cached in 16 bits."""
    channels: Channels
    """Colours of an image: 1 = grey, 3 = RGB; others are converted. Transparency is dropped, so the colours below it
    show; images are turned as EXIF says, unlike by timm and torchvision. Grey of 16 bits is scaled to 8; values
    without a known range (floats, 32 bits) and images above 180 megapixels are refused."""
    mean: Annotated[tuple[Probability, ...], AsList]
    """Per channel, of pixel values in [0, 1]; subtracted from every view. The code's: ImageNet's 0.485, 0.456,
    0.406."""
    std: Annotated[tuple[Fraction, ...], AsList]
    """Per channel, of pixel values in [0, 1]; views are divided by it. The code's: ImageNet's 0.229, 0.224, 0.225."""
    held_out: Size = 0
    """Training images kept apart for choosing hyper-parameters, drawn with a fixed seed. They are evaluated on by an
    evaluation set with the same `held_out`. 0 for the final study: take that set away (`NAME: null`), and name one of
    other images as `primary`."""

    @property
    def module(self) -> str:
        """The dotted name of the reader's module, which no import names."""
        return module_of(self.reader)


class TrainingData(Data):
    """The images that a run learns from."""

    split: Split

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
    """How the files are read, as `data.reader`."""
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

    @property
    def module(self) -> str:
        """The dotted name of the reader's module, which no import names."""
        return module_of(self.reader)


def none_if_bicubic(interpolation: str | None) -> str | None:
    """One way to say what is the rule, so that both have the same views by name."""
    return None if interpolation == "bicubic" else interpolation


class Augmentation(Recipe):
    """What is drawn of an image for a view, and how views are mixed; the same for teachers and students (Table 9)."""

    repeats: Few
    """Repeated augmentation: views of one image in an epoch; the paper's 3, 1 = off. An epoch is not longer for it: it
    shows 1/repeats of the images. Trap: the code drops it silently on one process; here it works on any number."""
    scale: Annotated[tuple[Fraction, Fraction], AsList]
    """Area of the random crop, as a fraction of the image, least and most; the code's 0.08 to 1."""
    ratio: Annotated[tuple[Ratio, Ratio], AsList]
    """Aspect ratio of the random crop, least and most; the code's 3/4 to 4/3."""
    flip: Probability
    """Probability of a horizontal flip; the code's 0.5."""
    randaugment: RandAugment
    """timm's configuration string, of RandAugment or of AutoAugment (`original-mstd0.5`); empty = none. The paper's
    9/0.5 is `rand-m9-mstd0.5-inc1` (code: `--aa`). Trap: it posterizes some views to no bits, which Pillow 13 refuses;
    here they become black, as in the paper's runs."""
    color_jitter: Annotated[float, Field(gt=0, le=1)] | None = None
    """Most by which brightness, contrast and saturation of a view are changed, after the policy of `randaugment`; null
    = not at all. DeiT III's 0.3 (code: `--color-jitter`), which with `randaugment: 3a` is its 3-Augment; no other
    policy goes with it."""
    crop: Literal["simple"] | None = None
    """`simple`: the short side is resized to the view, which is cut out of the image and 4 reflected pixels around it
    (code: `--src`, for DeiT III's trainings on ImageNet-21k); `scale` and `ratio` are not looked at. null = random
    resized crop."""
    interpolation: Annotated[Literal["bicubic", "bilinear"] | None, AfterValidator(none_if_bicubic)] = None
    """What crops are resized with, and views turned, sheared and moved with by `randaugment` (timm:
    `--train-interpolation`). With `bilinear` a loader makes 1.4 times as many views a second of photographs at 224
    pixels. They are other views, so all that is trained on them gets new names. Evaluation stays bicubic. null =
    `bicubic`, as in the paper's runs."""
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


class Views(Augmentation):
    """How an image becomes a view; with a seed and a data set it makes a stream."""

    resolution: Pixels
    """Pixels a side."""
    batch: Count
    """Views per optimiser step over all GPUs, repeats included."""
    mix_group: Count
    """Views that share one mixing draw (lambda, kind); the released code's batch of one GPU."""
    epoch_views: Size = 0
    """Views an epoch, the incomplete last batch dropped; 0 = as many as there are training images."""

    def steps_per_epoch(self, images: int) -> int:
        """Optimiser steps an epoch, of a data set of so many images."""
        return (self.epoch_views or images) // self.batch


class EvaluationView(Recipe):
    """How an image is shown when evaluating: resize to resolution/crop, bicubic, then a centre crop."""

    resolution: Pixels
    crop: Crop


class Stream(JobRecipe):
    """The views that a run sees, or a teacher judges: a pure function of these, epoch and position."""

    data: TrainingData
    views: Views
    stream_seed: int
    """Seed of the view stream."""


class StoringViews(Stream, kind="views"):
    """The views of all epochs of a stream, on disk."""

    epochs: Epochs


class PreparingData(JobRecipe, kind="data"):
    """Check the data against what the params declare and write the manifest."""

    training: TrainingData
    evaluation_sets: dict[str, EvaluationSet]
