"""MNIST's format: a gzip-compressed IDX file of images, and one of labels.

Source: http://yann.lecun.com/exdb/mnist, "the IDX file format".
"""

import gzip
import zlib
from pathlib import Path

import numpy as np

from deit.see.array_reader import ArrayReader, Arrays
from deit.see.declared import check_labels, read_checked, refuse
from deit.see.recipes import Split, TrainingData

UINT8 = 8


class Idx(ArrayReader):
    parts = ("images", "labels")

    def arrays(self, split: Split, data: TrainingData, root: Path, key: str) -> Arrays:
        path, labels_path = root / split.files["images"], root / split.files["labels"]
        pixels, images_md5 = read_idx(path, split.md5.get("images", ""), key, "images")
        labels, labels_md5 = read_idx(labels_path, split.md5.get("labels", ""), key, "labels")
        if labels.shape != (len(pixels),):
            refuse(key, "files.labels", labels_path, f"{len(pixels)} labels", f"{len(labels)}")
        check_labels(labels, data.classes, labels_path)
        return Arrays(path, pixels, labels.astype(np.int64), {"images": images_md5, "labels": labels_md5})


def read_idx(path: Path, md5: str, key: str, part: str) -> tuple[np.ndarray, str]:
    """The uint8 array of a gzip-compressed IDX file, and its MD5, which is `md5` where that is not empty."""
    packed, found = read_checked(path, md5, key, part)
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        refuse(key, f"files.{part}", path, "a gzip-compressed IDX file", f"none ({error})")
    if len(content) < 4 or content[:3] != bytes([0, 0, UINT8]):
        refuse(key, f"files.{part}", path, "an IDX file of unsigned bytes", f"the first bytes {content[:4].hex()}")
    shape = tuple(np.frombuffer(content, ">i4", count=content[3], offset=4).tolist())
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape))
    if values.size != np.prod(shape, dtype=np.int64):
        refuse(key, f"files.{part}", path, f"{shape} values by its header", f"{values.size}")
    return values.reshape(shape), found


READER = Idx()
