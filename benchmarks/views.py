"""What a view costs the loader: ours, beside timm's stock transform, and beside this project's code before views were
finished on the device of the training.

    PYTHONPATH=src:workflow python benchmarks/views.py [--repetitions 11] [--before f8c6bb8]

The views are those of params/imagenet.yaml at both resolutions, of JPEGs of 500 x 375 pixels that the script makes. All
variants show the same images, read by the same class. timm's transform includes erasing; mixing is left out, as in
timm's own loop, which mixes on the device; up to bytes, it leaves erasing to the device too. Ours is all that a loader
does, and `finish` what is left to the device, here a CPU. Every repetition runs all variants one after another, in an
order of its own, so that what else the machine does meets all of them; a ratio is the median of the repetitions'
ratios. The time is the CPU time of this process, one thread.
"""

import argparse
import importlib
import io
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from photographs import SIZE, write_photographs
from PIL import Image
from plan.studies import plan_study
from torch.nn.functional import interpolate

from deit.learn.recipes import Training
from deit.see.datasets import ImageSet, training_images
from deit.see.loading import GROUPS_AT_A_TIME
from deit.see.views import ViewStream, training_transform

ROOT = Path(__file__).parents[1]
IMAGES = 384
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=11)
    parser.add_argument("--before", default="f8c6bb8", help="the commit to compare with; empty = none")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        kilobytes = write_photographs(Path(folder) / "train", IMAGES)
        before = earlier_package(arguments.before, Path(folder)) if arguments.before else None
        print(f"{IMAGES} JPEGs of {SIZE[0]} x {SIZE[1]}, {kilobytes:.0f} kB each; one thread")
        for recipe in recipes():
            images = Repeated(training_images(recipe.data, folder), recipe.views.batch)
            print_table(recipe, interleaved(variants(recipe, images, before), arguments.repetitions))


def recipes() -> list[Training]:
    """Of a student's pretraining and fine-tuning, for the script's images."""
    plan = plan_study("imagenet")
    jobs = [job.resolved() for section in ("students", "finetuned") for job in plan.of_section(section)]
    by_resolution = {recipe.views.resolution: recipe for recipe in jobs}
    changes = {"split": {"images": IMAGES, "folder": "train"}, "classes": 2, "held_out": 0}
    return [
        recipe.model_copy(update={"data": type(recipe.data).model_validate(recipe.data.model_dump() | changes)})
        for _, recipe in sorted(by_resolution.items())
    ]


class Repeated:
    """As many images as an epoch of one step needs, from fewer."""

    def __init__(self, images: ImageSet, count: int):
        self.images, self.count = images, count

    def __len__(self) -> int:
        return self.count

    def image(self, index: int) -> Image.Image:
        return self.images.image(index % len(self.images))

    def targets(self, index: int) -> tuple[int, ...]:
        return self.images.targets(index % len(self.images))


def earlier_package(commit: str, folder: Path) -> ModuleType:
    """The module of views of a commit, imported beside the present one; `folder` takes its source."""
    packed = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as source:
        source.extractall(folder, filter="data")
    present = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "deit"}
    sys.path.insert(0, str(folder / "src"))
    try:
        return importlib.import_module("deit.see.views" if (folder / "src/deit/see").exists() else "deit.views")
    finally:
        sys.path.pop(0)
        sys.modules.update(present)


