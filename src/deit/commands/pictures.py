"""What the networks see, for people: views of a run with its teacher's answers, and images on which classifiers differ.

Pictures are PNG as data URIs; classes are numbers, which `class_names` turns into words where the data have some.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deit.see.datasets import ImageSet, located
from deit.see.finishing import erase_, normalised
from deit.see.mixing import Mixing, draw_mixing
from deit.see.recipes import TrainingData
from deit.see.views import MIXING, ViewStream, keyed
from deit.store.results import Result
from deit.tables.predictions import Inputs
from deit.tables.recipes import Cell
from deit.teach.teacher_logits import load_teacher, logits_of

LARGEST = 128
"""Pixels a side of a picture; larger images are made smaller."""
SEARCHED = 64
"""Mix groups that are searched for one of each kind."""
NAMES = "classes.txt"
Share = tuple[int, float]
"""A class and its share, of a label or of a teacher's probability."""


def class_names(root: Path | str, classes: int) -> list[str]:
    """A name a class: the lines of classes.txt below data.root, or numbers where it is not there."""
    path = located(root) / NAMES
    names = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return names if len(names) == classes else [f"class {number}" for number in range(classes)]


# Views ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SeenView:
    """One view from the image to what the network is given."""

    mixed_by: str
    """mixup, cutmix, or nothing."""
    image: str
    augmented: str
    """After crop, flip and RandAugment."""
    erased: str
    mixed: str
    """After mixing: what the network sees."""
    label: tuple[Share, ...]
    """Of the loss, mixed and smoothed: the classes of both images."""
    teacher: tuple[Share, ...]
    """The two classes that the teacher finds most probable for this very view."""


def seen_views(student: Result, teacher: Result, images: ImageSet, each: int) -> list[SeenView]:
    """Views of a student's first epoch, so many of one mix group with mixup, and of one with cutmix.

    `images` are those that the student learnt from.
    """
    recipe = student.job.resolved()
    stream = ViewStream(images, recipe.data, recipe.views, recipe.stream_seed)
    net = load_teacher(teacher, teacher.job.resolved().model, recipe.data, torch.device("cpu"), "fp32")
    return [view for key, mixing in groups_of_each_kind(stream) for view in of_group(stream, net, key, mixing, each)]


def kind_of(mixing: Mixing) -> str:
    top, bottom, left, right = mixing.box
    return "nothing" if mixing.weight == 1 else "cutmix" if top < bottom and left < right else "mixup"


def groups_of_each_kind(stream: ViewStream) -> list[tuple[tuple[int, int, int], Mixing]]:
    """The first mix group with cutmix and the first with mixup in the first epoch; without either, the first group."""
    found: dict[str, tuple[tuple[int, int, int], Mixing]] = {}
    for number in range(min(SEARCHED, stream.steps_per_epoch * stream.groups_per_batch)):
        key = (0, *divmod(number, stream.groups_per_batch))
        mixing = draw_mixing(stream.recipe, int(keyed(MIXING, stream.seed, *key)[0]) >> 32)
        found.setdefault(kind_of(mixing), (key, mixing))
    return [found[kind] for kind in ("cutmix", "mixup") if kind in found] or list(found.values())


def of_group(stream: ViewStream, net: torch.nn.Module, key: tuple, mixing: Mixing, count: int) -> Iterator[SeenView]:
    """The first views of a mix group."""
    group, data = stream[key], stream.data
    erased = normalised(group.pixels, data.mean, data.std)
    erase_(erased, group.boxes.numpy(), group.noise)
    views, targets = stream.finish(group, torch.device("cpu"))
    probabilities = logits_of(net, views[:count], "fp32").softmax(1)
    shown = stream.shown(key[0], stream.positions(*key[1:]))
    smoothed = stream.recipe.label_smoothing / data.classes
    for i in range(min(count, len(views))):
        yield SeenView(
            mixed_by=kind_of(mixing),
            image=picture(stream.images.image(int(shown[i]))),
            augmented=picture(as_image(normalised(group.pixels[i : i + 1], data.mean, data.std)[0], data)),
            erased=picture(as_image(erased[i], data)),
            mixed=picture(as_image(views[i], data)),
            label=tuple(share for share in largest(targets[i]) if share[1] > 1.01 * smoothed),
            teacher=largest(probabilities[i]),
        )


def largest(shares: Tensor) -> tuple[Share, ...]:
    """The two largest of (K,)."""
    found = shares.topk(2)
    return tuple(zip(found.indices.tolist(), found.values.tolist(), strict=True))


def as_image(view: Tensor, data: TrainingData) -> Image.Image:
    """A normalised view (C, H, W) as an image; what lies beyond black and white is cut off, as of erasing's noise."""
    mean, std = (torch.tensor(part)[:, None, None] for part in (data.mean, data.std))
    pixels = (255 * (view * std + mean)).clamp(0, 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if data.channels == 1 else pixels)


def picture(image: Image.Image) -> str:
    """A PNG as a data URI."""
    small = image.copy()
    small.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


# Disagreement ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Differing:
    """An image on which classifiers decide differently."""

    image: str
    truth: tuple[int, ...]
    answers: tuple[int, ...]
    """One a classifier, in the order that was asked for."""


@dataclass(frozen=True)
class Case:
    """The images on which each classifier is right or wrong in one way."""

    right: tuple[bool, ...]
    """One a classifier."""
    count: int
    shown: tuple[Differing, ...]


def differing_images(inputs: Inputs, classifiers: Sequence[Cell], images: ImageSet, each: int) -> list[Case]:
    """The cases in which some classifiers are right and others wrong, the most frequent first.

    Each classifier is its cell's first run; `images` are those of the evaluation set of all cells. So many of each
    case are shown, at even distances, so that nobody chooses them.
    """
    first = classifiers[0]
    asked = [(cell.runs[0], cell.evaluation_set, cell.read) for cell in classifiers]
    right = np.stack([inputs.correct(*one) for one in asked])
    answers = np.stack([inputs.decisions(*one) for one in asked])
    numbers = {images.identity(number): number for number in range(len(images))}
    names = inputs.images(first.runs[0], first.evaluation_set)
    patterns, which, counts = np.unique(right.T, axis=0, return_inverse=True, return_counts=True)
    cases = []
    for case in np.argsort(-counts, kind="stable"):
        pattern = tuple(map(bool, patterns[case]))
        if all(pattern) or not any(pattern):
            continue
        members = np.flatnonzero(which.reshape(-1) == case)
        chosen = members[np.linspace(0, len(members) - 1, min(each, len(members))).astype(int)]
        shown = [
            Differing(
                image=picture(images.image(numbers[names[member]])),
                truth=images.targets(numbers[names[member]]),
                answers=tuple(answers[:, member].tolist()),
            )
            for member in chosen.tolist()
        ]
        cases.append(Case(pattern, len(members), tuple(shown)))
    return cases
