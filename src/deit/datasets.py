"""The images and true labels of a study, by number, and the check that they are the declared ones.

Three readers: gzip-compressed IDX files (MNIST's format), CIFAR's batches, and whatever timm finds in a folder or tar
with one sub-folder a class. What stands between a file and an evaluation (held-out images, a corruption, other labels)
wraps what was read.

The manifest holds a fingerprint of every file and folder that was read. Each node may have its own copy of the images;
whoever gives the manifest reads no other images than those that it was made of.
"""

import gzip
import hashlib
import io
import json
import os
import platform
import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np
from PIL import Image, ImageFilter

from . import cifar
from .recipes import Corruption, EvaluationSet, PreparingData, Split, TrainingData

if TYPE_CHECKING:
    from timm.data.readers.reader import Reader

HELD_OUT_SEED = 20210721
IDX_UINT8 = 8
SAMPLED, HASHED = 1024, 64
"""Images of a folder or tar whose sizes, and whose bytes, a manifest tells."""
RESTORE = "Restore the original under data.root, or declare the new data in the params file"
ANEW = (
    "If the images are right as they are now, the manifest was made from others: delete it "
    "(rm -r results/<study>/data), and what was made from it, then give the snakemake command again."
)


class ImageSet(Protocol):
    """Images in a fixed order, the same on every machine."""

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """In mode L or RGB, by the channels of the data."""

    def targets(self, index: int) -> tuple[int, ...]:
        """The true class; with ReaL's labels, one or several."""

    def identity(self, index: int) -> str:
        """What people call the image; unique within the set."""


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
    split: Split, reader: str, data: TrainingData, root: Path | str, key: str, manifest: dict | None = None
) -> "ArrayImages | FolderImages":
    """All images of a split; `key` is where the params declare it.

    Raises SystemExit where the number of images or classes is not the declared one, or the images are not those of the
    manifest.
    """
    root = located(root)
    kind = TarImages if split.folder.endswith(".tar") else FolderImages
    images = {"idx": IdxImages, "cifar": CifarImages, "timm": kind}[reader](split, data, root, key)
    if len(images) != split.images:
        refuse(key, "images", images.path, f"{split.images} images", f"{len(images)}")
    if len(images.classes) != data.classes:
        refuse("data", "classes", images.path, f"{data.classes} classes", f"{len(images.classes)}")
    if manifest:
        try:
            images.compare(manifest["fingerprints"][place_of(split)], key)
        except SystemExit as error:
            raise SystemExit(f"{error} {ANEW}") from None
    return images


def place_of(split: Split) -> str:
    """Under which name below `data.root` the manifest knows a split."""
    return split.folder or ", ".join(file for part, file in sorted(split.files.items()) if part != "labels")


def refuse(key: str, part: str, path: Path, expected: str, found: str) -> NoReturn:
    raise SystemExit(f"{path}: expected {expected}, found {found}. {RESTORE} ({key}.{part}).")


class ArrayImages:
    """Images (N, H, W) or (N, H, W, 3) and labels (N,) in memory, of files with checksums."""

    path: Path
    """Of what was read, for messages."""
    pixels: np.ndarray
    labels: np.ndarray
    md5: dict[str, str]
    """Part of the split -> MD5 of its file."""

    def __init__(self, split: Split, data: TrainingData, root: Path):
        self.paths: dict[str, Path] = {part: root / file for part, file in split.files.items()}
        self.mode = image_mode(data)
        self.classes = [str(number) for number in range(data.classes)]

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int) -> Image.Image:
        image = Image.fromarray(self.pixels[index])
        return image if image.mode == self.mode else image.convert(self.mode)

    def targets(self, index: int) -> tuple[int, ...]:
        return (int(self.labels[index]),)

    def identity(self, index: int) -> str:
        return f"{index:06d}"

    def fingerprint(self) -> dict[str, str]:
        """The MD5 of all files."""
        return self.md5

    def compare(self, fingerprint: dict[str, str], key: str) -> None:
        """Refuse images or labels that the manifest does not know."""
        for part, expected in fingerprint.items():
            if self.md5[part] != expected:
                path, known = self.paths[part], f"{part} with the manifest's MD5 {expected}"
                refuse(key, f"md5.{part}", path, known, self.md5[part])

    def check_labels(self, labels: np.ndarray, path: Path) -> None:
        if labels.max() >= len(self.classes):
            refuse("data", "classes", path, f"classes below {len(self.classes)}", f"class {labels.max()}")


class IdxImages(ArrayImages):
    """The images of two IDX files, one of images and one of labels."""

    def __init__(self, split: Split, data: TrainingData, root: Path, key: str):
        super().__init__(split, data, root)
        self.path, labels_path = self.paths["images"], self.paths["labels"]
        self.pixels, images_md5 = read_idx(self.path, split.md5.get("images", ""), key, "images")
        labels, labels_md5 = read_idx(labels_path, split.md5.get("labels", ""), key, "labels")
        self.labels = labels.astype(np.int64)
        self.md5 = {"images": images_md5, "labels": labels_md5}
        if self.labels.shape != (len(self.pixels),):
            refuse(key, "files.labels", labels_path, f"{len(self.pixels)} labels", f"{len(self.labels)}")
        self.check_labels(self.labels, labels_path)


