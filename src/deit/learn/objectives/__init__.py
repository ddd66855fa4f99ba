"""What a network learns from: an objective is one file of this folder, named as in params (`-` is written `_`).

Such a file holds the objective's own params, what it asks of a teacher, and its loss. Planning reads it, too, so it
imports torch only inside the loss.

Shapes: B views, K classes. `logits` are pre-softmax, (B, K) of each of the student's token heads; `targets` (B, K) are
the true labels, mixed and smoothed; `teacher` is the teacher's decisions (B,), neither mixed nor smoothed, or its
logits (B, K).
"""

import difflib
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, GetJsonSchemaHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, PydanticKnownError

from deit.bounds import FIXED, Recipe

if TYPE_CHECKING:
    from torch import Tensor


def with_a_file(loss: str) -> str:
    if loss not in names():
        raise PydanticKnownError("literal_error", {"expected": " or ".join(map(repr, names()))})
    return loss


class Objective(Recipe):
    """A training objective. `Objective.model_validate({"loss": NAME, ...})` makes one of the class in NAME's file."""

    title: ClassVar[str]
    """How prose calls it."""
    teacher_says: ClassVar[Annotated[Literal["", "labels", "logits"], FIXED]] = ""
    """What it asks of a teacher: nothing, its decision, or its logits."""
    tokens: ClassVar[Annotated[int, FIXED]] = 1
    """Tokens with a head of their own that the student needs."""
    heads: ClassVar[Annotated[tuple[str, ...], FIXED]] = ("class",)
    """By which its students are read; the last is the one by which they are judged."""

    loss: Annotated[str, AfterValidator(with_a_file)]
    """Its name, that of its file."""

    @property
    def module(self) -> str:
        """Dotted name of its file."""
        return type(self).__module__

    def mean_loss(self, logits: "tuple[Tensor, ...]", targets: "Tensor", teacher: "Tensor | None") -> "Tensor":
        """The scalar mean over the views, computed in fp32; its gradient is what is learned."""
        raise NotImplementedError

    @model_validator(mode="wrap")
    @classmethod
    def of_its_file(cls, content: Any, handler: Any) -> Any:
        """Of the class that the content names, with only those keys that this objective has."""
        if not isinstance(content, dict):
            return handler(content)
        if cls is Objective:
            named = handler({key: value for key, value in content.items() if key == "loss"})
            return objective_class(named.loss).model_validate(content)
        if unknown := [key for key in content if key not in cls.model_fields]:
            raise ValidationError.from_exception_data(
                cls.__name__,
                [InitErrorDetails(type=refused(cls, key), loc=(key,), input=content[key]) for key in unknown],
            )
        return handler(content)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict:
        """Of `Objective`: all names, each with what it means, and the keys that any of them has."""
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        if cls is not Objective:
            return schema
        classes = {name: objective_class(name) for name in names()}
        told = " ".join(f"`{name}`, {each.title}: {each.__doc__}" for name, each in classes.items())
        schema["properties"]["loss"] |= {"enum": list(names()), "description": told}
        for key, part in [item for each in classes.values() for item in each.model_json_schema()["properties"].items()]:
            owners = ", ".join(having(key))
            schema["properties"].setdefault(key, part | {"description": f"{owners}: {part['description']}"})
        return schema


def objective_loss(
    objective: Objective, logits: "tuple[Tensor, ...]", targets: "Tensor", teacher: "Tensor | None"
) -> "Tensor":
    """The objective's loss, a scalar.

    Raises ValueError where the student has another number of token heads than the objective trains.
    """
    if len(logits) != objective.tokens:
        raise ValueError(
            f"objective {objective.loss!r} trains {objective.tokens} token head(s), but the model has "
            f"{len(logits)}: choose a timm model with (token, two-class-tokens) or without (all others) a "
            "distillation token."
        )
    return objective.mean_loss(logits, targets, teacher)


@cache
def names() -> tuple[str, ...]:
    """All objectives, in the order of the alphabet."""
    return tuple(sorted(module.name.replace("_", "-") for module in iter_modules(__path__)))


@cache
def objective_class(loss: str) -> type[Objective]:
    """The one objective that the file of this name defines."""
    module = import_module(f"{__name__}.{loss.replace('-', '_')}")
    (found,) = [each for each in vars(module).values() if is_objective(each) and each.__module__ == module.__name__]
    return found


def is_objective(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Objective)


def refused(asked: type[Objective], key: str) -> PydanticCustomError:
    """Why an objective has no such key, and what to do."""
    loss = asked.__module__.rpartition(".")[2].replace("_", "-")
    near = difflib.get_close_matches(key, asked.model_fields, n=1)
    if owners := having(key):
        said, remedy = f"a key of the loss {' and '.join(owners)}, and {loss} has none", "remove it, or set it to null."
    else:
        known = f"known here: {', '.join(sorted(asked.model_fields))}."
        said, remedy = "unknown key", f"did you mean '{near[0]}'?" if near else known
    return PydanticCustomError("remedy", "{said}: {remedy}", {"said": said, "remedy": remedy})


def having(key: str) -> list[str]:
    """The objectives that have a key."""
    return [name for name in names() if key in objective_class(name).model_fields]
