"""What the schema of params/ allows has bounds and patterns, and anything anywhere is planned or refused."""

import re
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutants import FOREIGN, ROOT, STUDIES, nested, refusal, write
from plan.studies import plan_study
from pydantic import ValidationError
from study.study import Study
from study.types_told import TOLD, explained

SCHEMA = Study.model_json_schema()


def places(schema: dict, content: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key that the schema knows, through the names that the study gives to models, supervisions and sets."""
    if path:
        yield path
    for part in [schema, *schema.get("anyOf", [])]:
        part = SCHEMA["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        inside = content if isinstance(content, dict) else {}
        for key, value in part.get("properties", {}).items():
            yield from places(value, inside.get(key), (*path, key))
        named = [*part.get("patternProperties", {}).values(), part.get("additionalProperties")]
        for value in filter(lambda value: isinstance(value, dict), named):
            for key in inside:
                yield from places(value, inside[key], (*path, key))


def parts(schema: dict, place: str = "") -> Iterator[tuple[str, dict]]:
    """Every part of the schema with its place."""
    yield place, schema
    for key, value in schema.items():
        for name, part in (
            value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
        ):
            if isinstance(part, dict):
                yield from parts(part, f"{place}/{key}/{name}")
        if isinstance(value, dict):
            yield from parts(value, f"{place}/{key}")


PARTS = dict(parts(SCHEMA))


def test_every_number_of_the_schema_has_two_bounds():
    numbers = {
        place: part for place, part in PARTS.items() if part.get("type") in ("integer", "number") and "enum" not in part
    }
    assert len(numbers) > 60
    low, high = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
    unbound = [place for place, part in numbers.items() if not (part.keys() & {*low} and part.keys() & {*high})]
    assert unbound == []


def test_no_list_of_the_schema_allows_a_thing_twice():
    """But for those of a number a channel or a stage, of a least and a most, of two moments, and of a map of classes.

    In that map no class may stand twice in all lists together, which convention_problems looks at.
    """
    lists = {place: part for place, part in PARTS.items() if part.get("type") == "array" and "uniqueItems" not in part}
    names = {re.sub(r"(/additionalProperties)?/anyOf/\d+$", "", place).rpartition("/")[2] for place in lists}
    assert names <= {"mean", "std", "scale", "ratio", "betas", "classes", "items", "arguments"}


def test_every_name_of_the_schema_has_a_pattern():
    """Keys that the user chooses are names, patterns of runs, or those that another check knows."""
    maps = {place: part for place, part in PARTS.items() if part.get("type") == "object" and "properties" not in part}
    free = [place for place, part in maps.items() if not part.keys() & {"patternProperties", "propertyNames"}]
    known = {"arguments", "views", "model", "students", "finetuning", "runs"}  # checks.py and variant_checks.py
    assert {place.rpartition("/")[2] for place in free} - known <= {"additionalProperties"}, free


PYTHONS = re.compile(
    r"\b(Input|instance|validation|pydantic|valid \w+|None|NoneType|True|False|dict|list_type|tuple|str|int|float)\b"
)
WRONG = (None, True, "x", "", 7, 2.5, -1, 10**12, 1e300, [], [None], [True, "x", "x"], {}, {"x": None}, {"x": {"y": 1}})


def replaced(content: object, path: tuple[str, ...], value: object) -> object:
    """The content with another value at a place."""
    if not path:
        return value
    inside = content if isinstance(content, dict) else {}
    return inside | {path[0]: replaced(inside.get(path[0]), path[1:], value)}


@pytest.mark.long
def test_no_word_of_pydantics_reaches_a_user():
    content = plan_study("released", ROOT / "params").study.model_dump(mode="json")
    for section in (content, content["data"], content["released"]):  # one of a kind is enough
        for key in {"models", "supervision", "evaluation", "weights"} & section.keys():
            if "precision" not in section[key]:
                section[key] = dict([*section[key].items()][:1])
    content["variants"] = {"a": {"students": {"epochs": 2}}}
    content["tables"]["ablation"] = {"student": "deit-s", "supervision": "labels", "rows": {"a": "a"}}
    content["execution"]["passes"] = {"a": {"runs": ["*"]}}
    seen = set()
    for path in sorted(set(places(SCHEMA, content))):
        for value in WRONG:
            mutant = replaced(content, path, value)
            try:
                Study.model_validate(mutant)
            except ValidationError as error:
                seen |= {detail["type"] for detail in error.errors()}
                for problem in explained(error, mutant, "", Study):
                    said = f"{problem.text}; {problem.remedy}"
                    assert not PYTHONS.search(said), (path, value, said)
    assert (
        seen - TOLD.keys() <= {"extra_forbidden", "missing", "remedy", "string_pattern_mismatch"} and len(seen) > 15
    ), seen


PLACES = {name: sorted(set(places(SCHEMA, plan_study(name, ROOT / "params").study.model_dump()))) for name in STUDIES}
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 10**9, 10**20, -(10**400), 1e-300, 1e300]))
TEXTS = st.one_of(st.sampled_from(FOREIGN), st.text(st.characters(codec="utf-8"), max_size=8))
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(TEXTS, inside, max_size=2)),
    max_leaves=4,
)
MUTATIONS = st.sampled_from(STUDIES).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(PLACES[name])))


@pytest.mark.long
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(MUTATIONS, ANYTHING)
def test_anything_anywhere_is_planned_or_refused(params, mutation, value):
    study, path = mutation
    write(params, nested(path, value), study)
    refusal("mutant", params)
