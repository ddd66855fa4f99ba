"""The section `teacher_logits` of a params file: its keys, and what can be wrong in them."""

from collections.abc import Iterator
from typing import Literal

from deit.bounds import Epochs, Recipe
from study.phases import Phase
from study.problem import Problem

LONGEST_CACHE = 10_000
"""Caching jobs of one teacher and stream, each a job of the DAG."""


class LogitsParams(Recipe):
    """The teacher cache."""

    chunk_epochs: Epochs
    """Epochs a caching job; chunks are filled side by side, and pruned one by one. Of a data set of `transfer`, as many
    as show about as many images. Changes no number."""
    precision: Literal["fp32", "bf16"]
    """In which the teacher computes what it tells its students. A label takes 2 bytes a view; where students learn from
    logits all are kept, in 4 bytes, or 2 with bf16, and nothing is lost: 300 epochs of ImageNet take 0.77 TB in bf16.
    Renames all that learn from a teacher."""


def cache_problems(logits: LogitsParams, name: str, phase: Phase) -> Iterator[Problem]:
    every = [phase.epochs, *(run.get("epochs") for run in phase.runs.values())]
    longest = max(epochs for epochs in every if type(epochs) is int)
    if longest > LONGEST_CACHE * logits.chunk_epochs:
        text = f"{longest} epochs of {name} are more than {LONGEST_CACHE} caching jobs"
        others = (f"{name}.epochs", f"{name}.runs")
        yield Problem("teacher_logits.chunk_epochs", text, "make the chunks larger.", others)