def variants(recipe: Training, images: ImageSet, before: ModuleType | None) -> dict[str, Callable[[int], None]]:
    """Functions of the number of a repetition; each makes the views of `GROUPS_AT_A_TIME` mix groups."""
    stream, transform = ViewStream(images, recipe.data, recipe.views, 0), training_transform(recipe.data, recipe.views)

    def keys(epoch: int) -> list[tuple[int, int, int]]:
        return [(epoch, 0, group) for group in range(GROUPS_AT_A_TIME)]

    def ours(epoch: int) -> None:
        stream.__getitems__(keys(epoch))

    def one_by_one(epoch: int) -> None:
        for key in keys(epoch):
            stream[key]

    made = stream.__getitems__(keys(0))

    def finish(epoch: int) -> None:
        for group in made:
            stream.finish(group, CPU)

    def timm(epoch: int) -> None:
        for _, step, group in keys(epoch):
            shown = stream.shown(epoch, stream.positions(step, group)).tolist()
            torch.stack([transform(images.image(index)) for index in shown])

    def timm_bytes(epoch: int) -> None:
        for _, step, group in keys(epoch):
            shown = stream.shown(epoch, stream.positions(step, group)).tolist()
            np.stack([np.asarray(stream.render.augment(images.image(index))) for index in shown])

    by_torch = ViewStream(images, recipe.data, recipe.views, 0)
    by_torch.render.augment.transforms[0] = TorchCrop(by_torch.render.augment.transforms[0])

    def ours_by_torch(epoch: int) -> None:
        by_torch.__getitems__(keys(epoch))

    bilinear = ViewStream(images, recipe.data, recipe.views.model_copy(update={"interpolation": "bilinear"}), 0)

    def ours_bilinear(epoch: int) -> None:
        bilinear.__getitems__(keys(epoch))

    found = {
        "ours": ours,
        "ours, bilinear": ours_bilinear,
        "ours, resized by torch": ours_by_torch,
        "one by one": one_by_one,
        "finish": finish,
    }
    found |= {"timm": timm, "timm, bytes": timm_bytes}
    if before:
        earlier = before.ViewStream(images, recipe.data, recipe.views, 0)

        def earlier_groups(epoch: int) -> None:
            for key in keys(epoch):
                earlier[key]

        found["before"] = earlier_groups
    return found


class TorchCrop:
    """A random resized crop whose pixels torch makes from bytes (AVX2), in Pillow's place: some differ, by 1 or 2."""

    def __init__(self, crop: Callable):
        self.crop = crop

    def __call__(self, image: Image.Image) -> Image.Image:
        top, left, height, width = self.crop.get_params(image, self.crop.scale, self.crop.ratio)
        cut = torch.from_numpy(np.array(image.crop((left, top, left + width, top + height)))).permute(2, 0, 1)[None]
        resized = interpolate(cut, tuple(self.crop.size), mode="bicubic", antialias=True)
        return Image.fromarray(resized[0].permute(1, 2, 0).contiguous().numpy())


def interleaved(measured: dict[str, Callable[[int], None]], repetitions: int) -> dict[str, list[float]]:
    """CPU seconds of every variant, one a repetition; a first round, which warms up, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in measured}
    for repetition in range(repetitions + 1):
        for name in random.Random(repetition).sample(list(measured), len(measured)):
            start = time.process_time()
            measured[name](repetition)
            if repetition:
                seconds[name].append(time.process_time() - start)
        print(f"repetition {repetition} of {repetitions}", file=sys.stderr)
    return seconds


def print_table(recipe: Training, seconds: dict[str, list[float]]) -> None:
    views = GROUPS_AT_A_TIME * recipe.views.mix_group
    print(f"\n{recipe.views.resolution} px, {views} views a measurement, n = {len(seconds['ours'])}, CPU time\n")
    print(f"{'':44}{'median':>8}{'smallest':>10}{'largest':>9}")
    for label, slow, fast in (
        ("timm's transform / ours", "timm", "ours"),
        ("timm's transform up to bytes / ours", "timm, bytes", "ours"),
        ("before / ours", "before", "ours"),
        ("a group at a time / ours", "one by one", "ours"),
        ("resized by torch / ours", "ours, resized by torch", "ours"),
        ("ours / ours, bilinear", "ours", "ours, bilinear"),
    ):
        if slow in seconds:
            ratios = [one / two for one, two in zip(seconds[slow], seconds[fast], strict=True)]
            print(f"{label:44}{statistics.median(ratios):8.2f}{min(ratios):10.2f}{max(ratios):9.2f}")
    print()
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:24}{views / median:8.0f} views/s/core{1e3 * median / views:8.2f} ms a view")


if __name__ == "__main__":
    main()
