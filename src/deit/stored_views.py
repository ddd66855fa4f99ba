"""The views of a stream on disk, made once for all runs that see them.

Making a small view costs more than training a small network on it. Where the views fit on a disk (views x pixels x 4
bytes), they are made once, and a stored view is the view, bit for bit; so it is part of no run's digest.
"""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from .datasets import training_images
from .loading import Keys, mix_groups
from .recipes import Caching, Execution, StoringViews, Training
from .results import read_result
from .shards import ShardFolder, shard_name
from .views import MixGroup, ViewStream, stream_digest

PARTS = ("views", "targets")


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
        self.epoch, self.shards = -1, ()
        """The epoch that is open: views (steps, groups, G, C, H, W) and targets (steps, groups, G, K), mapped."""

    def __getitem__(self, key: tuple[int, int, int]) -> MixGroup:
        """The mix group (epoch, step, group)."""
        epoch, step, group = key
        if epoch != self.epoch:
            paths = [self.folder / shard_name(part, epoch) for part in PARTS]
            self.epoch, self.shards = epoch, [np.load(path, mmap_mode="r") for path in paths]
        positions = torch.from_numpy(self.positions(step, group))
        return MixGroup(positions, *(torch.from_numpy(np.array(part[step, group])) for part in self.shards))


def open_stream(
    recipe: Training | Caching | StoringViews, root: str, stored: Path | None = None, manifest: dict | None = None
) -> ViewStream:
    """The stream of a recipe: read from the result `stored`, or made from the images below `root`.

    Raises SystemExit where these are not the images of the manifest.
    """
    if stored:
        read_result(stored).verify()  # all of it now, as workers that find damage later could not say so
        return StoredViews(stored, recipe)
    return ViewStream(training_images(recipe.data, root, manifest), recipe.data, recipe.views, recipe.stream_seed)


def store(folder: Path, recipe: StoringViews, stream: ViewStream, execution: Execution) -> None:
    """Fills `folder` with the views and targets of all epochs, and a manifest; goes on with what is there of them.

    Raises SystemExit, with all that was made so far saved, on SIGTERM or SIGUSR1.
    """
    steps, groups, views = stream.steps_per_epoch, stream.groups_per_batch, recipe.views
    of_group = {
        "views": (recipe.data.channels, views.resolution, views.resolution),
        "targets": (recipe.data.classes,),
    }
    arrays = {name: (np.float32, (groups, views.mix_group, *shape)) for name, shape in of_group.items()}
    manifest = {"stream": stream_digest(recipe.data, views, recipe.stream_seed), "epochs": recipe.epochs}
    shards = ShardFolder(folder, manifest, arrays, steps, range(recipe.epochs))
    made = mix_groups(stream, Keys(shards.steps, recipe.epochs * steps, steps, range(groups)), execution)
    for step in shards.remaining(execution.save_minutes):
        for number, group in enumerate(islice(made, groups)):
            step["views"][number], step["targets"][number] = group.views.numpy(), group.targets.numpy()
    shards.finish()
