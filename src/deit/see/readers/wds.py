"""WebDataset's shards: tars in which `KEY.jpg` is an image and `KEY.cls` the number of its class; timm's scheme `wds/`.

timm streams them, by the package `webdataset`. Here each image is found by its number, of which views are made, and no
package is needed; a test compares both.
Source of the format: https://github.com/webdataset/webdataset.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deit.bounds import Mistake
from deit.see.reader import Reader
from deit.see.recipes import Split, TrainingData

if TYPE_CHECKING:
    from deit.see.web_shards import ShardImages


class Wds(Reader):
    keys = ("folder", "part", "listing")
    decodes = True

    def mistakes(self, split: Split) -> Iterator[Mistake]:
        if not split.folder:
            yield Mistake("folder", "missing, as the wds reader needs", "name the folder of data.root with the shards.")
        elif not split.part.lower().endswith(".tar"):
            remedy = "name the shards, 'train-{0000..0146}.tar', or the only one."
            yield Mistake("part", "missing, or no .tar, as the wds reader needs", remedy)

    def read(self, split: Split, data: TrainingData, root: Path, key: str) -> "ShardImages":
        from deit.see.web_shards import ShardImages

        return ShardImages(split, data, root, key)


READER = Wds()
