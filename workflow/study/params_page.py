"""docs/params.md: every key of a params file, made of the same JSON schema that editors get (schema.py writes both)."""

import json
from collections.abc import Iterator
from itertools import groupby

from study.study import Study

INTRODUCTION = """\
# What a params file may say

Made from [study.py](../workflow/study/study.py) and the `recipes.py` of the rooms of [src/deit](../src/deit) by
`python workflow/study/schema.py`, as is [schema.json](../params/schema.json), by which editors complete and check
keys. Messages about mistakes name keys as this page does, so search it for the key. Why the paper's study has its
values stands beside them, in [imagenet.yaml](../params/imagenet.yaml). *Paper* is DeiT's ICML version, *code* what its
authors released; a **trap** is where one of them, or this project, does what you would not expect.

SECTIONS

## How files build on each other

A study is `params/NAME.yaml`. `extends: fashion` on top lays its keys over those of `params/fashion.yaml`, at any
depth; what it does not name stays.

| written | means |
|---|---|
| `views: {erasing: 0.5}` | this key changes, all other keys of `views` stay |
| `seeds: {default: [0, 1]}` | lists and values replace those of the extended study |
| `tables: {table_2: null}` | `null` takes a key away: its default counts again, or that table, model or set is gone |
| `students: {runs: {deit-s/hard: {epochs: 8}}}` | one run differs; `deit-s` instead of `deit-s/hard`: all of its runs |
| `execution: {models: {deit-b: {gpus: 16}}}` | the jobs of one model's trainings differ |

The last to speak wins: a phase, then `runs: model`, then `runs: model/supervision`; `execution.default`, then the
phase, then `execution.models`. Files are YAML 1.2, so `1e-3` is a number and `no` a word. Unknown keys are refused.
`NAME` below stands for a name of yours (letters, digits, `-`, `_`, at most 64), `PHASE` for one of its heading's.

## What a change makes anew

The next `snakemake` makes anew what an edit changes and all that follows from it, under new names; taken back, the
older results count again.

| keys | what changes |
|---|---|
| `execution`, `data.root`, `released.root` | no result and no name, ever; at most last bits, by GPUs and threads |
| `stored_views`, `teacher_logits.chunk_epochs` | no result: only how views and caches lie on the disk |
| `title`, `description`, `caption`, `decimals`, and `paper` and `title` of an evaluation set | tables and report |
| `evaluation`, `throughput`, the rest of `data.evaluation`, `data.primary` | what is measured; no training |
| `tables`, `seeds`, `released` | which runs there are; those that stay keep their names |
| `teachers`, `adaptation` | these trainings, and all that learn from them |
| `teacher_logits.precision` | the caches, and all that learn from them |
| `variants` | the runs of the variant |
| `transfer` | the runs on that data set; of its `title`, tables and report alone |
| `students`, `finetuning`, `supervision`, `models` | what is trained so, and all that learns or starts from it |
| the rest of `data`, `views`, `resolutions` | almost every training |
"""


Keys = dict[str, dict]  # name -> JSON schema of its value


def page() -> str:
    """The Markdown: a section for each top-level key, neighbours of one type together, in the order of the types."""
    content = Study.model_json_schema()
    groups = [dict(group) for _, group in groupby(content["properties"].items(), lambda item: model_of(item[1])[0])]
    links = " · ".join(f"[{', '.join(keys)}](#{anchor(keys)})" for keys in groups)
    writer = Writer(content["$defs"], content["required"])
    return "\n".join([INTRODUCTION.replace("SECTIONS", links), *map(writer.section, groups)])


def anchor(keys: Keys) -> str:
    """The name by which GitHub links to a heading of these keys."""
    return "-".join(keys)


class Writer:
    """Writes sections one after another; keys of a type that stands in an earlier one are not repeated."""

    def __init__(self, models: Keys, required: list[str]):
        self.models, self.required = models, required
        self.links: dict[str, str] = {}
        """Type -> link to where its keys stand."""

    def section(self, keys: Keys) -> str:
        """A heading, what these top-level keys are for, and a table of all keys below them."""
        about, first = [], next(iter(keys))
        if model_of(keys[first])[0]:
            several = len(keys) > 1
            about = [f"- `{key}`: {meaning(part)}" if several else meaning(part) for key, part in keys.items()] + [""]
            found = self.below("PHASE" if several else first, keys[first], anchor(keys))
        else:
            found = (row for key, part in keys.items() for row in self.rows(key, part, key in self.required, ""))
        heading = ", ".join(f"`{key}`" for key in keys)
        return "\n".join(
            [f"## {heading}", "", *about, "| key | value | default | meaning |", "|---|---|---|---|", *found, ""]
        )

    def rows(self, key: str, part: dict, required: bool, where: str) -> Iterator[str]:
        """The row of a key, and those of the keys below it."""
        model, _ = model_of(part)
        link = self.links.get(model, "")
        text = f"{meaning(part)} Keys: as {link}." if link else meaning(part)
        yield f"| `{key}` | {kind(part)} | {'*required*' if required else default(part)} | {text} |"
        if model and not link:
            yield from self.below(key, part, where)

    def below(self, key: str, part: dict, where: str) -> Iterator[str]:
        model, named = model_of(part)
        start = f"{key}.NAME" if named else key
        self.links[model] = f"[`{start}`](#{where})"
        fields = self.models[model]
        for name, field in fields["properties"].items():
            yield from self.rows(f"{start}.{name}", field, name in fields.get("required", ()), where)


# A value's schema in words --------------------------------------------------------------------------------------------


def model_of(part: dict) -> tuple[str, bool]:
    """The type of ours that a value has, empty for plain values; and whether it stands below names of the user's."""
    inside = [*part.get("patternProperties", {}).values(), part.get("additionalProperties")]
    for option in (part, *part.get("anyOf", ()), *filter(None, inside)):
        if isinstance(option, dict) and "$ref" in option:
            return option["$ref"].rpartition("/")[2], option in inside
    return "", False


def meaning(part: dict) -> str:
    return " ".join(part["description"].split()).replace("|", "\\|").replace("Trap:", "**Trap:**")


def kind(part: dict) -> str:
    """Type and bounds of a value."""
    if "const" in part:
        return f"`{part['const']}`"
    if "enum" in part:
        return " or ".join(f"`{value}`" if value != "" else "empty" for value in part["enum"])
    if "anyOf" in part:
        return ", ".join(dict.fromkeys(kind(option) for option in part["anyOf"] if option != {"type": "null"}))
    match part.get("type", "keys"):
        case "array" if "prefixItems" in part:
            return f"{len(part['prefixItems'])} of: {kind(part['prefixItems'][0])}"
        case "array":
            return f"list of: {kind(part['items'])}"
        case "object":
            values = next(iter(part.get("patternProperties", {}).values()), part.get("additionalProperties"))
            names = kind(part["propertyNames"]) if "enum" in part.get("propertyNames", {}) else "name"
            return f"{names} → {kind(values) if isinstance(values, dict) else 'any'}"
        case "boolean":
            return "`true` or `false`"
        case other:
            words = {"integer": "whole number", "number": "number", "string": "text", "keys": "keys"}
            return f"{words[other]} {', '.join(bounds(part))}".strip()


def bounds(part: dict) -> Iterator[str]:
    for name, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")):
        if name in part:
            yield f"{sign} {part[name]}"


def default(part: dict) -> str:
    """What counts where the key is absent; of keys with keys of their own, these tell."""
    value = part.get("default")
    if model_of(part)[0] or value in (None, "", [], {}):
        return "none"
    return f"`{json.dumps(value)}`"
