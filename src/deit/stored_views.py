"""The views of a stream on disk, made once for all runs that see them.

Making a small view costs more than training a small network on it. Where the views fit on a disk (views x pixels x 1.2
bytes), they are made once, and a stored view is the view, bit for bit; so it is part of no run's digest.
"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from .datasets import training_images
from .loading import Keys, mix_groups
from .mixing import Mixing
from .recipes import Caching, Execution, StoringViews, Training
from .views import Key, MixGroup, ViewStream, stream_digest


class StoredViews(ViewStream):
    """A stream that reads what `store` wrote: `stream[epoch, step, group]`, as a stream that makes its views."""

    def __init__(self, folder: Path, recipe: Training | Caching):
        # The numbers of the images are all that is needed; their pixels are in the views.
        super().__init__(range(recipe.data.images), recipe.data, recipe.views, recipe.stream_seed)
        self.folder = folder
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["stream"] != stream_digest(recipe.data, recipe.views, recipe.stream_seed):
            raise SystemExit(
                f"{folder}: holds the views of another stream, or made by other versions of the transforms "
                f"({manifest['stream']}). Delete the folder, and snakemake makes it again."
            )

    def __getitem__(self, key: tuple[int, int, int]) -> MixGroup:
        """The mix group (epoch, step, group)."""
        epoch, step, group = key
        *parts, noise, ends = shards(self.folder, epoch)
        labels, pixels, boxes, mixing = (torch.from_numpy(np.array(part[step, group])) for part in parts)
        weight, *box = mixing.tolist()
        end, size = ends[step, group], self.data.channels * int(areas(boxes.numpy()))
        return MixGroup(
            positions=torch.from_numpy(self.positions(step, group)),
            labels=labels,
            pixels=pixels,
            boxes=boxes,
            noise=torch.from_numpy(np.array(noise[end - size : end])),
            mixing=Mixing(weight, tuple(map(int, box))),
        )

    def __getitems__(self, keys: list[Key]) -> list[MixGroup]:
        return [self[key] for key in keys]


def areas(boxes: np.ndarray) -> np.ndarray:
    """Pixels (...) in the boxes (..., G, 4) of a group."""
    top, bottom, left, right = np.moveaxis(boxes, -1, 0)
    return ((bottom - top) * (right - left)).sum(-1)


@lru_cache(maxsize=2)
def shards(folder: Path, epoch: int) -> tuple[np.ndarray, ...]:
    """Labels, pixels, boxes and mixing (steps, groups, ...), noise (N,) and its ends by group, mapped into memory."""
    labels, pixels, boxes, mixing, noise = (np.load(folder / name, mmap_mode="r") for name in shard_names(epoch))
    sizes = pixels.shape[3] * areas(boxes)
    return labels, pixels, boxes, mixing, noise, sizes.cumsum().reshape(sizes.shape)


def shard_names(epoch: int) -> tuple[str, ...]:
    return tuple(f"{part}-{epoch:04d}.npy" for part in ("labels", "pixels", "boxes", "mixing", "noise"))


def open_stream(recipe: Training | Caching | StoringViews, root: str, stored: Path | None = None) -> ViewStream:
    """The stream of a recipe: read from the folder `stored`, or made from the images below `root`."""
    if stored:
        return StoredViews(stored, recipe)
    return ViewStream(training_images(recipe.data, root), recipe.data, recipe.views, recipe.stream_seed)


def store(folder: Path, recipe: StoringViews, stream: ViewStream, execution: Execution) -> None:
    """Fills `folder` with the views of all epochs, as the parts of their mix groups, and a manifest."""
    steps, groups, views = stream.steps_per_epoch, stream.groups_per_batch, recipe.views
    made = mix_groups(stream, Keys(0, recipe.epochs * steps, steps, range(groups)), execution)
    image = (recipe.data.channels, views.resolution, views.resolution)
    parts = [(np.int64, ()), (np.uint8, image), (np.int64, (4,))]
    shapes = [(kind, (steps, groups, views.mix_group, *shape)) for kind, shape in parts]
    shapes.append((np.float64, (steps, groups, 5)))
    for epoch in range(recipe.epochs):
        *names, last = shard_names(epoch)
        files = [
            np.lib.format.open_memmap(folder / name, "w+", kind, shape)
            for name, (kind, shape) in zip(names, shapes, strict=True)
        ]
        noise = []
        for place in np.ndindex(steps, groups):
            group = next(made)
            mixing = [group.mixing.weight, *group.mixing.box]
            for file, part in zip(files, (group.labels, group.pixels, group.boxes, mixing), strict=True):
                file[place] = part
            noise.append(group.noise.numpy())
        np.save(folder / last, np.concatenate(noise))
    manifest = {"stream": stream_digest(recipe.data, views, recipe.stream_seed), "epochs": recipe.epochs}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
