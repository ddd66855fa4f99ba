"""Rows of tables that would be called what their runs are not.

No part of the tables' own checks in src/deit/tables/each: these stand in the names of finished tables, and nothing here
changes a table.
"""

from collections.abc import Iterator

from study.problem import Problem
from study.study import Study

REDUCTIONS = {"soft": "batchmean", "soft_mean": "mean"}
"""Row of Table 3 -> how its supervision reduces the KL, as titles and claims tell of it."""


def mislabelled(study: Study) -> Iterator[Problem]:
    yield from reduction_problems(study)


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
