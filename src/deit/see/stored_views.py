"""The views of a stream on disk, made once for all runs that see them.

Making a small view costs more than training a small network on it. Where the views fit on a disk (views x pixels x 1.2
bytes), they are made once, and a stored view is the view, bit for bit; so it is part of no run's digest.
"""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from deit.see.datasets import training_images
from deit.see.loading import Keys, mix_groups
from deit.see.mixing import Mixing
from deit.see.recipes import StoringViews, Stream, TrainingData, Views
from deit.see.views import Key, MixGroup, ViewStream, stream_digest
from deit.store.interruption import saved_steps
from deit.store.job import Execution
from deit.store.results import read_result
from deit.store.shards import Form, ShardFolder, shard_name


def forms(data: TrainingData, views: Views) -> dict[str, Form]:
    """What a step adds to each array: the parts of its mix groups."""
    groups = (views.batch // views.mix_group, views.mix_group)
    return {
        "labels": (np.dtype(np.uint16), groups),
        "pixels": (np.dtype(np.uint8), (*groups, data.channels, views.resolution, views.resolution)),
        "boxes": (np.dtype(np.uint16), (*groups, 4)),
        "mixing": (np.dtype(np.float64), (groups[0], 5)),
        "noise": (np.dtype(np.float32), None),
    }


class StoredViews(ViewStream):
    """A stream that reads what `store` wrote: `stream[epoch, step, group]`, as a stream that makes its views."""

    def __init__(self, folder: Path, recipe: Stream):
        # The numbers of the images are all that is needed; their pixels are in the views.
        super().__init__(range(recipe.data.images), recipe.data, recipe.views, recipe.stream_seed)  # pyrefly: ignore[bad-argument-type]
        self.folder = folder
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest["stream"] != stream_digest(recipe.data, recipe.views, recipe.stream_seed):
            raise SystemExit(
                f"{folder}: holds the views of another stream, or made by other versions of the transforms "
                f"({manifest['stream']}). Delete the folder, and snakemake makes it again."
            )
        self.epoch, self.parts = -1, {}
        """The epoch that is open, and its arrays (steps, groups, ...), mapped into memory."""

    def __getitem__(self, key: Key) -> MixGroup:
        """The mix group (epoch, step, group)."""
        epoch, step, group = key
        if epoch != self.epoch:
            self.open(epoch)
        labels, pixels, boxes = (np.array(self.parts[part][step, group]) for part in ("labels", "pixels", "boxes"))
        weight, *box = self.parts["mixing"][step, group].tolist()
        first, end = self.spans[step, group]
        return MixGroup(
            positions=torch.from_numpy(self.positions(step, group)),
            labels=torch.from_numpy(labels.astype(np.int64)),
            pixels=torch.from_numpy(pixels),
            boxes=torch.from_numpy(boxes.astype(np.int64)),
            noise=torch.from_numpy(np.array(self.parts["noise"][first:end])),
            mixing=Mixing(weight, tuple(map(int, box))),
        )

    def __getitems__(self, keys: list[Key]) -> list[MixGroup]:
        return [self[key] for key in keys]

    def open(self, epoch: int) -> None:
        """Maps the arrays of an epoch; the noise of a group fills as many numbers as its boxes have pixels."""
        for part, (dtype, shape) in forms(self.data, self.recipe).items():
            path = self.folder / shard_name(part, epoch, ragged=shape is None)
            empty = not path.stat().st_size  # of a stream that erases nothing; cannot be mapped
            ragged = np.empty(0, dtype) if empty else np.memmap(path, dtype, "r") if shape is None else None
            self.parts[part] = np.load(path, mmap_mode="r") if ragged is None else ragged
        top, bottom, left, right = np.moveaxis(self.parts["boxes"].astype(np.int64), -1, 0)
        sizes = self.data.channels * ((bottom - top) * (right - left)).sum(-1)
        ends = sizes.cumsum().reshape(sizes.shape)
        self.epoch, self.spans = epoch, np.stack([ends - sizes, ends], -1)


def open_stream(recipe: Stream, root: str, stored: Path | None = None, manifest: dict | None = None) -> ViewStream:
    """The stream of a recipe: read from the result `stored`, or made from the images below `root`.

    Raises SystemExit where these are not the images of the manifest.
    """
    if stored:
        read_result(stored).verify()  # all of it now, as workers that find damage later could not say so
        return StoredViews(stored, recipe)
    return ViewStream(training_images(recipe.data, root, manifest), recipe.data, recipe.views, recipe.stream_seed)


def store(folder: Path, recipe: StoringViews, stream: ViewStream, execution: Execution) -> None:
    """Fills `folder` with the views of all epochs, as the parts of their mix groups, and a manifest.

    Goes on with what is there of them. Raises SystemExit, with all that was made so far saved, on SIGTERM or SIGUSR1.
    """
    steps, groups = stream.steps_per_epoch, stream.groups_per_batch
    manifest = {"stream": stream_digest(recipe.data, recipe.views, recipe.stream_seed), "epochs": recipe.epochs}
    shards = ShardFolder(folder, manifest, forms(recipe.data, recipe.views), steps, range(recipe.epochs))
    keys = Keys(shards.steps, shards.end, steps, range(groups))
    with mix_groups(stream, keys, execution) as made:
        for _ in saved_steps(shards.remaining, shards.save, execution.save_minutes):
            batch = list(islice(made, groups))
            step = {part: np.stack([getattr(one, part) for one in batch]) for part in ("labels", "pixels", "boxes")}
            step["mixing"] = np.array([[one.mixing.weight, *one.mixing.box] for one in batch])
            step["noise"] = np.concatenate([one.noise for one in batch])
            shards.add(step)
    shards.finish()
