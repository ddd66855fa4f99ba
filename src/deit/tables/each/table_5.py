"""Table 5: throughput and accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deit.bounds import Name, Names, SomeNames
from deit.tables.asked import FINETUNED, Measured, Runs, TableParams, Wanted, of_labels
from deit.tables.checks import Checked, known_models, known_supervision, reads_table_3
from deit.tables.definition import Definition, titles_of
from deit.tables.recipes import Table
from deit.tables.titles import title

if TYPE_CHECKING:
    from deit.tables.cells import Computed
    from deit.tables.predictions import Inputs


class Table5(TableParams):
    """Throughput and accuracy."""

    convnets: Names
    """Rows of convnets, which become trained if no other table needs them."""
    students: SomeNames
    """Rows of students at the lower resolution, from labels and with a distillation token, trained as Table 3's
    rows."""
    finetuned: Names
    """Rows of students at the higher resolution, likewise."""
    longer: dict[Name, Name] = {}
    """Ending of further rows of distilled students, `1000-epochs` in the paper -> name of their supervision, of the
    loss token; their `epochs` stand in `runs` of the phases."""


def checks(params: Table5, study: Any) -> Checked:
    yield from known_models(study, "tables.table_5.convnets", params.convnets, "convnet")
    yield from known_models(study, "tables.table_5.students", params.students, "transformer")
    yield from known_models(study, "tables.table_5.finetuned", params.finetuned, "transformer")
    yield from reads_table_3(study, "table_5", [*params.students, *params.finetuned], "Table 5's student")
    for ending, name in params.longer.items():
        yield from known_supervision(study, f"tables.table_5.longer.{ending}", name, "token")


def cells(params: Table5, runs: Runs) -> Wanted:
    """Rows: networks; columns: evaluation sets (throughput comes from its own measurement)."""
    return {
        (row, name, head, name): group
        for row, head, group in [*networks(params, runs), *longer(params, runs)]
        for name in runs.study.data.evaluation
    }


def networks(params: Table5, runs: Runs) -> list[tuple[str, str, list]]:
    """Rows as (row, head, runs): convnets, DeiTs, distilled DeiTs."""
    low, high = runs.resolutions
    third = runs.study.tables.table_3
    rows = [(name, "class", of_labels(runs, name)) for name in params.convnets]
    for method, suffix, head in (("labels", "", "class"), ("token", "-token", "fusion")):
        for ending, names, resolution in (("", params.students, low), (FINETUNED, params.finetuned, high)):
            for model in names:
                group = runs.seeded(model, third.rows[method], third.teacher, resolution)
                rows.append((model + suffix + ending, head, group))
    return rows


def longer(params: Table5, runs: Runs) -> list[tuple[str, str, list]]:
    """Further rows of distilled students, those of longer trainings, as in the last rows of the paper's Table 5."""
    low, high = runs.resolutions
    teacher = runs.study.tables.table_3.teacher
    return [
        (f"{model}-token{suffix}-{ending}", "fusion", runs.seeded(model, supervision, teacher, resolution))
        for ending, supervision in params.longer.items()
        for suffix, names, resolution in (("", params.students, low), (FINETUNED, params.finetuned, high))
        for model in names
    ]


def build(recipe: Table, inputs: Inputs) -> Computed:
    """Images per second, and an accuracy for each evaluation set (a cell's column)."""
    from deit.tables.cells import Cells, add_accuracies, measured, paper, throughput_facts

    found = Cells(paper("table_5"))
    for row in recipe.rows:
        found.add(row, "images_per_second", measured(inputs, row, "images_per_second"))
    add_accuracies(found, recipe, inputs)
    return found, [*throughput_facts(inputs, found), *other_sets(recipe)]


def other_sets(recipe: Table) -> list[str]:
    """Beside which of the study's evaluation sets the paper's numbers of another one stand."""
    titles = titles_of(recipe)
    pairs = [(title(own, titles), title(theirs)) for own, theirs in recipe.options.get("paper_columns", {}).items()]
    told = [f"of {theirs} beside {own}" for own, theirs in pairs if own != theirs]
    return [f"The paper’s accuracies are {', '.join(told)}."] if told else []


TABLE = Definition(
    place=5,
    number="Table 5",
    caption="Throughput and accuracy",
    heading="Table 5: throughput and accuracy",
    story="Images per second at inference, and accuracy on each evaluation set. Students with ⚗ are read through both "
    "heads; ↑ is fine-tuned at the higher resolution.",
    about="Throughput and accuracy of convnets, students and distilled students on every evaluation set.",
    params=Table5,
    cells=cells,
    checks=checks,
    reads=("predictions", "throughput"),
    measured=lambda params: Measured(params.convnets, params.students, params.finetuned),
    of_networks=True,
    build=build,
)
