"""How images lie in a folder or file that nobody has described yet: which reader takes them, and what the splits are.

A guess by names alone, for `python workflow new`; what is read afterwards is checked as any study's.
"""

import importlib
import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from deit.see.csv_rows import csv_rows
from deit.see.folders import RENAME, Unclear, ending, is_odd, told
from deit.see.recipes import Split

TRAINING = ("train", "training")
EVALUATION = ("val", "validation", "valid", "dev", "test", "testing")
"""How people call the splits, the likeliest first."""
KINDS = ("", ".tar", ".csv")
"""Endings of what holds a split: none of a folder."""
HUB = (".parquet", ".arrow", "dataset_infos.json")
"""How names of files end in a folder of the Hugging Face hub's."""
LOOKED_AT = 20
"""Members of a tar, by which WebDataset's shards are told from a tar of class folders."""


class Layout(NamedTuple):
    """Where a reader finds the images of each split; their numbers are not known yet, and stand as 1."""

    reader: str
    root: Path
    training: Split
    evaluation: dict[str, Split]
    """Name -> split; empty where there are images to learn from only."""
    left: tuple[tuple[str, int], ...] = ()
    """What else stands in the column `split` of a CSV file, and in how many lines."""


def layout_of(images: str) -> Layout:
    """The layout of a folder, a tar, a CSV file, or of one of the latter two after timm's `hfds/` or `wds/`.

    Raises Unclear where it is none, and OSError where it cannot be read.
    """
    scheme, _, rest = images.partition("/")
    if scheme in ("hfds", "wds") and rest and not Path(images).exists():
        return {"hfds": hub_layout, "wds": shard_layout}[scheme](existing(rest))
    path = existing(images)
    if path.is_dir():
        return folder_layout(path)
    if ending(path.name) == ".csv":
        return csv_layout(path)
    if ending(path.name) == ".tar":
        return shard_layout(path.parent, [path.name]) if is_shard(path) else alone("timm", path)
    raise Unclear(f"{path}: is no folder, .tar or .csv. Unpack it, and name the folder")


def existing(path: str) -> Path:
    found = Path(path).expanduser().absolute()
    try:
        str(found).encode()
    except UnicodeEncodeError:
        raise Unclear(f"{told(os.fsencode(found))}: the path is no UTF-8. {RENAME}") from None
    if not found.exists():
        raise Unclear(f"{found}: is missing. Name the folder or file of the images")
    if "$" in str(found):
        raise Unclear(f"{found}: in params a $ begins the name of a variable. Rename the folder, or link to it")
    return found


def alone(reader: str, path: Path) -> Layout:
    return Layout(reader, path.parent, Split(images=1, folder=path.name), {})


def folder_layout(path: Path) -> Layout:
    """Splits in folders, tars or CSV files; a data set of others' tools; or class folders."""
    names = sorted(entry.name for entry in path.iterdir() if not is_odd(entry.name))
    if not names:
        raise Unclear(f"{path}: is empty. Name the folder of the images")
    shards = [name for name in names if ending(name) == ".tar" and is_shard(path / name)]
    if shards:
        return shard_layout(path, shards)
    for kind in KINDS:
        parts = {name.lower().removesuffix(kind): name for name in names if name.lower().endswith(kind)}
        training, evaluation = known(TRAINING, parts), known(EVALUATION, parts)
        if training and (evaluation or kind or has_folders(path / parts[training[0]])):
            reader = "csv" if kind == ".csv" else "timm"
            splits = {part: Split(images=1, folder=parts[part]) for part in training[:1] + evaluation}
            return Layout(reader, path, splits.pop(training[0]), splits)
    if any(name.endswith(HUB) for name in names) or any((path / "data").glob("*.parquet")):
        return hub_layout(path)
    return alone("timm", path)


def known(wanted: Iterable[str], there: Iterable[str]) -> list[str]:
    return [name for name in wanted if name in there]


def has_folders(path: Path) -> bool:
    return path.is_dir() and any(entry.is_dir() for entry in path.iterdir())


