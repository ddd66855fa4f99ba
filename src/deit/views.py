"""What a network sees at each position of each epoch: a pure function of (stream seed, epoch, position).

Every draw comes from a counter-based hash of those integers: the order of an epoch, the seeds of each view's
augmentation, and of each group's mixing. No history of a process, worker or rank has a part in it, so that the views
are the same for any number of them, in any order, and after any crash.

Shapes: G views of a mix group, C channels, H and W pixels, K classes.
"""

import platform
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import AugmentOp, posterize
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import MaybeToTensor
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import Compose

from .datasets import ImageSet
from .mixing import mix
from .recipes import EvaluationView, TrainingData, Views, canonical_digest

SCHEME = 1
"""Of the stream: raise it when equal parameters give other views than before, so that older caches are refused."""

ORDER, AUGMENTATION, MIXING = range(3)
PYTHON, NUMPY, TORCH = range(3)
LIBRARIES = ("numpy", "pillow", "timm", "torch", "torchvision")


class MixGroup(NamedTuple):
    positions: Tensor
    """(G,) int64, in the epoch."""
    views: Tensor
    """(G, C, H, W) float32, normalised and mixed."""
    targets: Tensor
    """(G, K) float32, mixed and smoothed."""


class ViewStream(Dataset):
    """The mix groups of all epochs: `stream[epoch, step, group]`."""

    def __init__(self, images: ImageSet, data: TrainingData, views: Views, stream_seed: int):
        self.images, self.data, self.recipe, self.seed = images, data, views, stream_seed
        self.steps_per_epoch = views.steps_per_epoch(len(images))
        self.groups_per_batch = views.batch // views.mix_group
        self.views_per_epoch = self.steps_per_epoch * views.batch
        self.render = Renderer(data, views)

    def __getitem__(self, key: tuple[int, int, int]) -> MixGroup:
        """The mix group (epoch, step, group); global generators are left as they were."""
        epoch, step, group = key
        positions = self.positions(step, group)
        shown = epoch_order(self.seed, epoch, len(self.images))[positions // self.recipe.repeats].tolist()
        seeds = keyed(AUGMENTATION, self.seed, epoch, positions[:, None], np.arange(3))
        views = self.render((self.images.image(index) for index in shown), seeds.tolist())
        labels = torch.tensor([self.images.targets(index)[0] for index in shown])
        mixing_key = int(keyed(MIXING, self.seed, epoch, step, group)[0]) >> 32
        return MixGroup(torch.from_numpy(positions), *mix(views, labels, self.recipe, self.data.classes, mixing_key))

    def positions(self, step: int, group: int) -> np.ndarray:
        """Positions (G,) int64 of a group in its epoch: every `groups_per_batch`-th, so that repeats do not meet."""
        first = step * self.recipe.batch + group
        return first + self.groups_per_batch * np.arange(self.recipe.mix_group)


@lru_cache(maxsize=2)
def epoch_order(stream_seed: int, epoch: int, images: int) -> np.ndarray:
    """Numbers (N,) of all images in the order of an epoch."""
    return np.argsort(keyed(ORDER, stream_seed, epoch, np.arange(images)), kind="stable")


def keyed(*integers: int | np.ndarray) -> np.ndarray:
    """A hash of integers, 64 bits, broadcast over arrays of them: a link of splitmix64 for each.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014; constants of java.util.
    """
    state = np.zeros(1, np.uint64)
    for integer in integers:
        word = np.uint64(integer % 2**64) if isinstance(integer, int) else integer.astype(np.uint64)
        state = (state ^ word) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
    return state


class Renderer:
    """Makes views of images with timm's stock training transform, each from seeds of its own.

    Conversion to numbers and normalisation draw nothing, so they are done once a group: a third of a small view's cost.
    """

    def __init__(self, data: TrainingData, views: Views):
        steps = training_transform(data, views).transforms
        on_tensors = next(i for i, step in enumerate(steps) if isinstance(step, MaybeToTensor))
        self.shape = (views.resolution, views.resolution, data.channels)
        self.augment = Compose(steps[:on_tensors])
        self.normalise, *erasing = steps[on_tensors + 1 :]
        self.erase: RandomErasing | None = erasing[0] if erasing else None

    def __call__(self, images: Iterator[Image.Image], seeds: list[list[int]]) -> Tensor:
        """Views (G, C, H, W) float32 of G images; `seeds` (G, 3) are those of the three global generators."""
        pixels = np.empty((len(seeds), *self.shape), np.uint8)
        # Noise where a view is erased, NaN elsewhere: erasing draws last, before the next view's seeds are set.
        noise = torch.full((len(seeds), *self.shape[2:], *self.shape[:2]), torch.nan)
        with restored_generators():
            for image, seed, picture, erased in zip(images, seeds, pixels, noise.unbind(), strict=True):
                seed_generators(seed)
                picture[:] = np.asarray(self.augment(image)).reshape(self.shape)
                if self.erase:
                    self.erase(erased)
        numbers = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255)
        views = self.normalise(numbers)
        return torch.where(noise.isnan(), views, noise) if self.erase else views


