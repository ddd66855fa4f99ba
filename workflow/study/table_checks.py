"""What the tables' own checks, in src/deit/tables/each, say of a study."""

from collections.abc import Iterator

from deit.tables.checks import Reference, Wrong
from deit.tables.definition import definition
from study.study import Study


def found(study: Study) -> Iterator[Wrong | Reference]:
    """What the tables' own checks say, one table after another."""
    for name, params in study.tables.asked().items():
        yield from definition(name).checks(params, study)


def references(study: Study, what: str) -> list[str]:
    """Names that tables give, of what the study must have: model, supervision or variant."""
    return [one.name for one in found(study) if isinstance(one, Reference) and one.what == what]