class CifarImages(ArrayImages):
    """The images of CIFAR's batches, `batch_1` first; none is opened but those of declared checksums."""

    def __init__(self, split: Split, data: TrainingData, root: Path, key: str):
        super().__init__(split, data, root)
        # The order of a dict is no part of a digest.
        parts = sorted(split.files)
        self.path = self.paths[parts[0]].parent
        self.md5 = {part: split.md5.get(part, "") for part in parts}
        read = [self.read_batch(part, key) for part in parts]
        self.pixels, self.labels = (np.concatenate(arrays) for arrays in zip(*read, strict=True))

    def read_batch(self, part: str, key: str) -> tuple[np.ndarray, np.ndarray]:
        path, md5 = self.paths[part], self.md5[part]
        if not md5:
            refuse(key, f"md5.{part}", path, "a declared MD5", "none")
        content, _ = read_checked(path, md5, key, part)
        try:
            pixels, labels = cifar.unpacked(content)
        except ValueError as error:
            refuse(key, f"files.{part}", path, "a batch of CIFAR's python version", f"none ({error})")
        self.check_labels(labels, path)
        return pixels, labels


def read_idx(path: Path, md5: str, key: str, part: str) -> tuple[np.ndarray, str]:
    """The uint8 array of a gzip-compressed IDX file, and its MD5, which is `md5` where that is not empty.

    Source of the format: http://yann.lecun.com/exdb/mnist, "the IDX file format".
    """
    packed, found = read_checked(path, md5, key, part)
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError) as error:
        refuse(key, f"files.{part}", path, "a gzip-compressed IDX file", f"none ({error})")
    if len(content) < 4 or content[:3] != bytes([0, 0, IDX_UINT8]):
        refuse(key, f"files.{part}", path, "an IDX file of unsigned bytes", f"the first bytes {content[:4].hex()}")
    shape = tuple(np.frombuffer(content, ">i4", count=content[3], offset=4).tolist())
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape))
    if values.size != np.prod(shape, dtype=np.int64):
        refuse(key, f"files.{part}", path, f"{shape} values by its header", f"{values.size}")
    return values.reshape(shape), found


def read_checked(path: Path, md5: str, key: str, part: str) -> tuple[bytes, str]:
    """A file's bytes, and their MD5, which is `md5` where that is not empty."""
    if not path.is_file():
        raise SystemExit(f"{path}: missing. {RESTORE} ({key}.files.{part}).")
    content = path.read_bytes()
    found = hashlib.md5(content).hexdigest()
    if md5 and found != md5:
        refuse(key, f"md5.{part}", path, f"the MD5 {md5}", found)
    return content, found


def image_mode(data: TrainingData) -> str:
    return {1: "L", 3: "RGB"}[data.channels]


