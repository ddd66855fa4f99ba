"""What the types of study.py refuse, in words of ours: no word of pydantic's, or of Python's, reaches a user."""

import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from study.names import NAMES
from study.problem import Problem, listed, meant, short

Words = Callable[[dict], str]

TOLD: dict[str, Words] = {
    "int_type": lambda _: "must be a whole number",
    "int_parsing_size": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "number": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "string_type": lambda _: "must be text",
    "list_type": lambda _: "must be a list, [one, another]",
    "tuple_type": lambda _: "must be a list, [one, another]",
    "dict_type": lambda _: "must be keys and values",
    "model_type": lambda _: "must be keys and values",
    "literal_error": lambda said: f"must be {said['expected']}",
    "greater_than": lambda said: f"must be more than {number(said['gt'])}",
    "greater_than_equal": lambda said: f"must be at least {number(said['ge'])}",
    "less_than": lambda said: f"must be less than {number(said['lt'])}",
    "less_than_equal": lambda said: f"must be at most {number(said['le'])}",
    "too_short": lambda said: f"must have at least {counted(said['min_length'])}",
    "too_long": lambda said: f"must have at most {counted(said['max_length'])}",
    "string_too_short": lambda said: "must not be empty",
    "string_too_long": lambda said: f"must have at most {said['max_length']} characters",
    "twice": lambda said: f"has {said['value']} twice",
    "reader": lambda said: f"is no reader ({said['hint']})",
    "augmentation": lambda _: (
        "must be rand-m9-mstd0.5-inc1, original-mstd0.5 or another string by which timm configures RandAugment "
        "(rand-...) or AutoAugment (v0, v0r, original, originalr, 3a), or empty"
    ),
}
"""Pydantic's type of an error -> what is wrong, after the key; of its context, where it has one."""


def number(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def counted(entries: int) -> str:
    return "one entry" if entries == 1 else f"{entries} entries"


def explained(error: ValidationError, content: dict, above: str, kind: type[BaseModel]) -> list[Problem]:
    """The problems of `content`, which was to be a `kind` at the dotted key `above`; one a key."""
    found: dict[str, tuple[list[str], str, str]] = {}
    for detail in error.errors(include_url=False):
        location = place(detail, content)
        said, ending, remedy = told(detail, location, kind)
        key = ".".join([above, *location] if above else location)
        texts, _, _ = found.setdefault(key, ([], ending, remedy))
        if said not in texts:
            texts.append(said)
    return [
        Problem(key, " or ".join(texts).replace(" or must be", " or") + ending, remedy)
        for key, (texts, ending, remedy) in found.items()
    ]


def told(detail: ErrorDetails, location: list[str], kind: type[BaseModel]) -> tuple[str, str, str]:
    """What is wrong with a value, what was found where that is told, and what to do."""
    value, found = detail["input"], f", found {short(detail['input'])}"
    said = TOLD.get(detail["type"], lambda _: "is not what belongs here")(detail.get("ctx", {}))
    match detail["type"]:
        case "extra_forbidden":
            known = sorted(known_keys(kind, location[:-1]))
            return "unknown key", "", meant(location[-1], known) or f"known here: {listed(known, 40)}."
        case "remedy":
            return detail["ctx"]["said"], "", detail["ctx"]["remedy"]
        case "missing" if location[-1].isdecimal():  # one number of two
            return "missing", "", "give two numbers, [least, most]."
        case "missing":
            return "missing", "", "add it (docs/params.md describes every key)."
        case "string_pattern_mismatch":
            return NAMES, found, "rename it."
        case "twice":
            return said, "", "remove one."
        case "int_type" if isinstance(value, float) and value.is_integer():
            return said, found, f"write {value:.0f}."
        case "string_type" if isinstance(value, int | float):
            return said, found, "write it in quotation marks, or correct it."
        case _:
            return said, found, "correct the value."


def place(detail: ErrorDetails, content: Any) -> list[str]:
    """The keys that lead to an error, without what pydantic adds behind them: '[key]', members of a union."""
    location = []
    for part in detail["loc"]:
        inside = content if isinstance(content, dict) else dict(enumerate(content)) if isinstance(content, list) else {}
        if part not in inside and detail["type"] != "missing":
            break
        location.append(str(part))
        content = inside.get(part)
    return location


# The keys that the schema knows ---------------------------------------------------------------------------------------


def known_keys(kind: object, location: list[str]) -> list[str]:
    """The keys at a place below a type; none where the schema ends."""
    for part in location:
        if typing.get_origin(kind) is dict:
            kind = typing.get_args(kind)[1]
        else:
            field = fields_of(kind).get(part)
            kind = field.annotation if field else None
    return list(fields_of(kind))


def fields_of(kind: object) -> dict[str, FieldInfo]:
    """Of a model, or of the one beside null in a union; none of another type."""
    options = [each for each in (kind, *typing.get_args(kind)) if isinstance(each, type)]
    return next((each.model_fields for each in options if issubclass(each, BaseModel)), {})
