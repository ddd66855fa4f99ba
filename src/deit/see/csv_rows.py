"""The lines of a CSV file that names images and their labels."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from deit.see.folders import Unclear

NEEDED = ("path", "label")


class Row(NamedTuple):
    """An image: its path from the folder of the CSV file, its label, and the split that it is of, if the file says."""

    path: str
    label: str
    split: str


def csv_rows(path: Path, part: str = "") -> Iterator[Row]:
    """The rows of a file in its order; `part`: a split of it is wanted, so there has to be that column.

    Raises Unclear where it is no such table, with the line, and OSError where it cannot be read.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, strict=True)
        try:
            columns = [name.strip().lower() for name in next(lines, [])]
            refuse_columns(path, columns, part)
            for values in lines:
                place = f"{path}, line {lines.line_num}"
                if any(map(str.strip, values[len(columns) :])):
                    cure = "Put quotes around what holds a comma"
                    raise Unclear(f"{place}: has {len(values)} values for {len(columns)} columns. {cure}")
                if values:
                    yield row_of(dict(zip(columns, values, strict=False)), place)
        except UnicodeDecodeError:
            raise Unclear(f"{path}: is not UTF-8. Save it as UTF-8") from None
        except csv.Error as error:
            raise Unclear(f"{path}, line {lines.line_num}: is no CSV ({error}). Correct it") from None


def refuse_columns(path: Path, columns: list[str], part: str) -> None:
    for name in (*NEEDED, *(["split"] if part else [])):
        if columns.count(name) != 1:
            found = f"its first line, {','.join(columns)!r}, names {'two columns' if name in columns else 'no column'}"
            needed = "path,label" + (",split" if part else "")
            raise Unclear(f"{path}: {found} {name}. Let it begin with a line like {needed}, with commas between")


def row_of(values: dict[str, str], place: str) -> Row:
    path, label = (values.get(name, "").strip() for name in NEEDED)
    if not path or not label:
        raise Unclear(f"{place}: has no {'label' if path else 'path'}. Complete it, or take the line away")
    if path.startswith(("/", "~")) or path[1:2] == ":" or "\\" in path:
        remedy = "Write it from the folder of the CSV file, with / between folders"
        raise Unclear(f"{place}: {path} is a path of one machine alone. {remedy}")
    return Row(path, label, values.get("split", "").strip())
