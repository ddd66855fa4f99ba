"""Tables of the synthetic study."""

from deit.tables.comparisons import compare
from deit.tables.computed import PaperTable
from deit.tables.definition import definition
from deit.tables.predictions import Inputs
from deit.tables.recipes import Table


def computed(recipe: Table, inputs: Inputs) -> PaperTable:
    """What tables.compute makes of a recipe file."""
    found, _ = definition(recipe.table).build(recipe, inputs)
    return PaperTable(recipe, found.frame(), compare(recipe, found), [])


def reversed_methods(recipe: Table, **swapped: str) -> Table:
    """The recipe with the runs of some rows exchanged."""
    runs = {(cell.row, cell.column): cell.runs for cell in recipe.cells}
    moved = tuple(
        cell.model_copy(update={"runs": runs[swapped.get(cell.row, cell.row), cell.column]}) for cell in recipe.cells
    )
    return recipe.model_copy(update={"cells": moved})
