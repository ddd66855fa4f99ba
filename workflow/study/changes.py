"""Keys of one section that another part of a study changes: for a variant, for a phase."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from pydantic import ValidationError

from deit.bounds import Recipe
from deit.learn.recipes import DECAY_IN_GRADIENT, OPTIMIZERS, Optimisation
from study.problem import Problem, unknown
from study.types_told import explained

Section = TypeVar("Section", bound=Recipe)


def changed(section: Section, changes: dict[str, Any]) -> Section:
    """A section with some of its keys changed. Raises ValidationError."""
    return section.model_validate(section.model_dump() | changes)


def change_problems(
    key: str, changes: dict[str, Any], what: str, base: Recipe, fixed: Iterable[str] = ()
) -> Iterator[Problem]:
    """Keys that the section `what` does not have, or that nothing may change; without such, values that it cannot take.

    `key` is where the changes stand. A section with an own `changed`, as a model has it, is changed by that.
    """
    kind = type(base)
    known = [field for field in kind.model_fields if field not in fixed]
    foreign = [problem for field in changes for problem in unknown(f"{key}.{field}", field, known, f"key of {what}")]
    yield from foreign
    if foreign:
        return
    if isinstance(base, Optimisation):
        yield from decay_problems(key, changes, base.optimizer)
    try:
        base.changed(changes) if hasattr(base, "changed") else changed(base, changes)
    except ValidationError as error:
        yield from explained(error, changes, key, kind)


def decay_problems(key: str, changes: dict[str, Any], before: str) -> Iterator[Problem]:
    """An optimiser in place of the one `before`, with whose weight decay it would do something else."""
    optimizer = changes.get("optimizer", before)
    if not isinstance(optimizer, str):  # refused as such
        return
    other_kind = (optimizer in DECAY_IN_GRADIENT) != (before in DECAY_IN_GRADIENT)
    if optimizer in OPTIMIZERS and other_kind and "weight_decay" not in changes:
        ways = {
            name: "in the gradient" if name in DECAY_IN_GRADIENT else "to the weights" for name in (optimizer, before)
        }
        text = f"missing: {optimizer} applies it {ways[optimizer]}, and what is set is for {before}, {ways[before]}"
        yield Problem(f"{key}.weight_decay", text, "give it beside the optimizer.", (f"{key}.optimizer",))
