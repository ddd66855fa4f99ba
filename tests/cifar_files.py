"""Small copies of CIFAR in the official format: pickles as Python 2 and the NumPy of 2009 wrote them."""

import hashlib
import io
import pickle
import re
from pathlib import Path

import numpy as np

FOLDER = "cifar-10-batches-py"


class Python2Pickler(pickle._Pickler):
    """Writes all text and bytes as Python 2's str, which is what makes the official files unlike a copy of today."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_str(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        short = len(content) < 256
        self.write(pickle.SHORT_BINSTRING + bytes([len(content)]) if short else pickle.BINSTRING)
        self.write(content if short else len(content).to_bytes(4, "little") + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_str


def packed_batch(pixels: np.ndarray, labels: list[int], key: str = "labels") -> bytes:
    """A batch of images (N, 32, 32, 3) uint8."""
    rows = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).reshape(len(pixels), -1)
    names = [f"picture_s_{number:06d}.png" for number in range(len(pixels))]
    return packed({"batch_label": "training batch 1 of 5", key: labels, "data": rows, "filenames": names})


def packed(entry: object) -> bytes:
    content = io.BytesIO()
    Python2Pickler(content, 2).dump(entry)
    # Where NumPy's function lay, and the whole numbers that it gave as truth values.
    moved = content.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    return re.sub(rb"(U\x02[a-z]\dq.)\x89\x88\x87", b"\\1K\x00K\x01\x87", moved, flags=re.DOTALL)


def write_cifar(root: Path, images: int = 24, batches: int = 5, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """A folder with so many images a batch: five for training and one to test; the training images and labels."""
    (root / FOLDER).mkdir(parents=True)
    draws = np.random.default_rng(seed)
    pixels = draws.integers(0, 256, ((batches + 1) * images, 32, 32, 3), dtype=np.uint8)
    labels = [number % 10 for number in range(len(pixels))]
    names = [*(f"data_batch_{number}" for number in range(1, batches + 1)), "test_batch"]
    for number, name in enumerate(names):
        part = slice(number * images, (number + 1) * images)
        (root / FOLDER / name).write_bytes(packed_batch(pixels[part], labels[part]))
    (root / FOLDER / "batches.meta").write_bytes(packed({"label_names": [f"class {number}" for number in range(10)]}))
    return pixels[: batches * images], labels[: batches * images]


def declaration(root: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """`files` and `md5` of the named files, as a split declares them."""
    files = {f"batch_{number}": f"{FOLDER}/{name}" for number, name in enumerate(names, 1)}
    return {
        "files": files,
        "md5": {part: hashlib.md5((root / file).read_bytes()).hexdigest() for part, file in files.items()},
    }
