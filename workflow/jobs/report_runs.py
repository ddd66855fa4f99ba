"""What a page tells of each cell: its runs, the number of each seed, digests, and the commands that make them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from deit.learn.recipes import Training
from deit.store.frames import read_frame
from deit.store.results import Result
from deit.tables.computed import PaperTable
from deit.tables.definition import definition, titles_of
from deit.tables.layout import kind, number
from deit.tables.predictions import Inputs
from deit.tables.recipes import Table
from deit.tables.scores import Scores
from deit.tables.titles import title

FILES = {
    "train": "weights.safetensors",
    "import": "weights.safetensors",
    "throughput": "throughput.csv",
    "networks": "networks.csv",
}
"""What to ask Snakemake for, by the kind of a job; provenance.json of the others."""
CURVE = (100, 24)
"""Width and height of a small curve, in its own units."""


@dataclass(frozen=True)
class CellShown:
    """A cell's numbers, one a seed, and what they were computed from."""

    anchor: str
    title: str
    values: tuple[str, ...]
    made_from: tuple[str, ...]
    """Names of results, which are anchors on the page too."""


@dataclass(frozen=True)
class MadeFrom:
    """A result that cells are computed from: a run, the measurement of throughput, or the check of the networks."""

    anchor: str
    name: str
    digest: str
    command: str
    history: str
    """In words."""
    curves: Mapping[str, str]
    """loss and accuracy over the epochs, as points of a polyline; empty where there is no history of several."""


def called(kind_of_job: str, name: str) -> str:
    """A run by its name; what is measured once for a whole study is `all`, so its kind stands before that."""
    return f"{kind_of_job}/{name}" if kind_of_job in ("networks", "throughput") else name


def command(study: str, kind_of_job: str, folder: str) -> str:
    """What makes a result again, in a clone that does not have it."""
    target = f"{folder}/{FILES.get(kind_of_job, 'provenance.json')}"
    return f"snakemake --profile local --config study={study} -- {target}"


# Cells ----------------------------------------------------------------------------------------------------------------


def cells_shown(table: PaperTable, inputs: Inputs, plan: pd.DataFrame) -> dict[tuple[str, str], CellShown]:
    """By row and column, every cell with a number."""
    scores = definition(table.name).build(table.recipe, inputs)[0].scores
    titles, shown = titles_of(table.recipe), {}
    of_kind = {
        one: tuple(called(one, name) for name in plan.loc[plan["kind"] == one, "name"])
        for one in ("throughput", "networks")
    }
    for row, column in table.frame.loc[table.frame["ours"].notna(), ["row", "column"]].itertuples(index=False):
        measured = of_kind["networks" if column == "multiply_adds" else "throughput"]
        runs = tuple(runs_of(table.recipe, row, column)) or measured
        if row != column and runs:
            text = ", ".join(title(key, titles) for key in (row, column) if title(key, titles))
            values = tuple(values_of(table.recipe, column, scores.get((row, column))))
            shown[row, column] = CellShown(f"{table.name}:{row}:{column}", text, values, runs)
    return shown


def runs_of(recipe: Table, row: str, column: str) -> Iterator[str]:
    """The runs behind a cell."""
    if column == "images_per_second":
        return
    behind = definition(recipe.table).behind
    for cell in recipe.cells:
        if behind(cell, row, column):
            yield from dict.fromkeys(cell.runs)


def values_of(recipe: Table, column: str, scores: Scores | None) -> Iterator[str]:
    """The number of each seed, with one digit more than the table shows."""
    if scores is not None:
        decimals = int(recipe.options.get("decimals", 1)) + 1
        for seed, value in zip(scores.seeds, scores.by_seed().tolist(), strict=True):
            yield f"seed {seed}: {number(value, kind(recipe.table, column), decimals)}"


# Runs -----------------------------------------------------------------------------------------------------------------


def results_shown(plan: pd.DataFrame, study: str, results: Mapping[str, Result]) -> list[MadeFrom]:
    """Every run of the plan, its throughput and its networks; `results` by digest, with histories where trained."""
    wanted = plan[plan["kind"].isin(FILES)]
    return [
        MadeFrom(
            anchor=called(row.kind, row.name),
            name=called(row.kind, row.name),
            digest=row.digest,
            command=command(study, row.kind, row.folder),
            **history_shown(results.get(row.digest)),
        )
        for row in wanted.itertuples(index=False, name="Row")
    ]


def history_shown(result: Result | None) -> dict:
    """How a training went, in words and as two small curves."""
    if result is None or not isinstance(result.job.resolved(), Training):
        return {"history": "", "curves": {}}
    history = read_frame(result.file("history.csv"))
    first, last = history.iloc[0], history.iloc[-1]
    words = f"{len(history)} epoch{'s' * (len(history) > 1)} of {result.job.resolved().views.batch} views a step, "
    words += f"{int(last['step'])} steps; loss {first['loss']:.3f} → {last['loss']:.3f}, "
    words += f"accuracy on mixed views {100 * first['accuracy']:.1f} → {100 * last['accuracy']:.1f} %"
    curves = {name: polyline(history[name]) for name in ("loss", "accuracy")} if len(history) > 1 else {}
    return {"history": words, "curves": curves}


def polyline(values: pd.Series) -> str:
    """Points "x,y x,y" of a curve that fills CURVE."""
    width, height = CURVE
    low, high = values.min(), values.max()
    steps = width / (len(values) - 1)
    heights = height - height * (values - low) / ((high - low) or 1)
    return " ".join(f"{steps * i:.1f},{y:.1f}" for i, y in enumerate(heights))
