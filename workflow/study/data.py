"""The section `data` of a params file: its keys, and what can be wrong in them."""

import os
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from deit.bounds import Name
from deit.see.reader import split_mistakes
from deit.see.recipes import Data, EvaluationSet, Split, place_of
from study.problem import Problem, short, unknown


class EvaluationParams(EvaluationSet):
    title: str
    """How tables and the report call it."""
    paper: Literal["imagenet", "real", "v2", ""] = ""
    """The column of the paper's Table 5 that stands beside it: ImageNet, ImageNet-ReaL or ImageNet-V2; empty = none."""


class DataParams(Data):
    """The images: training split and evaluation sets."""

    root: str
    """Folder of the files below; `~` and environment variables are expanded. Not part of any digest: images may move,
    and each node may have its own copy, which jobs compare with the manifest of the first."""
    training: Split
    """The images to learn from; held-out ones are taken from them."""
    evaluation: Annotated[dict[Name, EvaluationParams], Field(min_length=1)]
    """Name -> images and labels on which every run is evaluated; the columns of Table 5."""
    primary: Name
    """The evaluation set of Tables 2-4, of the token analysis and of the figure, by its name."""
    decode: bool = True
    """Readers of image files: `prepare_data` decodes every image once, by `threads` + `workers` of `execution.data`,
    and refuses the data with the paths of all damaged ones before anything is trained. false skips that: a damaged
    image then ends the first job that reads it. Changes no number and no name."""


def data_problems(data: DataParams, where: str = "data") -> Iterator[Problem]:
    """`where`: the dotted key of the data set."""
    for key in ("mean", "std"):
        if (given := len(getattr(data, key))) != data.channels:
            text = f"has {given} numbers and {where}.channels is {data.channels}"
            yield Problem(f"{where}.{key}", text, "give one a channel.", (f"{where}.channels",))
    images = data.training.images
    if data.held_out >= images:
        text = f"{data.held_out} is not less than the {images} training images"
        yield Problem(f"{where}.held_out", text, "hold fewer out.", (f"{where}.training.images",))
    yield from split_problems(f"{where}.training", data.training, data.reader, where)
    for name, evaluation in data.evaluation.items():
        key = f"{where}.evaluation.{name}"
        if name == "images_per_second":
            yield Problem(key, "is a column of Table 5 already", "rename it.")
        yield from split_problems(f"{key}.split", evaluation.split, evaluation.reader, where)
        yield from held_out_problems(key, evaluation, data, where)
    yield from unknown(f"{where}.primary", data.primary, data.evaluation, "evaluation set", f"{where}.evaluation")
    yield from label_problems(data, where)


def held_out_problems(key: str, evaluation: EvaluationParams, data: DataParams, where: str) -> Iterator[Problem]:
    """A set is held out of another split than the training's; the primary one has the images that runs learn from.

    Another set may have them, for those who want to see what was learned by heart.
    """
    own, general = f"{key}.held_out", f"{where}.held_out"
    of_training = evaluation.reader == data.reader and unchecked(evaluation.split) == unchecked(data.training)
    others = (own, f"{key}.reader", f"{where}.training", f"{where}.reader")
    take_away = f"take the set away, {key}: null, and name one of other images as {where}.primary."
    if evaluation.held_out and evaluation.held_out != data.held_out:
        text = f"{evaluation.held_out} is not {general}, {data.held_out}"
        remedy = "give both the same number." if data.held_out else f"give both the same number, or {take_away}"
        yield Problem(own, text, remedy, (general,))
    if evaluation.held_out and not of_training:
        text = f"is not {where}.training, of which {evaluation.held_out} images are held out"
        yield Problem(f"{key}.split", text, "give both the same reader, files or folder, and number of images.", others)
    if of_training and not evaluation.held_out and evaluation is data.evaluation.get(data.primary):
        text = f"is 0, and the images of the set are those of {where}.training, which runs learn from"
        remedy = f"give it and {general} the same number above 0, or {take_away}"
        yield Problem(own, text, remedy, (f"{key}.split", *others))


def unchecked(split: Split) -> Split:
    """Which images, without the checksums that may stand beside their files."""
    return split.model_copy(update={"md5": {}, "listing": ""})


def label_problems(data: DataParams, where: str) -> Iterator[Problem]:
    """Other labels for the same image files: the manifest knows a split by its images."""
    splits = {f"{where}.training": data.training}
    splits |= {f"{where}.evaluation.{name}.split": evaluation.split for name, evaluation in data.evaluation.items()}
    first: dict[str, str] = {}
    for key, split in splits.items():
        other = first.setdefault(place_of(split), key)
        labels = split.files.get("labels")
        if labels != splits[other].files.get("labels"):
            text = f"'{labels}' are other labels for the images of {other}"
            remedy = "give these images a second file name, as by a link."
            yield Problem(f"{key}.files.labels", text, remedy, (f"{other}.files.labels",))


def split_problems(key: str, split: Split, reader: str, where: str) -> Iterator[Problem]:
    for part, text, remedy, others in split_mistakes(reader, split):
        yield Problem(f"{key}.{part}", text, remedy, tuple(f"{key}.{other}" for other in others))
    places = {"folder": split.folder} | {f"files.{part}": name for part, name in split.files.items()}
    for part, place in places.items():
        if os.path.isabs(place):
            text = f"{short(place)} is no place below {where}.root, and would be a part of all names"
            remedy = f"set {where}.root to a folder above all images, and name what follows it here."
            yield Problem(f"{key}.{part}", text, remedy)
