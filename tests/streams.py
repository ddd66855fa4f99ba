"""Streams of views, of Fashion-MNIST and of images that are their own numbers."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deit.see.recipes import Split, TrainingData, Views
from deit.see.views import (
    MixGroup,
    ViewStream,
)

FASHION = Path(__file__).parents[1] / "workflow" / "resources" / "fashion-mnist"
FILES = {"images": "t10k-images-idx3-ubyte.gz", "labels": "t10k-labels-idx1-ubyte.gz"}
DATA = TrainingData(
    name="fashion-mnist",
    reader="idx",
    classes=10,
    channels=1,
    mean=(0.286,),
    std=(0.353,),
    split=Split(images=10000, files=FILES),
)
VIEWS = Views(
    resolution=16,
    batch=32,
    mix_group=8,
    repeats=3,
    scale=(0.08, 1),
    ratio=(0.75, 4 / 3),
    flip=0.5,
    randaugment="rand-m9-mstd0.5-inc1",
    erasing=0.25,
    mixup=0.8,
    cutmix=1.0,
    mix_probability=1,
    switch_probability=0.5,
    label_smoothing=0.1,
)
UNMIXED = VIEWS.model_copy(update={"mix_probability": 0})


class Numbers:
    """Images whose every pixel, and whose label, is their number; in colour on request."""

    def __init__(self, count: int, mode: str = "L"):
        self.count, self.mode = count, mode

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Image.Image:
        return Image.new("L", (28, 28), index).convert(self.mode)

    def targets(self, index: int) -> tuple[int, ...]:
        return (index % 10,)

    def identity(self, index: int) -> str:
        return str(index)


def stream(images, views: Views = VIEWS, seed: int = 5, data: TrainingData = DATA) -> ViewStream:
    return ViewStream(images, data, views, seed)


def colour(data: TrainingData = DATA) -> TrainingData:
    return data.model_copy(update={"channels": 3, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)})


def views_of(subject: ViewStream, key) -> torch.Tensor:
    return subject.finish(subject[key], torch.device("cpu"))[0]


def digest(subject: ViewStream, key) -> str:
    return digest_of(subject, subject[key])


def digest_of(subject: ViewStream, group: MixGroup) -> str:
    return sha256(group.positions, *subject.finish(group, torch.device("cpu")))


def sha256(*tensors: torch.Tensor) -> str:
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in tensors)).hexdigest()[:16]


class Square(Numbers):
    """Images in colour, 60 x 60 pixels of 8 x 8 random colours."""

    def image(self, index: int) -> Image.Image:
        colours = np.random.RandomState(index).randint(0, 256, (8, 8, 3)).astype(np.uint8)
        return Image.fromarray(colours).resize((60, 60), Image.Resampling.BICUBIC)
