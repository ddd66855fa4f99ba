"""What is said of networks: an architecture, where its weights come from, and what is asked of it."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from deit.bounds import Argument, AsList, Count, Fraction, Pixels, Probability, Recipe, Size
from deit.see.recipes import Channels, EvaluationSet, EvaluationView, TrainingData
from deit.store.job import JobRecipe


class Model(Recipe):
    """An architecture of timm's."""

    timm: str
    """Name in timm's registry."""
    arguments: dict[str, Argument] = {}
    """Arguments over timm's own for that name (width, depth, heads, ...)."""
    classes: Count
    channels: Channels
    resolution: Pixels
    stochastic_depth: Probability
    """Drop-path rate of the last block; it grows linearly with depth."""
    uniform_stochastic_depth: Literal[True] | None = None
    """Every block of a vision transformer has that rate."""


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
                "remove it (given weights are named by `weights` and `initial` of the model).",
            )


class Source(Recipe):
    """Weights that are given: by timm's tag, as a file, or by a run of another study. One of the three."""

    timm: str | None = None
    """timm's name with the tag of its published weights, `regnety_160.deit_in1k`: brought from the hub, which needs a
    network where Snakemake runs, or read from its cache (HF_HOME). Its resolution and normalisation are timm's."""
    file: str | None = None
    """A .safetensors, or a .pth with a state dict, alone or as its `model`, which is read as tensors only. Keys are
    timm's, or those of the authors where timm knows them. `~` and environment variables are expanded."""
    sha256: str | None = None
    """Of the file, or its first digits, at least eight; the weights are named by it. With `timm` it may be left out: it
    is recorded then, not checked."""
    study: str | None = None
    """Another study of this clone, one of whose runs is given."""
    run: str | None = None
    """The run, `regnety-4gf/labels/20/seed0`. It has to be finished."""
    resolution: Pixels | None = None
    """Pixels a side that the network sees; null = timm's own, or that of the run, or of a file the study's lower
    resolution."""


class Weights(Source):
    """Given weights, and what their network sees and says where that is not as in the study."""

    mean: Annotated[tuple[Probability, ...], AsList] | None = None
    """Per channel, by which its views are normalised, of pixel values in [0, 1]; null = timm's own, or that of the run,
    or of a file the study's."""
    std: Annotated[tuple[Fraction, ...], AsList] | None = None
    """Likewise."""
    classes: Annotated[tuple[Annotated[tuple[Size, ...], AsList], ...], AsList] | None = None
    """For each class of the study, in order, the network's classes that mean it, `[[281, 282], [151]]`: their
    probabilities add up, and those of all other classes are left out. null = the same classes."""


class Conventions(Recipe):
    """What a network sees and says."""

    classes: Size
    """0 = it has no classifier."""
    channels: Count
    resolution: Pixels
    mean: Annotated[tuple[float, ...], AsList]
    """Per channel, of pixel values in [0, 1]."""
    std: Annotated[tuple[float, ...], AsList]
    """Per channel, of pixel values in [0, 1]."""
    meaning: Annotated[tuple[Annotated[tuple[Size, ...], AsList], ...], AsList] | None = None
    """For each class of the study, the network's that mean it; None = the same classes."""


class Importing(JobRecipe, kind="import"):
    """Given weights, in place of a training's, or for trainings to start from."""

    model: Model
    """The network of the study that they are given to."""
    mean: Annotated[tuple[Probability, ...], AsList]
    """Of the study: per channel, of pixel values in [0, 1]."""
    std: Annotated[tuple[Fraction, ...], AsList]
    """Of the study: per channel, of pixel values in [0, 1]."""
    source: Weights
    timm_distilled: str | None = None
    """Of weights to start from: the variant with a distillation token, whose weights they may be as well."""
    starts: Literal[True] | None = None
    """Trainings start from the weights, so that they may have other classes than the study."""


class PredictedRun(Recipe):
    run: str
    model: Model


class Predicting(JobRecipe, kind="predict"):
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


class CheckingNetworks(JobRecipe, kind="networks"):
    """Build every network of a study, without weights, before any is trained."""

    networks: dict[str, CheckedNetwork]
    """model[-token][+variant]/resolution -> network."""


class MeasuringThroughput(JobRecipe, kind="throughput"):
    """Images per second at inference in fp32 (paper, Table 1)."""

    models: dict[str, Model]
    """Label -> model."""
    batch: Size
    """0 = the largest power of two that fits into the GPU's memory."""
    repeats: Count
    """Timed forward passes; the mean counts."""


class ComparingTokens(JobRecipe, kind="tokens"):
    """Cosine between the class and the distillation token, as parameters and after every layer."""

    data: TrainingData
    run: PredictedRun
    view: EvaluationView
    evaluation_set: EvaluationSet
    images: Count
    """Average over this many of the first images of the set, at most."""


class Validation(Recipe):
    """Images on which the accuracy of a training is watched."""

    name: str
    """Of the evaluation set, for messages."""
    evaluation_set: EvaluationSet
    view: EvaluationView
    images: Count
    """At most so many of the set, evenly spaced."""