class FolderImages:
    """Image files below a folder, one sub-folder a class, as timm finds them.

    timm sorts the names of classes and files with their numbers as numbers, so that folder `10` is class 10, not 2.
    """

    def __init__(self, split: Split, data: TrainingData, root: Path, key: str):
        self.path = root / split.folder
        self.mode = image_mode(data)
        reader = open_reader(self.path, key)
        self.files = [file for file, _ in reader.samples]
        self.labels = np.array([label for _, label in reader.samples], np.int64)
        self.classes = sorted(reader.class_to_idx, key=reader.class_to_idx.get)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        try:
            return Image.open(io.BytesIO(self.content(index))).convert(self.mode)
        except OSError as error:
            raise OSError(f"{self.path}: {self.identity(index)} is damaged: {error}") from error

    def targets(self, index: int) -> tuple[int, ...]:
        return (int(self.labels[index]),)

    def identity(self, index: int) -> str:
        """`class/name`, the same in a folder and in a tar of it."""
        return f"{self.classes[self.labels[index]]}/{self.files[index].rpartition('/')[2]}"

    def content(self, index: int) -> bytes:
        """The image's file."""
        return Path(self.files[index]).read_bytes()

    def size(self, index: int) -> int:
        """Bytes of the image's file."""
        return os.stat(self.files[index]).st_size

    def listing(self) -> str:
        """sha256 of the sorted lines `class/name size`."""
        lines = sorted(f"{self.identity(index)} {self.size(index)}\n" for index in range(len(self)))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def names(self) -> str:
        """sha256 of the lines `class/name`, in the order of the images' numbers."""
        lines = (f"{self.identity(index)}\n" for index in range(len(self)))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def sample(self) -> Iterator[str]:
        """Some images, evenly spaced: number, name and bytes, and of some of these the sha256 of the file."""
        numbers = np.unique(np.linspace(0, len(self) - 1, SAMPLED).astype(int)).tolist()
        hashed = set(numbers[:: -(-len(numbers) // HASHED)])
        for number in numbers:
            line = f"image {number}, {self.identity(number)}, {self.size(number)} bytes"
            digest = hashlib.sha256(self.content(number)).hexdigest() if number in hashed else ""
            yield f"{line}, sha256 {digest}" if digest else line

    def fingerprint(self) -> dict[str, str | list[str]]:
        """What tells this copy from others in a second: all names in order, and the sample."""
        return {"names": self.names(), "sample": list(self.sample())}

    def compare(self, fingerprint: dict[str, str | list[str]], key: str) -> None:
        """Refuse another copy of the images than the manifest's: names, order, and the sampled sizes and bytes."""
        for expected, found in zip_longest(fingerprint["sample"], self.sample()):
            if found != expected:
                refuse(key, "listing", self.path, f"{expected} (as in the manifest)", found)
        if (found := self.names()) != fingerprint["names"]:
            expected = f"class/name of all images in the manifest's order (sha256 {fingerprint['names']})"
            refuse(key, "listing", self.path, expected, found)


class TarImages(FolderImages):
    """The same in a .tar, or in a .tar of .tars: each image is a span of bytes of one open file.

    Spans are read at their place (pread), which moves no position, so worker processes do not disturb one another. The
    names and places of 1.28 million images take 0.15 GB of memory, tarfile's own objects 0.7 GB.
    """

    def __init__(self, split: Split, data: TrainingData, root: Path, key: str):
        self.path = root / split.folder
        self.mode = image_mode(data)
        reader = open_reader(self.path, key)
        self.files = [member.name for member, _, _ in reader.samples]
        starts = [member.offset_data + (inner.offset_data if inner else 0) for member, _, inner in reader.samples]
        self.spans = np.array([starts, [member.size for member, _, _ in reader.samples]], np.int64).T
        self.labels = np.array(reader.targets, np.int64)
        self.classes = sorted(reader.class_name_to_idx, key=reader.class_name_to_idx.get)
        self.opened = (0, -1)

    def content(self, index: int) -> bytes:
        start, size = self.spans[index].tolist()
        content = os.pread(self.descriptor(), size, start)
        if len(content) != size:
            raise OSError(f"{self.path}: ends within {self.identity(index)}")
        return content

    def size(self, index: int) -> int:
        return int(self.spans[index, 1])

    def descriptor(self) -> int:
        """The open tar of this process: a descriptor does not reach a process that is spawned."""
        if self.opened[0] != os.getpid():
            self.opened = os.getpid(), os.open(self.path, os.O_RDONLY)
        return self.opened[1]


def open_reader(path: Path, key: str) -> "Reader":
    """timm's reader of a folder or tar; refuses what is missing, cut short or without images."""
    from timm.data import create_reader

    if not path.exists():
        raise SystemExit(f"{path}: missing. {RESTORE} ({key}.folder).")
    try:
        return create_reader("", str(path))
    except (RuntimeError, ValueError, EOFError, tarfile.TarError) as error:
        refuse(key, "folder", path, "sub-folders with images", f"none ({error})")


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
    labels = json.loads(path.read_text(encoding="utf-8"))
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
        images = read_split(evaluation_set.split, evaluation_set.reader, data, root, key)
        check_classes(images, training, key)
        shown = evaluation_images(data, evaluation_set, root, name)
        splits[name] = entry_of(images, evaluation_set.split, key) | {"evaluated": len(shown)}
        fingerprints[place_of(evaluation_set.split)] = images.fingerprint()
        if evaluation_set.labels:
            fingerprints[evaluation_set.labels] = file_sha256(root / evaluation_set.labels)
    return {"name": data.name, "splits": splits, "fingerprints": fingerprints}


def entry_of(images: ArrayImages | FolderImages, split: Split, key: str) -> dict:
    """A split's part of the manifest; refuses a listing that is not the declared one."""
    counts = np.bincount(images.labels, minlength=len(images.classes)).tolist()
    entry = {"images": len(images), "images_per_class": counts, "classes": images.classes}
    if isinstance(images, ArrayImages):
        return entry | {"md5": images.md5}
    listing = images.listing()
    if split.listing and listing != split.listing:
        refuse(key, "listing", images.path, f"the listing {split.listing}", listing)
    return entry | {"listing": listing}


def check_classes(images: ArrayImages | FolderImages, training: ArrayImages | FolderImages, key: str) -> None:
    """Refuse an evaluation set whose classes are neither named as the training's nor 0 ... K-1 (ImageNet-V2)."""
    numbered = [str(number) for number in range(len(training.classes))]
    if images.classes not in (training.classes, numbered):
        pairs = zip(images.classes, training.classes, strict=True)
        found, expected = next((ours, theirs) for ours, theirs in pairs if ours != theirs)
        refuse(key, "folder", images.path, f"the class {expected!r} of the training images", repr(found))


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
