"""What is wrong with the section `tables`: what the tables' own checks in src/deit/tables/each say, and rows of
other runs than they are called by."""

from collections.abc import Iterator

from deit.tables.checks import Reference
from deit.tables.definition import definition
from study.mislabelled import length_problems, reduction_problems
from study.problem import Problem, unknown
from study.study import Study


def table_problems(study: Study) -> Iterator[Problem]:
    """What is wrong with the tables, and names of what the study does not have."""
    known = {"model": study.models, "supervision": study.supervision, "variant": study.variants}
    sections = {"model": "models", "supervision": "supervision", "variant": "variants"}
    if not study.tables.asked():
        yield Problem("tables", "names no table, so nothing would run", "add one (docs/params.md describes them).")
    for name, params in study.tables.asked().items():
        for one in definition(name).checks(params, study):
            if isinstance(one, Reference):
                yield from unknown(one.key, one.name, known[one.what], one.what, sections[one.what])
            else:
                yield Problem(*one)
    yield from reduction_problems(study)
    yield from length_problems(study)
