"""Small sets of images as files: IDX, folders, tars, and what is said where they are not the declared ones."""

import gzip
import hashlib
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit.see.datasets import training_images
from deit.see.recipes import Split, TrainingData

FASHION = Path(__file__).parents[1] / "workflow" / "resources" / "fashion-mnist"
CLASSES = 12


def packed_idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{values.ndim}i", 0, 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes(), mtime=0)


def idx_data(root: Path, images: int = 40, **changes) -> TrainingData:
    """Seeded noise of 6 x 5 pixels in two IDX files below `root`, and its declaration."""
    draws = np.random.default_rng(0)
    content = {
        "images": packed_idx(draws.integers(0, 256, (images, 6, 5))),
        "labels": packed_idx(np.arange(images) % 10),
    }
    for part, packed in content.items():
        (root / f"{part}.gz").write_bytes(packed)
    md5 = {part: hashlib.md5(packed).hexdigest() for part, packed in content.items()}
    split = Split(images=images, files={part: f"{part}.gz" for part in content}, md5=md5)
    plain = {"name": "noise", "reader": "idx", "classes": 10, "channels": 1, "mean": (0.5,), "std": (0.25,)}
    return TrainingData(**plain | {"split": split} | changes)


def folder_data(root: Path, names: list[str], images: int = 3, folder: str = "train", **changes) -> TrainingData:
    """A folder of PNGs whose red is the place of their class in `names`, and its declaration."""
    for number, name in enumerate(names):
        (root / folder / name).mkdir(parents=True)
        for image in range(images):
            picture = Image.new("RGB", (8, 7), (number, 50 * image, 7))
            picture.save(root / folder / name / f"picture_{image:03d}.png")
    plain = {"name": "colours", "reader": "timm", "classes": len(names), "channels": 3}
    plain |= {"mean": (0.5,) * 3, "std": (0.25,) * 3, "split": Split(images=images * len(names), folder=folder)}
    return TrainingData(**plain | changes)


def tar_of(folder: Path) -> Path:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=folder.name)
    return path


def declared(data: TrainingData, **changes) -> TrainingData:
    return data.model_copy(update={"split": data.split.model_copy(update=changes)})


def refusal(data: TrainingData, root: Path) -> str:
    with pytest.raises(SystemExit) as error:
        training_images(data, root)
    return str(error.value)