def training_transform(data: TrainingData, views: Views) -> Compose:
    """timm's transform of one image (PIL, mode L or RGB) to a view (C, H, W), with a posterize that cannot fail."""
    transform = create_transform(
        input_size=(data.channels, views.resolution, views.resolution),
        is_training=True,
        scale=views.scale,
        ratio=views.ratio,
        hflip=views.flip,
        color_jitter=None,
        auto_augment=views.randaugment or None,
        interpolation="bicubic",
        mean=data.mean,
        std=data.std,
        re_prob=views.erasing,
        re_mode="pixel",
    )
    for operation in augment_operations(transform):
        if operation.aug_fn is posterize:
            operation.aug_fn = posterize_to_black
    return transform


def augment_operations(transform: Compose) -> Iterator[AugmentOp]:
    """The operations of RandAugment (a list) or AutoAugment (a list of lists) in a transform."""
    for step in transform.transforms:
        yield from getattr(step, "ops", ())
        for operations in getattr(step, "policy", ()):
            yield from operations


def posterize_to_black(image: Image.Image, bits_to_keep: int, **options) -> Image.Image:
    """timm's posterize, and a black image of no bits, which is what Pillow gave before 13 and now refuses."""
    return posterize(image, bits_to_keep, **options) if bits_to_keep >= 1 else Image.new(image.mode, image.size)


def seed_generators(seeds: list[int]) -> None:
    """Seeds (3,) of 64 bits for the global generators that the transforms draw from; NumPy takes the upper 32."""
    random.seed(seeds[PYTHON])
    np.random.seed(seeds[NUMPY] >> 32)
    # torch.manual_seed would cost 90 us, for it also seeds the accelerators' generators.
    torch.default_generator.manual_seed(seeds[TORCH])


@contextmanager
def restored_generators() -> Iterator[None]:
    """The global generators are as before afterwards: stochastic depth, in the same process, draws from one of them."""
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(states[PYTHON])
        np.random.set_state(states[NUMPY])
        torch.default_generator.set_state(states[TORCH])


def evaluation_transform(data: TrainingData, view: EvaluationView) -> Callable[[Image.Image], Tensor]:
    """PIL image -> (C, H, W) float32, normalised: short side to resolution / crop, bicubic, then a centre crop."""
    return create_transform(
        input_size=(data.channels, view.resolution, view.resolution),
        interpolation="bicubic",
        mean=data.mean,
        std=data.std,
        crop_pct=view.crop,
    )


def transform_versions() -> dict[str, str]:
    """What makes views, beside our code; torch's builds for CPU and GPU make the same ones."""
    libraries = {name: version(name).partition("+")[0] for name in LIBRARIES}
    return {"python": ".".join(platform.python_version_tuple()[:2]), **libraries}


def stream_digest(data: TrainingData, views: Views, stream_seed: int) -> str:
    """Digest of all that makes the views of a stream: images, parameters, seed, versions. Independent of paths."""
    images = data.model_dump(mode="json")
    images["split"] = data.split.model_dump(mode="json", include={"images", "md5", "listing"})
    return canonical_digest(
        {
            "data": images,
            "views": views.model_dump(mode="json"),
            "seed": stream_seed,
            "versions": transform_versions(),
            "scheme": SCHEME,
        }
    )
