"""The images and true labels of a study, by number, and the check that they are the declared ones.

A reader (`readers/`) reads a split. What stands between it and an evaluation (held-out images, a corruption, other
labels) wraps what was read.

The manifest holds a fingerprint of every file and folder that was read, with each image's label. Each node may have its
own copy of the images; whoever gives the manifest reads no other images than those that it was made of.
"""

import hashlib
import json
import os
import platform
import posixpath
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from deit.see.declared import RESTORE, refuse
from deit.see.folders import numbered
from deit.see.image_set import ImageSet, StoredImages
from deit.see.reader import reader_named
from deit.see.recipes import Corruption, EvaluationSet, PreparingData, Split, TrainingData, place_of

HELD_OUT_SEED = 20210721
ANEW = (
    "If the images are right as they are now, the manifest was made from others, and so was what has learnt from them "
    "or was evaluated on them: delete all of it (rm -r results/<study>), then give the snakemake command again."
)


def training_images(data: TrainingData, root: Path | str, manifest: dict | None = None) -> ImageSet:
    """The images to learn from: the training split without the held-out images.

    Raises SystemExit where the files below `root` are not the declared ones, or not those of the `manifest`.
    """
    images = read_split(data.split, data.reader, data, root, "data.training", manifest)
    return Selected(images, divided(len(images), data.held_out)[0]) if data.held_out else images


def evaluation_images(
    data: TrainingData,
    evaluation_set: EvaluationSet,
    root: Path | str,
    name: str = "*",
    manifest: dict | None = None,
) -> ImageSet:
    """The images of an evaluation set, with their corruption and labels; `name` is the set's, for messages.

    Raises SystemExit where the files below `root` are not the declared ones, or not those of the `manifest`.
    """
    key = f"data.evaluation.{name}"
    images = read_split(evaluation_set.split, evaluation_set.reader, data, root, f"{key}.split", manifest)
    if evaluation_set.held_out:
        images = Selected(images, divided(len(images), evaluation_set.held_out)[1])
    if evaluation_set.corruption:
        images = Corrupted(images, evaluation_set.corruption)
    if evaluation_set.labels:
        path = located(root) / evaluation_set.labels
        images = relabelled(images, path, data.classes, f"{key}.labels")
        if manifest:
            compare_labels(path, manifest["fingerprints"][evaluation_set.labels], f"{key}.labels")
    return images


def compare_labels(path: Path, expected: str, key: str) -> None:
    if (found := file_sha256(path)) != expected:
        raise SystemExit(f"{path}: expected the manifest's sha256 {expected}, found {found}. {RESTORE} ({key}). {ANEW}")


def located(root: Path | str) -> Path:
    """The folder of the images on this node: `data.root` with `~` and environment variables filled in.

    Raises SystemExit where a variable is not set.
    """
    path = os.path.expandvars(os.path.expanduser(root))
    if "$" in path:
        raise SystemExit(
            f"data.root: {root} names an environment variable that is not set on {platform.node()}. Export it before "
            "the snakemake command, or, for a folder that each node has of its own, have the scheduler set it in jobs."
        )
    return Path(path)


