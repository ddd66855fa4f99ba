"""CIFAR's official "python version": batches that are Python pickles, read without running what a pickle may name.

torchvision.datasets.CIFAR10 reads the same images; a test compares. It is not called: its pickle.load runs whatever a
file names, from a file that it opened once to check and once more to load, and it knows the official checksums alone.
The python version is what torchvision downloads; `cifar_binary` reads the other one, which needs no pickle.
Source of the format: https://www.cs.toronto.edu/~kriz/cifar.html, "Dataset layout".
"""

import io
import pickle
from typing import Any

import numpy as np

from deit.see.cifar_batches import PIXELS, CifarBatches, pixels_of

NEEDED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    # Files of 2009 give whole numbers for the truth values, of which NumPy 2.4 warns.
    ("numpy", "dtype"): lambda name, align, copy: np.dtype(name, align=bool(align), copy=bool(copy)),
    # NumPy's own `_reconstruct`, wherever its version keeps it.
    ("numpy.core.multiarray", "_reconstruct"): np.ndarray(0).__reduce__()[0],
}
"""All that an array's pickle needs; nothing of it runs code of the file's."""


class Cifar(CifarBatches):
    version = "python version"
    declared_only = True

    def unpacked(self, content: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
        return unpacked(content)


class ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NEEDED:
            raise pickle.UnpicklingError(f"it names {f'{module}.{name}'!r}, which no batch needs")
        return NEEDED[module, name]


def unpacked(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 32, 32, 3) uint8 and labels (N,) int64 of a batch: CIFAR-10's, or CIFAR-100's fine ones.

    Raises ValueError where the content is no such batch.
    """
    try:
        # Python 2 did not tell bytes from text.
        entry = ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # damage shows as whatever the unpickler stumbles on
        raise ValueError(str(error) or type(error).__name__) from error
    if not isinstance(entry, dict) or "data" not in entry or not {"labels", "fine_labels"} & entry.keys():
        raise ValueError("no dictionary with data and labels")
    pixels, labels = pixels_of(rows_of(entry["data"])), labels_of(entry.get("labels", entry.get("fine_labels")))
    if len(labels) != len(pixels):
        raise ValueError(f"{len(labels)} labels of {len(pixels)} images")
    return pixels, labels


def rows_of(data: object) -> np.ndarray:
    """The pixels (N, 3072) of a batch."""
    if not isinstance(data, np.ndarray):
        raise ValueError("data that are no array")
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS or not len(data):
        raise ValueError(f"data of {data.shape} {data.dtype}")
    return data


def labels_of(labels: object) -> np.ndarray:
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 2**16 for label in labels):
        raise ValueError("labels that are no whole numbers from 0")
    return np.array(labels, np.int64)


READER = Cifar()
