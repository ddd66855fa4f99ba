"""The images of WebDataset's shards, each a span of bytes in one of several tars."""

import os
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import IO

import numpy as np

from deit.see.declared import check_labels
from deit.see.folders import ENDINGS, Listing, Unclear, members, numbered
from deit.see.image_files import FolderImages
from deit.see.recipes import Split, TrainingData


class ShardImages(FolderImages):
    """In the order of the shards and of the images in them."""

    def __init__(self, split: Split, data: TrainingData, root: Path, key: str):
        self.shards = [root / split.folder / name for name in expanded(split.part)]
        self.numbers = numbered(data.classes)
        self.opened: tuple[int, dict[Path, int]] = (0, {})
        super().__init__(split, data, root, key)

    def listed(self) -> Listing:
        found = [sample for shard in self.shards for sample in samples(shard)]
        if not found:
            raise Unclear(f"{self.path}: there is no image in {self.shards[0].name} and the like. Restore them")
        labels = np.array([label for *_, label in found], np.int64)
        check_labels(labels, len(self.numbers), self.path)
        spans = np.array([(start, size) for _, _, start, size, _ in found], np.int64)
        names = [f"{shard.name}/{name}" for shard, name, *_ in found]
        self.tars = [shard for shard, *_ in found]
        return Listing(self.numbers, labels, names, spans, [], Counter(), Counter())

    def content(self, index: int) -> bytes:
        start, size = self.found.spans[index].tolist()
        content = os.pread(self.descriptor(self.tars[index]), size, start)
        if len(content) != size:
            raise OSError("the tar ends within it")
        return content

    def size(self, index: int) -> int:
        return int(self.found.spans[index, 1])

    def place(self, index: int) -> str:
        return f"{self.path}/{self.found.names[index]}"

    def descriptor(self, shard: Path) -> int:
        """The open tar of this process: a descriptor does not reach a process that is spawned."""
        if self.opened[0] != os.getpid():
            self.opened = os.getpid(), {}
        if shard not in self.opened[1]:
            self.opened[1][shard] = os.open(shard, os.O_RDONLY)
        return self.opened[1][shard]


def expanded(pattern: str) -> list[str]:
    """The names of shards: train-{00..02}.tar -> train-00.tar, train-01.tar, train-02.tar."""
    if not (braces := re.search(r"\{(\d+)\.\.(\d+)\}", pattern)):
        return [pattern]
    first, last = braces.groups()
    numbers = [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return [name for number in numbers for name in expanded(pattern.replace(braces[0], number, 1))]


def samples(shard: Path) -> list[tuple[Path, str, int, int, int]]:
    """Shard, name, place of the first byte, number of bytes and class of each image in a shard.

    Raises Unclear where the file is no tar, or a sample not one image and one class.
    """
    images: dict[str, tuple[str, int, int]] = {}
    classes: dict[str, int] = {}
    try:
        with tarfile.open(shard, "r:", encoding="utf-8") as tar:
            for member in members(tar):
                folder, _, file = member.name.rpartition("/")
                key, _, kind = file.partition(".")
                key = f"{folder}/{key}".lstrip("/")
                if f".{kind.lower()}" in ENDINGS:
                    if key in images:
                        raise Unclear(f"{shard}/{member.name}: a second image of {key}. Pack the shard anew")
                    images[key] = member.name, member.offset_data, member.size
                elif kind == "cls":
                    classes[key] = class_of(tar.extractfile(member), f"{shard}/{member.name}")
    except tarfile.TarError as error:
        raise Unclear(f"{shard}: no uncompressed tar, or a damaged one ({error}). Restore it") from error
    if alone := images.keys() ^ classes.keys():
        what = "an image without a class (.cls)" if min(alone) in images else "a class without an image"
        raise Unclear(f"{shard}/{min(alone)}: {what}. Pack the shard anew")
    return [(shard, *images[key], classes[key]) for key in images]


def class_of(file: IO[bytes] | None, place: str) -> int:
    text = file.read().strip() if file else b""
    if not text.isdigit():
        raise Unclear(f"{place}: holds {text[:20]!r}, which is no class's number. Pack the shard anew")
    return int(text)
