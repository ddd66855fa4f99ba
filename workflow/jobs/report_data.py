"""What a page's numbers are computed from, as data: each cell's runs, and what every run decides on every image.

cells.csv has a row a cell and run: table, row, column, run, read (the head) and decisions, the name of a file. Such a
file, decisions-<set>.parquet, has a row an image that has a true class: image, targets (its true classes), and a column
"<run> <read>" for each run and head in cells.csv, with the class that was decided for.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deit.tables.computed import PaperTable
from deit.tables.predictions import Inputs, read_sheet

CELLS = ("table", "row", "column", "run", "read", "decisions")


def write_data(tables: Sequence[PaperTable], inputs: Inputs, output: Path) -> None:
    """Writes cells.csv and the decisions behind it into a report's folder."""
    rows, files = [], {}
    for table, cell, run in cells_and_runs(tables):
        # Data sets of a transfer may have a set of the same name, whose images are numbered alike.
        shown = inputs.images(run, cell.evaluation_set), true_classes(inputs, run, cell.evaluation_set)
        name = files.setdefault((cell.evaluation_set, *shown), file_name(cell.evaluation_set, files))
        rows.append((table, cell.row, cell.column, run, cell.read, name))
    cells = pd.DataFrame(rows, columns=list(CELLS))
    cells.to_csv(output / "cells.csv", index=False, lineterminator="\n")
    for (evaluation_set, images, classes), name in files.items():
        columns = {"image": pa.array(images), "targets": pa.array(classes, pa.list_(pa.uint32()))}
        decided = cells.loc[cells["decisions"] == name, ["run", "read"]].drop_duplicates()
        for run, read in decided.itertuples(index=False):
            columns[f"{run} {read}"] = pa.array(inputs.decisions(run, evaluation_set, read), pa.uint32())
        pq.write_table(pa.table(columns), output / name, compression="zstd")


def cells_and_runs(tables: Sequence[PaperTable]) -> Iterator[tuple]:
    """(table, cell, run) of all cells that are computed from decisions."""
    for table in tables:
        for cell in table.recipe.cells:
            if cell.evaluation_set:
                yield from ((table.name, cell, run) for run in dict.fromkeys(cell.runs))


def file_name(evaluation_set: str, taken: Iterable[tuple]) -> str:
    """Of the decisions on a set; the second of a name ends in 2."""
    others = sum(name == evaluation_set for name, *_ in taken)
    return f"decisions-{evaluation_set}{f'-{others + 1}' if others else ''}.parquet"


def true_classes(inputs: Inputs, run: str, evaluation_set: str) -> tuple[tuple[int, ...], ...]:
    """Those of the images that have any, in their order."""
    classes = read_sheet(inputs.sheets[run].file(f"{run}/{evaluation_set}.parquet"))["targets"]
    return tuple(map(tuple, classes.filter(pc.greater(pc.list_value_length(classes), 0)).to_pylist()))
