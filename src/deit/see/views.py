"""What a network sees at each position of each epoch: a pure function of (stream seed, epoch, position).

Every draw comes from a counter-based hash of those integers: the order of an epoch, the seeds of each view's
augmentation, and of each group's mixing. No history of a process, worker or rank has a part in it, so that the views
are the same for any number of them, in any order, and after any crash.

A view is made in two places. A loader decodes, crops and augments, and hands over bytes and draws (`MixGroup`); the
device of the training normalises, erases and mixes them (`ViewStream.finish`), which is cheap there.

Shapes: V views, G views of a mix group, C channels, H and W pixels, K classes.
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
from torchvision.transforms import Compose, InterpolationMode, RandomCrop, Resize

from deit.see.datasets import ImageSet
from deit.see.finishing import erase_, mixed, mixed_targets, normalised, sent
from deit.see.mixing import Mixing, draw_mixing
from deit.see.recipes import EvaluationView, TrainingData, Views
from deit.store.job import canonical_digest, without_none

SCHEME = 1
"""Of the stream: raise it when equal parameters give other views than before, so that older caches are refused."""

ORDER, AUGMENTATION, MIXING = range(3)
PYTHON, NUMPY, TORCH = range(3)
Key = tuple[int, int, int]
"""Epoch, step, group."""
LIBRARIES = ("numpy", "pillow", "timm", "torch", "torchvision")


class MixGroup(NamedTuple):
    """What a loader hands over of G views: `ViewStream.finish` makes the views of it."""

    positions: Tensor
    """(G,) int64, in the epoch."""
    labels: Tensor
    """(G,) int64, the true classes."""
    pixels: Tensor
    """(G, C, H, W) uint8, augmented; in memory (G, H, W, C), as images are decoded."""
    boxes: Tensor
    """(G, 4) int64, what is erased of each view: top, bottom, left, right; zeros where nothing is."""
    noise: Tensor
    """(N,) float32, what the boxes are filled with: the (C, height, width) of each, one after another."""
    mixing: Mixing
    """What the views are mixed by."""


class ViewStream(Dataset):
    """The mix groups of all epochs: `stream[epoch, step, group]`, and the views that they become."""

    def __init__(self, images: ImageSet, data: TrainingData, views: Views, stream_seed: int):
        self.images, self.data, self.recipe, self.seed = images, data, views, stream_seed
        self.steps_per_epoch = views.steps_per_epoch(len(images))
        self.groups_per_batch = views.batch // views.mix_group
        self.views_per_epoch = self.steps_per_epoch * views.batch
        self.render = Renderer(data, views)

    def __getitem__(self, key: Key) -> MixGroup:  # pyrefly: ignore[bad-override-param-name]
        """The mix group (epoch, step, group); global generators are left as they were."""
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: list[Key]) -> list[MixGroup]:
        """The mix groups of several keys, each as it is alone; an image is decoded once for all of its views in them.

        torch's loader calls this method, by this name, where it is asked for several items at a time.
        """
        epochs, steps, groups = zip(*keys, strict=True)
        positions = list(map(self.positions, steps, groups))
        shown = list(map(self.shown, epochs, positions))
        seeds = list(map(self.seeds, epochs, positions))
        pixels, erased = self.render(self.images.image, np.concatenate(shown), np.concatenate(seeds))
        parts = zip(keys, positions, shown, np.split(pixels, len(keys)), np.split(erased, len(keys)), strict=True)
        return [self.group(*part) for part in parts]

    def positions(self, step: int, group: int) -> np.ndarray:
        """Positions (G,) int64 of a group in its epoch: every `groups_per_batch`-th, so that repeats do not meet."""
        first = step * self.recipe.batch + group
        return first + self.groups_per_batch * np.arange(self.recipe.mix_group)

    def shown(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """Numbers (G,) of the images at positions (G,) of an epoch."""
        return epoch_order(self.seed, epoch, len(self.images))[positions // self.recipe.repeats]

    def seeds(self, epoch: int, positions: np.ndarray) -> np.ndarray:
        """Seeds (G, 3) of the global generators for the views at positions (G,) of an epoch."""
        return keyed(AUGMENTATION, self.seed, epoch, positions[:, None], np.arange(3))

    def group(
        self, key: Key, positions: np.ndarray, shown: np.ndarray, pixels: np.ndarray, erased: np.ndarray
    ) -> MixGroup:
        """A key's group of what was drawn for its views: image numbers (G,), pixels (G, H, W, C), patches (G,)."""
        return MixGroup(
            positions=torch.from_numpy(positions),
            labels=torch.tensor([self.images.targets(index)[0] for index in shown.tolist()]),
            pixels=torch.from_numpy(pixels).permute(0, 3, 1, 2),
            boxes=torch.tensor([patch.box for patch in erased]),
            noise=torch.cat([patch.noise for patch in erased]),
            mixing=draw_mixing(self.recipe, int(keyed(MIXING, self.seed, *key)[0]) >> 32),
        )

    def finish(self, group: MixGroup, device: torch.device) -> tuple[Tensor, Tensor]:
        """Views (G, C, H, W) and targets (G, K) of one mix group, as `finish_all`."""
        return self.finish_all([group], device)

    def finish_all(self, groups: list[MixGroup], device: torch.device) -> tuple[Tensor, Tensor]:
        """Views (V, C, H, W), normalised, erased and mixed, and targets (V, K), mixed and smoothed, of mix groups.

        Both are float32 and on the device. A pure function of each group, which waits for no GPU.
        """
        # The largest part is not joined on the host, which would copy it once more.
        pixels = torch.cat([group.pixels.to(device, non_blocking=True) for group in groups])
        labels, noise, boxes = (
            np.concatenate([getattr(group, part).numpy() for group in groups]) for part in ("labels", "noise", "boxes")
        )
        mixings = [group.mixing for group in groups]
        views = normalised(pixels, self.data.mean, self.data.std)
        erase_(views, boxes, sent(noise, device))
        targets = mixed_targets(sent(labels, device), mixings, self.data.classes, self.recipe.label_smoothing)
        return mixed(views, mixings), targets


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
    """Draws views of images with timm's stock training transform, up to where images would become numbers."""

    def __init__(self, data: TrainingData, views: Views):
        steps = training_transform(data, views).transforms
        on_tensors = next(i for i, step in enumerate(steps) if isinstance(step, MaybeToTensor))
        self.shape = (views.resolution, views.resolution, data.channels)
        self.augment = Compose(steps[:on_tensors])
        self.erase = next((step for step in steps if isinstance(step, RandomErasing)), None)

    def __call__(
        self, image: Callable[[int], Image.Image], shown: np.ndarray, seeds: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (V, H, W, C) uint8 and erased patches (V,) of views of the images `shown` (V,).

        `seeds` (V, 3) are those of the three global generators. The views are made in the order of the images' numbers,
        so that an image's repeats follow each other.
        """
        pixels = np.empty((len(shown), *self.shape), np.uint8)
        erased = np.array([Patch(self.shape) for _ in shown])
        decoded = lru_cache(maxsize=1)(image)
        with restored_generators():
            for view in shown.argsort(kind="stable"):
                seed_generators(seeds[view].tolist())
                pixels[view] = np.asarray(self.augment(decoded(int(shown[view])))).reshape(self.shape)
                if self.erase:
                    self.erase(erased[view])
        return pixels, erased


class Patch:
    """What timm's RandomErasing takes for a view (C, H, W) to erase: keeps the noise, and where it belongs."""

    dtype = torch.float32

    def __init__(self, shape: tuple[int, int, int]):
        """`shape` is that of an image: H, W, C."""
        height, width, channels = shape
        self.whole = (channels, height, width)
        self.box, self.noise = (0, 0, 0, 0), torch.empty(0)

    def size(self) -> tuple[int, int, int]:
        return self.whole

    def __setitem__(self, where: tuple[slice, slice, slice], noise: Tensor) -> None:
        _, rows, columns = where
        self.box, self.noise = (rows.start, rows.stop, columns.start, columns.stop), noise.flatten()


def training_transform(data: TrainingData, views: Views) -> Compose:
    """timm's transform of one image (PIL, mode L or RGB) to a view (C, H, W), with a posterize that cannot fail."""
    interpolation = views.interpolation or "bicubic"
    transform = create_transform(
        input_size=(data.channels, views.resolution, views.resolution),
        is_training=True,
        scale=views.scale,
        ratio=views.ratio,
        hflip=views.flip,
        color_jitter=views.color_jitter,
        auto_augment=views.randaugment or None,
        interpolation=interpolation,
        mean=data.mean,
        std=data.std,
        re_prob=views.erasing,
        re_mode="pixel",
    )
    for operation in augment_operations(transform):
        if operation.aug_fn is posterize:
            operation.aug_fn = posterize_to_black
    if views.crop == "simple":
        transform.transforms[:1] = simple_crop(views.resolution, InterpolationMode(interpolation))
    return transform


def simple_crop(resolution: int, interpolation: InterpolationMode) -> list[Callable]:
    """What stands in place of the random resized crop: DeiT III's simple random crop, with the code's padding."""
    return [Resize(resolution, interpolation), RandomCrop(resolution, padding=4, padding_mode="reflect")]


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
    """The global generators are as before afterwards, for whatever else draws from them in the same process."""
    python, numpy, pytorch = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(pytorch)


def evaluation_transform(data: TrainingData, view: EvaluationView) -> Callable[[Image.Image], Tensor]:
    """PIL image -> (C, H, W) float32, normalised: short side to resolution / crop, bicubic, then a centre crop."""
    return create_transform(
        input_size=(data.channels, view.resolution, view.resolution),
        interpolation="bicubic",
        mean=data.mean,
        std=data.std,
        crop_pct=view.crop,
    )


class EvaluationViews(Dataset):
    """The images of a set as the network sees them in evaluation, each (C, H, W), in the order of the set."""

    def __init__(self, images: ImageSet, transform: Callable[[Image.Image], Tensor]):
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(self.images.image(index))


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
            "views": without_none(views.model_dump(mode="json")),
            "seed": stream_seed,
            "versions": transform_versions(),
            "scheme": SCHEME,
        }
    )
