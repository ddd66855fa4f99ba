"""Numbers, each with the least and the most that somebody could mean, names, and what all recipes are made of."""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError

from deit.docstrings import docstrings
from deit.names import NAME

# Numbers, each with the least and the most that somebody could mean: a slip is refused, and nothing overflows later.
Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, le=1e4)]
Positive = Annotated[float, Field(gt=0, le=1e4)]
Rate = Annotated[float, Field(ge=0, le=1e3)]
"""Of learning or of decay."""
Fraction = Annotated[float, Field(ge=1e-4, le=1)]
"""Of an image's area, of a range of pixel values."""
Crop = Annotated[float, Field(ge=0.1, le=1)]
"""Part of an image's side that is shown; the image is resized to resolution / crop."""
Ratio = Annotated[float, Field(ge=0.01, le=100)]
Temperature = Annotated[float, Field(ge=0.01, le=1e4)]
Minutes = Annotated[float, Field(gt=0, le=1e9)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Size = Annotated[int, Field(ge=0, le=10**9)]
"""A count that may be none."""
Pixels = Annotated[int, Field(ge=1, le=4096)]
Epochs = Annotated[int, Field(ge=1, le=10**6)]
Few = Annotated[int, Field(ge=1, le=1000)]
Machines = Annotated[int, Field(ge=1, le=10**4)]
Option = Annotated[int, Field(ge=-(10**9), le=10**9)] | Annotated[float, Field(ge=-1e9, le=1e9)] | bool | str
"""A value of a key that another library, or another class of this file, knows."""
AsList = Field(strict=False)
"""Of a tuple: YAML and JSON write it as a list."""
Argument = Option | Annotated[tuple[Count, ...], AsList]
"""A value of an argument of timm's; a list is of counts, as of layers or channels a stage."""


def no_truth(value: object) -> object:
    if isinstance(value, bool):  # Python holds True for equal to 1
        raise PydanticCustomError("number", "must be a number")
    return value


def unique(values: list) -> list:
    if twice := [value for number, value in enumerate(values) if value in values[:number]]:
        raise PydanticCustomError("twice", "names {value} twice; remove one", {"value": repr(twice[0])})
    return values


Once = [AfterValidator(unique), Field(json_schema_extra={"uniqueItems": True})]
"""Of a list: each of its items makes a run, a row or a column."""
Name = Annotated[str, Field(pattern=NAME)]
Names = Annotated[list[Name], *Once]
SomeNames = Annotated[list[Name], Field(min_length=1), *Once]


FIXED = "the same for ever"
"""Marks a constant of a recipe's class that counts for no name, so no edit may change it: test_names.py holds it."""


class Recipe(BaseModel):
    # strict: `true` is no number, `1.0` no count and `"3"` neither.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict:
        """With each attribute's docstring, read when asked for: pydantic would read all at every start of a process."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        said = docstrings(cls)
        for name, part in schema["properties"].items():
            if name in said:
                part.setdefault("description", said[name])
        return schema

    @property
    def module(self) -> str:
        """Module of ours that this choice makes run, beside what its command reaches by itself; empty for most."""
        return ""

    def chosen(self) -> Iterator[str]:
        """The modules that this recipe, and all that it holds, choose."""
        if self.module:
            yield self.module
        for name in type(self).model_fields:
            yield from chosen_in(getattr(self, name))


def chosen_in(value: object) -> Iterator[str]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    if isinstance(value, Recipe):
        yield from value.chosen()
    for each in inner:
        yield from chosen_in(each)


class Mistake(NamedTuple):
    """What is wrong in params, as a section, a table or a reader tells it."""

    key: str
    """Dotted: where it stands, in the params or below what was asked about."""
    text: str
    """What is wrong, as said after the key."""
    remedy: str
    """What to do, a sentence."""
    others: tuple[str, ...] = ()
    """Further keys that have a part in it."""
