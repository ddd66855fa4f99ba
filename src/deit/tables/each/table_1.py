"""Table 1: variants of the architecture. Nothing is trained for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from deit.bounds import SomeNames
from deit.tables.asked import Measured, TableParams
from deit.tables.checks import Checked, known_models
from deit.tables.definition import Definition
from deit.tables.recipes import Table

if TYPE_CHECKING:
    from deit.tables.cells import Computed
    from deit.tables.predictions import Inputs

DIMENSIONS = ("embedding_dimension", "heads", "layers")


class Table1(TableParams):
    """Variants of the architecture."""

    models: SomeNames
    """Its rows, transformers; only parameters and images per second are needed, so nothing is trained for it."""


def checks(params: Table1, study: Any) -> Checked:
    yield from known_models(study, "tables.table_1.models", params.models, "transformer")


def build(recipe: Table, inputs: Inputs) -> Computed:
    """A model's dimensions, parameters, operations and throughput, as measured on the network itself.

    A row's model is the throughput's label of that name; `<row>-token` is its variant with a distillation token.
    """
    from deit.tables.cells import Cells, paper, throughput_facts

    cells = Cells(paper("table_1"))
    for row in recipe.rows:
        for column, value in measured(row, inputs):
            cells.add(row, column, value)
    return cells, throughput_facts(inputs, cells)


def measured(row: str, inputs: Inputs) -> Iterator[tuple[str, float | None]]:
    """The columns of a row, None where they were not measured."""
    from deit.tables.cells import measured

    model = inputs.models.get(row)
    network = inputs.networks.get(f"{row}/{model.resolution}") if model else None
    yield from ((name, measured(inputs, row, name)) for name in (*DIMENSIONS, "parameters"))
    yield "parameters_with_distillation_token", measured(inputs, f"{row}-token", "parameters")
    yield "resolution", model.resolution if model else None
    yield "multiply_adds", network["multiply_adds"] if network else None
    yield "images_per_second", measured(inputs, row, "images_per_second")


TABLE = Definition(
    place=1,
    number="Table 1",
    caption="Variants of the architecture",
    heading="Table 1: variants of the architecture",
    story="The three sizes of DeiT differ in width; the head dimension is constant. Parameters are counted from the "
    "models themselves, without and with the distillation token; images per second are measured at inference in fp32. "
    "The paper prints 5M, 22M and 86M parameters; the exact numbers stand here.",
    about="Variants of the architecture: parameters and throughput. Absent, as any table, it is not made, and nothing "
    "runs for it.",
    titles={
        "embedding_dimension": "embedding dimension",
        "parameters_with_distillation_token": "parameters ⚗",
        "multiply_adds": "multiply-adds",
    },
    params=Table1,
    cells=lambda params, runs: {},
    rows=lambda params: params.models,
    checks=checks,
    reads=("throughput", "networks"),
    measured=lambda params: Measured(students=params.models),
    build=build,
    counted=False,
)
