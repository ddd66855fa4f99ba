"""The views of a stream on disk, made once for all runs that see them.

Making a small view costs more than training a small network on it. Where the views fit on a disk (views x pixels x 4
bytes), they are made once, and a stored view is the view, bit for bit; so it is part of no run's digest.
"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from .datasets import training_images
from .loading import Keys, mix_groups
from .recipes import Caching, Execution, StoringViews, Training
from .views import MixGroup, ViewStream, stream_digest


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
        views, targets = shards(self.folder, epoch)
        positions = torch.from_numpy(self.positions(step, group))
        return MixGroup(positions, *(torch.from_numpy(np.array(part[step, group])) for part in (views, targets)))


@lru_cache(maxsize=2)
def shards(folder: Path, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Views (steps, groups, G, C, H, W) and targets (steps, groups, G, K) of an epoch, float32, mapped into memory."""
    return tuple(np.load(folder / name, mmap_mode="r") for name in shard_names(epoch))


def shard_names(epoch: int) -> tuple[str, str]:
    return f"views-{epoch:04d}.npy", f"targets-{epoch:04d}.npy"


def open_stream(
    recipe: Training | Caching | StoringViews, root: str, stored: Path | None = None, manifest: dict | None = None
) -> ViewStream:
    """The stream of a recipe: read from the folder `stored`, or made from the images below `root`.

    Raises SystemExit where these are not the images of the manifest.
    """
    if stored:
        return StoredViews(stored, recipe)
    return ViewStream(training_images(recipe.data, root, manifest), recipe.data, recipe.views, recipe.stream_seed)


def store(folder: Path, recipe: StoringViews, stream: ViewStream, execution: Execution) -> None:
    """Fills `folder` with the views and targets of all epochs, and a manifest."""
    steps, groups, views = stream.steps_per_epoch, stream.groups_per_batch, recipe.views
    made = mix_groups(stream, Keys(0, recipe.epochs * steps, steps, range(groups)), execution)
    image = (recipe.data.channels, views.resolution, views.resolution)
    for epoch in range(recipe.epochs):
        shapes = [(steps, groups, views.mix_group, *image), (steps, groups, views.mix_group, recipe.data.classes)]
        files = [
            np.lib.format.open_memmap(folder / name, "w+", np.float32, shape)
            for name, shape in zip(shard_names(epoch), shapes, strict=True)
        ]
        for place in np.ndindex(steps, groups):
            group = next(made)
            files[0][place], files[1][place] = group.views.numpy(), group.targets.numpy()
    manifest = {"stream": stream_digest(recipe.data, views, recipe.stream_seed), "epochs": recipe.epochs}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
