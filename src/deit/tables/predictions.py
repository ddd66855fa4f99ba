"""What a table is computed from: the sheets of predictions, the measured throughput, the token comparisons."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deit.networks.recipes import Model
from deit.store.frames import read_frame
from deit.store.results import Result, read_result

RATED = ("label", "device", "precision")
"""Columns of throughput.csv that are text."""


class Inputs:
    """Result folders of any number of `predict`, `throughput`, `networks` and `tokens` jobs, by what they hold."""

    def __init__(self, folders: Iterable[str | Path]):
        self.sheets: dict[str, Result] = {}
        """Run -> the sheet that holds its predictions."""
        self.models: dict[str, Model] = {}
        """Label -> the model whose throughput was measured."""
        self.networks: dict[str, dict] = {}
        """model[-token][+variant]/resolution -> its row of networks.csv."""
        self.tokens: dict[str, dict] = {}
        """Run -> its tokens.json."""
        self._images: dict[tuple[str, ...], tuple[str, ...]] = {}
        """Lists of images, each kept once: most runs are evaluated on the same."""
        rates = []
        for folder in map(Path, folders):
            result = read_result(folder)
            job = result.job
            if job.kind == "predict":
                self.sheets |= {entry.run: result for entry in job.resolved().runs}
            elif job.kind == "throughput":
                self.models |= job.resolved().models
                rates.append(read_frame(result.file("throughput.csv"), text=RATED).set_index("label"))
            elif job.kind == "networks":
                rows = read_frame(result.file("networks.csv"), text=("network",)).set_index("network")
                self.networks |= rows.to_dict("index")
            elif job.kind == "tokens":
                comparison = result.json("tokens.json")
                self.tokens[comparison["run"]] = comparison
        self.throughput = pd.concat(rates) if rates else pd.DataFrame(columns=["images_per_second", "std", "device"])

    def correct(self, run: str, evaluation_set: str, read: str) -> np.ndarray:
        """For each image that has a true class: whether the decision is one of its true classes. (n,) bool"""
        sheet = read_sheet(self._path(run, evaluation_set))
        targets = sheet["targets"]
        hits = pc.list_flatten(targets).to_numpy() == self._first(sheet, run, read)[_owners(targets)]
        return np.bincount(_owners(targets), hits, len(targets)).astype(bool)[_labelled(targets)]

    def decisions(self, run: str, evaluation_set: str, read: str) -> np.ndarray:
        """For each image that has a true class: the decision. (n,) int"""
        sheet = read_sheet(self._path(run, evaluation_set))
        return self._first(sheet, run, read)[_labelled(sheet["targets"])]

    def images(self, run: str, evaluation_set: str) -> tuple[str, ...]:
        """The identities of the images that have a true class, in the order of `decisions`."""
        sheet = read_sheet(self._path(run, evaluation_set))
        found = tuple(sheet["image"].filter(pa.array(_labelled(sheet["targets"]))).to_pylist())
        return self._images.setdefault(found, found)

    def _first(self, sheet: dict[str, pa.Array], run: str, read: str) -> np.ndarray:
        if f"{read}_top5" not in sheet:
            raise SystemExit(
                f"{run}: its predictions cannot be read by '{read}': the model has one head. Read it by 'class'."
            )
        return pc.list_element(sheet[f"{read}_top5"], 0).to_numpy()

    def _path(self, run: str, evaluation_set: str) -> Path:
        if run not in self.sheets:
            raise SystemExit(f"{run}: no sheet of predictions among the table's inputs holds this run.")
        sheet, name = self.sheets[run], f"{run}/{evaluation_set}.parquet"
        if name not in sheet.sha256:
            raise SystemExit(
                f"{sheet.folder / name}: no predictions of {run} on '{evaluation_set}'. "
                "Name an evaluation set of the study."
            )
        return sheet.file(name)


@cache
def read_sheet(path: Path) -> dict[str, pa.Array]:
    """Column -> values, one an image."""
    table = pq.read_table(path)
    return {name: pa.concat_arrays(table[name].chunks) for name in table.column_names}


def _owners(lists: pa.Array) -> np.ndarray:
    """For each value of a list column the number of its row."""
    return pc.list_parent_indices(lists).to_numpy()


def _labelled(targets: pa.Array) -> np.ndarray:
    """Whether each image has a true class; ReaL leaves some without any. (n,) bool"""
    return pc.list_value_length(targets).to_numpy() > 0
