"""Images in memory, of files with checksums: what idx and CIFAR's files hold."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from deit.see.declared import refuse
from deit.see.image_set import image_mode
from deit.see.recipes import Split, TrainingData


class ArrayImages:
    """Images (N, H, W) or (N, H, W, 3) and labels (N,); classes are their numbers."""

    def __init__(
        self,
        path: Path,
        pixels: np.ndarray,
        labels: np.ndarray,
        md5: dict[str, str],
        paths: dict[str, Path],
        data: TrainingData,
    ):
        """`path` is what messages name, `md5` and `paths` tell of each file."""
        self.path, self.pixels, self.labels, self.md5, self.paths = path, pixels, labels, md5, paths
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

    def about_classes(self, known: Sequence[str]) -> str:
        return ""

    def about_files(self) -> str:
        return ""

    def checked(self, split: Split, key: str) -> dict[str, dict[str, str]]:
        """The MD5 of all files, which were compared when they were read."""
        return {"md5": self.md5}

    def fingerprint(self) -> dict[str, str]:
        return self.md5

    def compare(self, fingerprint: dict[str, str], key: str) -> None:
        """Refuses images or labels that the manifest does not know."""
        for part, expected in fingerprint.items():
            if self.md5[part] != expected:
                path, known = self.paths[part], f"{part} with the manifest's MD5 {expected}"
                refuse(key, f"md5.{part}", path, known, self.md5[part])
