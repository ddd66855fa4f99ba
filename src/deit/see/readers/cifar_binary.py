"""CIFAR's official "binary version": the label and the pixels of an image, record after record.

CIFAR-10 gives a record one byte for the label; CIFAR-100 two, of which the second is the class of a hundred.
Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
"""

import numpy as np

from deit.see.cifar_batches import PIXELS, CifarBatches, pixels_of


class CifarBinary(CifarBatches):
    version = "binary version"

    def unpacked(self, content: bytes, classes: int) -> tuple[np.ndarray, np.ndarray]:
        record = (2 if classes == 100 else 1) + PIXELS
        if not content or len(content) % record:
            raise ValueError(f"{len(content)} bytes, which are no records of {record}, as {classes} classes have")
        records = np.frombuffer(content, np.uint8).reshape(-1, record)
        return pixels_of(records[:, -PIXELS:]), records[:, -PIXELS - 1].astype(np.int64)


READER = CifarBinary()
