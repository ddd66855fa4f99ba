"""Data sets in the layouts of the Hugging Face hub, as timm's scheme `hfds/` reads them: by the package `datasets`.

timm's scheme `hfids/` streams the same ones, and a stream has no image by number, of which views are made.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from deit.bounds import Mistake
from deit.see.reader import Reader
from deit.see.recipes import Split, TrainingData

if TYPE_CHECKING:
    from deit.see.hugging_face import HuggingFaceImages


class Hfds(Reader):
    keys = ("folder", "part", "listing")
    decodes = True

    def mistakes(self, split: Split) -> Iterator[Mistake]:
        if not split.folder:
            remedy = "name the folder of data.root into which the data set was downloaded."
            yield Mistake("folder", "missing, as the hfds reader needs", remedy)
        elif not split.part:
            yield Mistake("part", "missing, as the hfds reader needs", "name one: train, validation, test.")
        elif find_spec("datasets") is None:
            text = "is read by the package datasets, which is not installed"
            yield Mistake("folder", text, "install it (pip install datasets), or choose another reader.")

    def read(self, split: Split, data: TrainingData, root: Path, key: str) -> "HuggingFaceImages":
        from deit.see.hugging_face import HuggingFaceImages

        return HuggingFaceImages(split, data, root, key)


READER = Hfds()
