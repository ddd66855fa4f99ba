"""Reading a params file: merging what it extends, and one clear message for whatever is wrong in it."""

import difflib
import hashlib
import os
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml
from checks import problems
from pydantic import BaseModel, ValidationError
from study import Study


class ParamsError(Exception):
    """A mistake in params/; its text is all that the user needs to see."""


def load_study(name: str, folder: Path = Path("params")) -> Study:
    """The validated study in `params/<name>.yaml`.

    Raises ParamsError with one line a mistake: file, key, what is wrong, remedy.
    """
    layers = read_layers(name, folder)
    content: dict = {}
    for _, layer in layers:
        content = merged(content, layer)
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        lines = [explained(detail, content) for detail in error.errors()]
    else:
        lines = [*problems(study), *file_problems(study)]
    if lines:
        raise ParamsError("\n".join(f"{origin(key, layers)}: {key}: {text}" for key, text in lines))
    return study


def read_layers(name: str, folder: Path) -> list[tuple[Path, dict]]:
    """The files of a study, the most general first: `extends:` names the study that a file builds on."""
    path = Path(folder) / f"{name}.yaml"
    if not path.exists():
        known = sorted(other.stem for other in Path(folder).glob("*.yaml") if other.stem != "study")
        raise ParamsError(f"{path}: no such study; there are {', '.join(known)}. Choose one with --config study=NAME.")
    try:
        layer = yaml.load(path.read_text(), Loader=UniqueKeys)
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(layer, dict):
        raise ParamsError(f"{path}: expected keys and values, found {type(layer).__name__}.")
    parent = layer.pop("extends", None)
    if parent == name:
        raise ParamsError(f"{path}: extends: a study cannot extend itself; name another study.")
    return [*(read_layers(parent, folder) if parent else []), (path, layer)]


class UniqueKeys(yaml.SafeLoader):
    """YAML's own loader, but a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key '{key}' stands twice, line {node.start_mark.line + 1} and below")
        return super().construct_mapping(node, deep)


def merged(base: dict, layer: dict) -> dict:
    """`layer` over `base`, key by key; null takes a key away."""
    result = dict(base)
    for key, value in layer.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def origin(key: str, layers: list[tuple[Path, dict]]) -> Path:
    """The file in which a dotted key, or the longest part of it, was last set."""

    def depth(layer: dict) -> int:
        steps = 0
        for part in key.split("."):
            if not isinstance(layer, dict) or part not in layer:
                break
            layer, steps = layer[part], steps + 1
        return steps

    return max(reversed(layers), key=lambda entry: depth(entry[1]))[0]


def explained(detail: dict, content: dict) -> tuple[str, str]:
    """A pydantic error as (dotted key, what is wrong and what to do)."""
    location = [str(part) for part in detail["loc"] if not str(part).endswith("[key]") and part != "[key]"]
    key = ".".join(location)
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], known_keys(location[:-1]), n=1)
        known = ", ".join(sorted(known_keys(location[:-1])))
        return key, "unknown key" + (f"; did you mean '{near[0]}'?" if near else f"; known here: {known}.")
    if detail["type"] == "missing":
        return key, "missing; add it (params/schema.json describes every key)."
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return key, f"{message}, found {detail['input']!r}; correct the value."


def known_keys(location: list[str]) -> list[str]:
    """The keys that the schema knows at a place."""
    kind: object = Study
    for part in location:
        kind = _inside(kind, part)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _inside(kind: object, part: str) -> object:
    """The type of `part` within a type: a model's field, a dict's value; None where the schema ends."""
    for option in (kind, *typing.get_args(kind)):
        if isinstance(option, type) and issubclass(option, BaseModel) and part in option.model_fields:
            annotation = option.model_fields[part].annotation
            models = [a for a in typing.get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
            if typing.get_origin(annotation) is dict:
                return annotation
            return models[0] if models else annotation
        if typing.get_origin(option) is dict:
            return typing.get_args(option)[1]
    return None


def file_problems(study: Study) -> Iterator[tuple[str, str]]:
    """Files with a declared checksum that are missing or differ; folders are checked when the data are prepared."""
    root = Path(expanded(study.data.root))
    if "$" in str(root):
        return  # only the jobs know the folder, and they check the files
    splits = {f"data.evaluation.{name}.split": item.split for name, item in study.data.evaluation.items()}
    checked = set()
    for key, split in {"data.training": study.data.training, **splits}.items():
        for part in sorted(split.md5.keys() & split.files.keys()):
            path, expected = root / split.files[part], split.md5[part]
            if path in checked:
                continue
            checked.add(path)
            if not path.exists():
                yield "data.root", f"{path} is missing; restore it (git checkout, dvc pull) or correct data.root."
                continue
            found = hashlib.md5(path.read_bytes()).hexdigest()
            if found != expected:
                text = f"{path} has the MD5 {found}, not {expected}; restore the file, or declare the new data here."
                yield f"{key}.md5.{part}", f"{text} All results follow from these images and will be made anew."


def expanded(root: str) -> str:
    """A data root with `~` and environment variables filled in."""
    return os.path.expandvars(os.path.expanduser(root))
