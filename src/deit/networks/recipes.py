"""What is said of networks: an architecture, where its weights come from, and what is asked of it."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from deit.bounds import AsList, Count, Fraction, Option, Pixels, Probability, Recipe, Size
from deit.see.recipes import Channels, EvaluationSet, EvaluationView, TrainingData
from deit.store.job import JobRecipe


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


class Importing(JobRecipe, kind="import"):
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
