"""The section `tables`, a key a table; params and checks stand where the rest of it is, in src/deit/tables/each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from deit.bounds import Recipe
from deit.tables.definition import definitions


class Asked(Recipe):
    """The tables that a study asks for, by their names; None for the others."""

    def asked(self) -> dict[str, Any]:
        """Table -> its params, in the order of a report."""
        return {name: params for name, params in self if params}

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


FIELDS: dict[str, Any] = {
    name: (own.params | None, Field(default=None, description=own.about)) for name, own in definitions().items()
}
Tables = create_model("Tables", __base__=Asked, __doc__="The tables decide which runs exist.", **FIELDS)