def csv_layout(path: Path) -> Layout:
    """One split, or those that its column `split` names."""
    counts = Counter(row.split for row in csv_rows(path))
    if not any(counts):
        return alone("csv", path)
    by_name = {name.lower(): name for name in counts}
    training, evaluation = known(TRAINING, by_name), known(EVALUATION, by_name)
    if not training:
        raise Unclear(f"{path}: its column split has {', '.join(map(repr, counts))}. Call one of them train")
    splits = {name: Split(images=1, folder=path.name, part=by_name[name]) for name in training[:1] + evaluation}
    read = {split.part for split in splits.values()}
    left = tuple((name, count) for name, count in counts.items() if name not in read)
    return Layout("csv", path.parent, splits.pop(training[0]), splits, left)


# Data sets of others' tools -------------------------------------------------------------------------------------------


def is_shard(path: Path) -> bool:
    """Whether a tar holds classes as files `KEY.cls`, as WebDataset's do."""
    try:
        with tarfile.open(path, "r:", encoding="utf-8") as tar:
            return any(member.name.endswith(".cls") for member, _ in zip(tar, range(LOOKED_AT), strict=False))
    except (tarfile.TarError, EOFError) as error:
        raise Unclear(f"{path}: no uncompressed tar, or a damaged one ({error}). Restore it") from error


def shard_layout(folder: Path, names: Iterable[str] = ()) -> Layout:
    """Shards by their numbered names, a split for each word before the number."""
    shards = [*names] or sorted(path.name for path in folder.iterdir() if ending(path.name) == ".tar")
    patterns = [*patterns_of(shards)]
    split_of: dict[str, str] = {}
    for pattern in patterns:
        words = re.split(r"[^a-z]+", pattern.lower())
        split = next((name for name in (*TRAINING, *EVALUATION) if name in words), pattern)
        if (other := split_of.setdefault(split, pattern)) != pattern:
            what = f"has {other} and {pattern}, which are both called {split}"
            raise Unclear(f"{folder}: {what}. Give the shards of a split one name with one row of numbers")
    training = known(TRAINING, split_of) or ([*split_of] if len(split_of) == 1 else [])
    if not training:
        found = ", ".join(patterns) or "no .tar"
        raise Unclear(f"{folder}: has {found}. Call the shards to learn from train-000000.tar and so on")
    splits = {
        name: Split(images=1, folder=folder.name, part=split_of[name])
        for name in [training[0], *known(EVALUATION, split_of)]
    }
    return Layout("wds", folder.parent, splits.pop(training[0]), splits)


def patterns_of(shards: Iterable[str]) -> Iterator[str]:
    """The pattern of each row of shards, `train-{0000..0146}.tar`, by what stands before and after their numbers."""
    numbers: dict[tuple[str, str], list[str]] = {}
    for name in shards:
        stem, after = posixpath.splitext(name)
        before = stem.rstrip("0123456789")
        numbers.setdefault((before, after), []).append(stem.removeprefix(before))
    for (before, after), those in numbers.items():
        those.sort(key=lambda number: (len(number), number))
        yield f"{before}{those[0] if len(those) == 1 else f'{{{those[0]}..{those[-1]}}}'}{after}"


def hub_layout(folder: Path) -> Layout:
    """A data set of the hub's; which splits it has, the package `datasets` says."""
    try:
        datasets = importlib.import_module("datasets")
    except ModuleNotFoundError:
        raise Unclear(f"{folder}: is read by the package datasets, which is not installed. Install it") from None
    try:
        parts = datasets.get_dataset_split_names(str(folder))
    except Exception as error:  # of what is no such data set, `datasets` raises whatever its builders do
        said = " ".join(str(error).split()) or type(error).__name__
        raise Unclear(f"{folder}: is no data set that the package datasets reads ({said})") from error
    training, evaluation = known(TRAINING, parts), known(EVALUATION, parts)
    if not training:
        raise Unclear(f"{folder}: has the parts {', '.join(map(str, parts))}. Call one of them train")
    splits = {name: Split(images=1, folder=folder.name, part=name) for name in training[:1] + evaluation}
    return Layout("hfds", folder.parent, splits.pop(training[0]), splits)
