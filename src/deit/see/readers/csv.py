"""A CSV file of image files and their labels, in UTF-8 and with a line of names on top.

    path,label,split
    images/0001.jpg,cat,train
    images/0002.jpg,dog,val

Paths begin at the folder of the CSV file. Labels are names or numbers. The column `split` is needed only where `part`
chooses the images of one; other columns are passed over.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deit.bounds import Mistake
from deit.see.reader import Reader
from deit.see.recipes import Split, TrainingData

if TYPE_CHECKING:
    from deit.see.csv_images import CsvImages


class Csv(Reader):
    keys = ("folder", "part", "listing")
    decodes = True

    def mistakes(self, split: Split) -> Iterator[Mistake]:
        if not split.folder.lower().endswith(".csv"):
            remedy = "name the .csv file of data.root with the columns path and label."
            yield Mistake("folder", "missing, or no .csv, as the csv reader needs", remedy)

    def read(self, split: Split, data: TrainingData, root: Path, key: str) -> "CsvImages":
        from deit.see.csv_images import CsvImages

        return CsvImages(split, data, root, key)


READER = Csv()
