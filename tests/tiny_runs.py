"""Runs of seconds for the tests of training and caching: random images in MNIST's format, models of a few weights."""

import gzip
import hashlib
import struct
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from deit.learn.objectives import objective_class
from deit.learn.recipes import Training
from deit.learn.training import train
from deit.networks import models
from deit.networks.distributed import Place
from deit.see.datasets import training_images
from deit.see.views import ViewStream
from deit.store import checkpoints
from deit.store.checkpoints import ResumeState
from deit.store.job import Execution, Job
from deit.store.results import new_folder
from deit.teach.recipes import Caching

IMAGES, CLASSES, PIXELS, BATCH, GROUP = 100, 4, 14, 32, 8
STEPS = IMAGES // BATCH  # an epoch; the last 4 positions are not shown
CPU = Place(torch.device("cpu"))
torch.set_num_threads(1)  # as the commands do by default: other threads add numbers in another order

DEIT = {
    "timm": "deit_tiny_patch16_224",
    "arguments": {"embed_dim": 16, "depth": 2, "num_heads": 1, "patch_size": 7},
    "classes": CLASSES,
    "channels": 1,
    "resolution": PIXELS,
    "stochastic_depth": 0.5,
}
DISTILLED = DEIT | {"timm": "deit_tiny_distilled_patch16_224"}
REGNETY = DEIT | {
    "timm": "regnety_002",
    "arguments": {"depth": 4, "w0": 16, "wa": 20.0, "wm": 1.8, "group_size": 8, "stem_width": 16},
    "stochastic_depth": 0.0,
}
VIEWS = {
    "resolution": PIXELS,
    "batch": BATCH,
    "mix_group": GROUP,
    "repeats": 2,
    "scale": [0.3, 1.0],
    "ratio": [0.75, 1.3333],
    "flip": 0.5,
    "randaugment": "rand-m9-mstd0.5-inc1",
    "erasing": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
    "mix_probability": 1.0,
    "switch_probability": 0.5,
    "label_smoothing": 0.1,
}
OPTIMISATION = {
    "optimizer": "adamw",
    "epochs": 2,
    "learning_rate": 0.02,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "warmup_learning_rate": 1e-6,
    "final_learning_rate": 1e-5,
    "weight_decay": 0.05,
}


def write_images(root: Path) -> dict:
    """Writes random images with a class-dependent brightness; returns the data section of a recipe."""
    draw = np.random.default_rng(0)
    labels = draw.integers(CLASSES, size=IMAGES, dtype=np.uint8)
    images = (draw.integers(128, size=(IMAGES, PIXELS, PIXELS)) + 40 * labels[:, None, None]).astype(np.uint8)
    contents = {
        "images": struct.pack(">4i", 2051, *images.shape) + images.tobytes(),
        "labels": struct.pack(">2i", 2049, IMAGES) + labels.tobytes(),
    }
    root.mkdir(parents=True, exist_ok=True)
    md5 = {}
    for name, content in contents.items():
        packed = gzip.compress(content, mtime=0)
        (root / f"{name}.gz").write_bytes(packed)
        md5[name] = hashlib.md5(packed).hexdigest()
    return {
        "name": "random",
        "reader": "idx",
        "classes": CLASSES,
        "channels": 1,
        "mean": [0.5],
        "std": [0.25],
        "split": {"images": IMAGES, "files": {name: f"{name}.gz" for name in contents}, "md5": md5},
    }


def training_job(root: Path, loss: str = "labels", execution: dict | None = None, **changes) -> Job:
    """A training on the images below `root`; `changes` replace parts of the recipe, dictionaries key by key."""
    objective = objective_class(loss)
    recipe = {
        "data": write_images(root),
        "model": DISTILLED if objective.tokens == 2 else DEIT,
        "objective": {"loss": loss},
        "views": VIEWS,
        "stream_seed": 5,
        "seed": 7,
        "optimisation": OPTIMISATION,
    }
    for key, value in changes.items():
        recipe[key] = recipe.get(key, {}) | value if isinstance(value, dict) else value
    recipe = Training.model_validate(recipe).model_dump(mode="json")
    inputs = {"data": "d" * 10} | ({"teacher": "t" * 10} if objective.teacher_says else {})
    execution = Execution(data_root=str(root), **(execution or {}))
    return Job(kind="train", name=loss, recipe=recipe, inputs=inputs, behaviour={}, execution=execution)


def images_of(job: Job):
    return training_images(job.resolved().data, job.execution.data_root)


def stream_of(job: Job) -> ViewStream:
    recipe = job.resolved()
    return ViewStream(images_of(job), recipe.data, recipe.views, recipe.stream_seed)


def run(
    job: Job, folder: Path, teacher=None, initial: Path | None = None, place: Place = CPU
) -> dict[str, torch.Tensor]:
    """Trains into `folder`, resuming from the folder beside it; returns the final weights (rank 0)."""
    resume = ResumeState(folder.with_name(folder.name + ".resume"), job.digest)
    with new_folder(folder, job) if place.writes else nullcontext() as partial:
        train(job, stream_of(job), partial, resume, place, teacher, initial)
    return checkpoints.read_weights(folder / "weights.safetensors") if place.writes else {}


def teacher_net(model: dict, seed: int = 3) -> torch.nn.Module:
    """An untrained teacher, spread enough for its decisions to vary."""
    torch.manual_seed(seed)
    net = models.create(Training.model_fields["model"].annotation.model_validate(model))
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.data.mul_(3)
    return net.eval().requires_grad_(False)


def caching_of(job: Job, keep: str, epochs: tuple[int, int] = (0, 1), **changes) -> Caching:
    """The recipe that caches the teacher of a training."""
    recipe = job.resolved()
    return Caching(
        **recipe.model_dump(include={"data", "views", "stream_seed"}),
        model=REGNETY,
        first_epoch=epochs[0],
        last_epoch=epochs[1],
        keep=keep,
        precision=recipe.hears,
        **changes,
    )


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal, bit for bit."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
