"""Rows of tables that would be called what their runs are not.

No part of the tables' own checks in src/deit/tables/each: these stand in the names of finished tables, and nothing here
changes a table.
"""

from collections.abc import Iterator

from deit.tables.checks import epochs_of
from study.problem import Problem
from study.study import Study

REDUCTIONS = {"soft": "batchmean", "soft_mean": "mean"}
"""Row of Table 3 -> how its supervision reduces the KL, as titles and claims tell of it."""


def reduction_problems(study: Study) -> Iterator[Problem]:
    """Soft distillation in the row of the other reduction."""
    rows = study.tables.table_3.rows if study.tables.table_3 else {}
    for row, reduction in REDUCTIONS.items():
        name = rows.get(row, "")
        own = getattr(study.supervision.get(name), "reduction", reduction)
        if own != reduction:
            text = f"'{name}' has the reduction {own}, not {reduction}"
            remedy = f"name a supervision of the reduction {reduction}."
            yield Problem(f"tables.table_3.rows.{row}", text, remedy, (f"supervision.{name}.reduction",))


def length_problems(study: Study) -> Iterator[Problem]:
    """Longer trainings of Table 5 that are no longer than those of its rows from Table 3."""
    third, fifth = study.tables.table_3, study.tables.table_5
    if not third or not fifth or study.released:
        return
    usual = third.rows.get("token", "")
    for ending, name in fifth.longer.items():
        for model in dict.fromkeys((*fifth.students, *fifth.finetuned)):
            epochs, others = epochs_of(study, model, name), epochs_of(study, model, usual)
            if epochs and others and epochs <= others and {name, usual} <= study.supervision.keys():
                text = f"trains {model} for {epochs} epochs, and its row without that ending for {others}"
                remedy = "name a supervision of its own, with more epochs in students.runs."
                yield Problem(f"tables.table_5.longer.{ending}", text, remedy, ("students.runs", "students.epochs"))
