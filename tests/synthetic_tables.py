"""Tables of the synthetic study."""

from pathlib import Path

import numpy as np
import pytest
import synthetic_study as study

from deit.tables import computed as tables
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


def noisy_study(root: Path) -> dict:
    """With chance in every decision: images are of unequal ease, seeds differ by a point or so."""
    random = np.random.default_rng(0)
    ease = np.random.default_rng(1).normal(size=study.IMAGES)
    tokens = study.tokens

    def decisions(accuracy: float, images: int = study.IMAGES) -> np.ndarray:
        margin = 3 * (accuracy / 100 - 0.5) + random.normal(0, 0.05) + ease + random.normal(size=images)
        targets = np.arange(images) % 10
        return np.where(margin > 0, targets, (targets + random.integers(1, 4, images)) % 10)

    def noisy_tokens(root: Path, run: str, layers: list[float]) -> Path:
        return tokens(root, run, [layer + random.normal(0, 0.01) for layer in layers])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "decisions", decisions)
        patch.setattr(study, "tokens", noisy_tokens)
        folders = study.build(root)
    every = [folder for section in ("predictions", "throughput", "tokens") for folder in folders[section]]
    shown = {}
    for name, recipe in study.tables().items():
        path, _ = study.write_recipe(root, "table", f"tables/{name}", recipe, every)
        shown[name] = tables.compute(path, every)
    return {"root": root, "tables": shown, "folders": every}