def divided(images: int, held_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the images to learn from and of the held-out ones, each ascending."""
    # RandomState's draws are the same in every version of NumPy (NEP 19), unlike default_rng's.
    order = np.random.RandomState(HELD_OUT_SEED).permutation(images)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def read_split(
    split: Split,
    reader: str,
    data: TrainingData,
    root: Path | str,
    key: str,
    manifest: dict | None = None,
    known: Sequence[str] = (),
) -> StoredImages:
    """All images of a split; `key` is where the params declare it, `known` the classes' names where others have them.

    Raises SystemExit where the number of images or classes is not the declared one, or the images are not those of the
    manifest.
    """
    root = located(root)
    images = reader_named(reader).read(split, data, root, key)
    if len(images.classes) != data.classes:
        found = f"{len(images.classes)}{images.about_classes(known)}"
        place = (key, "folder") if known else ("data", "classes")
        refuse(*place, images.path, f"{data.classes} classes", found)
    if len(images) != split.images:
        refuse(key, "images", images.path, f"{split.images} images", f"{len(images)}{images.about_files()}")
    if manifest:
        try:
            images.compare(manifest["fingerprints"][place_of(split)], key)
        except SystemExit as error:
            raise SystemExit(f"{error} {ANEW}") from None
    return images


class Selected:
    """Some images of a set, in the given order."""

    def __init__(self, images: ImageSet, indices: Sequence[int] | np.ndarray):
        self.images, self.indices = images, np.asarray(indices, np.int64)

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int) -> Image.Image:
        return self.images.image(self.indices[index])

    def targets(self, index: int) -> tuple[int, ...]:
        return self.images.targets(self.indices[index])

    def identity(self, index: int) -> str:
        return self.images.identity(self.indices[index])


class Corrupted:
    """A set whose every image is blurred, translated and made noisy, by draws of its own: (seed, index)."""

    def __init__(self, images: ImageSet, corruption: Corruption):
        self.images, self.corruption = images, corruption
        self.targets, self.identity = images.targets, images.identity

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> Image.Image:
        return corrupted(self.images.image(index), self.corruption, index)


def corrupted(image: Image.Image, corruption: Corruption, index: int) -> Image.Image:
    """The image (L or RGB) after a Gaussian blur, a translation that repeats the border, and Gaussian noise."""
    draws = np.random.RandomState([corruption.seed % 2**32, index])
    shift = corruption.shift
    down, right = draws.randint(0, 2 * shift + 1, 2)
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(corruption.blur)))
    border = ((shift, shift), (shift, shift), (0, 0))[: pixels.ndim]
    height, width = pixels.shape[:2]
    moved = np.pad(pixels, border, mode="edge")[down : down + height, right : right + width]
    noisy = moved + 255 * corruption.noise * draws.standard_normal(moved.shape)
    return Image.fromarray(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


class Relabelled(Selected):
    """Some images of a set, each with a tuple of classes of its own."""

    def __init__(self, images: ImageSet, indices: Sequence[int], classes: Sequence[tuple[int, ...]]):
        super().__init__(images, indices)
        self.classes = classes

    def targets(self, index: int) -> tuple[int, ...]:
        return self.classes[index]


def relabelled(images: ImageSet, path: Path, classes: int, key: str) -> Relabelled:
    """The images with the labels of a JSON list of lists of classes; images without any are left out.

    The lists follow the images' file names (ILSVRC2012_val_00000001, ...), not the folders that they lie in.
    Source: https://github.com/google-research/reassessed-imagenet, real.json.
    """
    if not path.exists():
        raise SystemExit(f"{path}: missing. {RESTORE} ({key}).")
    try:
        labels = [list(several) for several in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise SystemExit(f"{path}: expected a JSON list of lists of classes ({error}). {RESTORE} ({key}).") from None
    names = [posixpath.basename(images.identity(index)) for index in range(len(images))]
    if len(labels) != len(names) or len(set(names)) != len(names):
        raise SystemExit(
            f"{path}: expected a list of classes for each of {len(set(names))} distinct file names of "
            f"{len(names)} images, found {len(labels)}. {RESTORE} ({key})."
        )
    if wrong := {number for several in labels for number in several if number not in range(classes)}:
        raise SystemExit(f"{path}: expected classes 0 to {classes - 1}, found {sorted(wrong)[:5]}. {RESTORE} ({key}).")
    by_name = sorted(range(len(names)), key=names.__getitem__)
    targets = {index: tuple(several) for index, several in zip(by_name, labels, strict=True) if several}
    if 2 * sum(any(one in several for one in images.targets(at)) for at, several in targets.items()) < len(targets):
        raise SystemExit(
            f"{path}: most of its labels are not those of the folders of the images, in the order of their file names, "
            f"{names[by_name[0]]} first. ILSVRC2012_val_00000001 and so on are expected. {RESTORE} ({key})."
        )
    kept = sorted(targets)
    return Relabelled(images, kept, [targets[index] for index in kept])


def manifest_of(recipe: PreparingData, root: Path | str) -> dict:
    """What the data are, split by split: number, images per class, checksums, names of the classes; no path.

    `fingerprints` (name below `root` -> what tells the copy from others) is what other jobs compare theirs with.
    Raises SystemExit where anything is not as declared.
    """
    data, root = recipe.training, located(root)
    training = read_split(data.split, data.reader, data, root, "data.training")
    splits = {"training": entry_of(training, data.split, "data.training") | {"held_out": data.held_out}}
    fingerprints: dict[str, object] = {place_of(data.split): training.fingerprint()}
    for name, evaluation_set in recipe.evaluation_sets.items():
        key = f"data.evaluation.{name}.split"
        split, reader = evaluation_set.split, evaluation_set.reader
        images = read_split(split, reader, data, root, key, known=training.classes)
        check_classes(images, training, key)
        evaluated = evaluation_images(data, evaluation_set, root, name)
        splits[name] = entry_of(images, split, key) | {"evaluated": len(evaluated)}
        fingerprints[place_of(split)] = images.fingerprint()
        if evaluation_set.labels:
            fingerprints[evaluation_set.labels] = file_sha256(root / evaluation_set.labels)
    return {"name": data.name, "splits": splits, "fingerprints": fingerprints}


def image_files(recipe: PreparingData, root: Path | str, manifest: dict) -> list[ImageSet]:
    """The images that are to be decoded from files, each once.

    Where there are evaluation sets, these: the training images are another job's.
    """
    data, plain = recipe.training, {"corruption": None, "labels": ""}
    if not recipe.evaluation_sets:
        decodes = reader_named(data.reader).decodes
        return [read_split(data.split, data.reader, data, root, "data.training", manifest)] if decodes else []
    sets = {
        (place_of(each.split), each.held_out): (name, each.model_copy(update=plain))
        for name, each in recipe.evaluation_sets.items()
        if reader_named(each.reader).decodes
    }
    return [evaluation_images(data, each, root, name, manifest) for name, each in sets.values()]


def entry_of(images: StoredImages, split: Split, key: str) -> dict:
    """A split's part of the manifest."""
    counts = np.bincount(images.labels, minlength=len(images.classes)).tolist()
    entry = {"images": len(images), "images_per_class": counts, "classes": images.classes}
    return entry | images.checked(split, key)


def check_classes(images: StoredImages, training: StoredImages, key: str) -> None:
    """Refuse an evaluation set whose classes are neither named as the training's nor 0 ... K-1 (ImageNet-V2)."""
    if images.classes != training.classes and sorted(images.classes) == sorted(training.classes):
        raise SystemExit(
            f"{images.path}: its classes are those of the training images in another order "
            f"({', '.join(images.classes[:5])}, … for {', '.join(training.classes[:5])}, …), so their numbers "
            f"mean others. Readers order them differently: read both with one ({key.removesuffix('.split')}.reader)."
        )
    if images.classes not in (training.classes, numbered(len(training.classes))):
        found = next(name for name in images.classes if name not in training.classes)
        expected = next(name for name in training.classes if name not in images.classes)
        refuse(key, "folder", images.path, f"the class {expected!r} of the training images", repr(found))


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
