"""Reading a params file: YAML 1.2, merging what it extends, and one clear message for whatever is wrong in it."""

import difflib
import hashlib
import math
import os
import re
import reprlib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from planning.checks import problems
from planning.study import NAME, NAMES, Study
from planning.variant_checks import variant_problems

LARGEST = 2**53
"""Beyond it not every whole number is a floating-point number, and JSON's readers disagree."""


class ParamsError(Exception):
    """A mistake in params/; its text is all that the user needs to see."""

    def __init__(self, *lines: str):
        super().__init__("\n".join(map(printable, lines)))


def load_study(name: str, folder: Path = Path("params")) -> Study:
    """The validated study in `params/<name>.yaml`.

    Raises ParamsError with one line a mistake: file, key, what is wrong, remedy.
    """
    layers = read_layers(name, Path(folder))
    content: dict = {}
    for _, layer in layers:
        content = merged(content, layer)
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise refusal(explained(error, content), layers) from None
    if mistakes := [*problems(study), *variant_problems(study), *file_problems(study), *weight_problems(study)]:
        raise refusal(mistakes, layers)
    return study


def refusal(mistakes: list[tuple[str, str]], layers: list[tuple[Path, dict]]) -> ParamsError:
    """All mistakes (dotted key, text) in one error, each after the file where its key stands."""
    return ParamsError(*(f"{origin(key, layers)}: {key}: {text}" for key, text in mistakes))


def chosen_study(folder: Path = Path("params")) -> str:
    """The study that is planned where none is named: what params/study.yaml says."""
    path = Path(folder, "study.yaml")
    name = read_yaml(path).get("study")
    if not isinstance(name, str):
        raise ParamsError(f"{path}: study: must be the name of a study; there are {', '.join(known_studies(folder))}.")
    return name


def known_studies(folder: Path) -> list[str]:
    return sorted(path.stem for path in Path(folder).glob("*.yaml") if path.stem != "study")


def read_layers(name: str, folder: Path) -> list[tuple[Path, dict]]:
    """The files of a study, the most general first: `extends:` names the study that a file builds on."""
    check_exists(name, folder, f"{folder}: study", "Choose one with --config study=NAME.")
    chain, layers = [name], []
    while True:
        path = folder / f"{chain[-1]}.yaml"
        layer = read_yaml(path)
        layers.insert(0, (path, layer))
        if (parent := layer.pop("extends", None)) is None:
            return layers
        check_exists(parent, folder, f"{path}: extends", "Name one of them, or remove the key.")
        chain.append(parent)
        if parent in chain[:-1]:
            raise ParamsError(f"{path}: extends: {' -> '.join(chain)} is a circle; name a study outside it.")


def check_exists(name: object, folder: Path, where: str, remedy: str) -> None:
    """Refuses what is not the name of a study in the folder."""
    known = known_studies(folder)
    if not isinstance(name, str):
        raise ParamsError(f"{where}: must be the name of one study, found {short(name)}; there are {', '.join(known)}.")
    if not re.fullmatch(NAME, name):
        raise ParamsError(f"{where}: {short(name)} is no name of a study: {NAMES}. {remedy}")
    if name == "published":
        raise ParamsError(f"{where}: reports/published/ is for reports that are committed; rename params/{name}.yaml.")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'? There" if near else "there"
        raise ParamsError(f"{where}: there is no study '{name}'; {hint} are {', '.join(known)}. {remedy}")


# A file ---------------------------------------------------------------------------------------------------------------


def read_yaml(path: Path) -> dict:
    """The keys and values of a file; refuses what YAML allows and no study can hold."""
    try:
        layer = YAML(typ="safe", pure=True).load(path.read_bytes().decode())
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read: {error.strerror}; restore the file.") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: byte {error.start}: is not UTF-8; save the file as UTF-8 text.") from None
    except DuplicateKeyError as error:
        raise ParamsError(f"{path}: line {error.problem_mark.line + 1}: {duplicate(error)}") from None
    except MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark).line + 1
        text = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise ParamsError(f"{path}: line {line}: not valid YAML: {text}; correct it.") from None
    except (YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:  # ruamel's own constructors
        text = shorter(" ".join(str(error).split()))
        raise ParamsError(f"{path}: not valid YAML: {text or type(error).__name__}; correct the file.") from None
    if not isinstance(layer, dict):
        found = type(layer).__name__
        raise ParamsError(f"{path}: top level: expected keys and values, found {found}; write `key: value`.")
    if lines := [f"{path}: {key}: {text}" for key, text in foreign(layer)]:
        raise ParamsError(*lines)
    return layer


def duplicate(error: DuplicateKeyError) -> str:
    found = re.match(r'found duplicate key "(.*)" with value', error.problem, re.DOTALL)
    return f"the key '{found[1]}' stands twice; remove one." if found else "two merge keys; write <<: [*one, *other]."


def foreign(
    node: object, key: str = "", above: tuple[int, ...] = (), seen: set[int] | None = None
) -> Iterator[tuple[str, str]]:
    """(dotted key, text) of what JSON cannot say: keys that are no text, numbers without end, anchors in themselves."""
    seen = set() if seen is None else seen  # what several aliases share is looked at once
    if isinstance(node, float) and not math.isfinite(node):
        yield key, f"must be a finite number, found {node}; correct the value."
    if isinstance(node, int) and abs(node) > LARGEST:
        yield key, "is beyond 2^53, where whole numbers are no longer exact; choose a smaller number."
    if id(node) in above:
        yield key, "contains itself, by an alias below its own anchor; write the value out."
    if not isinstance(node, dict | list) or id(node) in seen:
        return
    seen.add(id(node))
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        place = f"{key}.{name}" if key else f"{name}"
        if isinstance(node, dict) and not isinstance(name, str):
            yield place, f"a key must be text, found {type(name).__name__}; write it in quotation marks."
        else:
            yield from foreign(value, place, (*above, id(node)), seen)


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
    return max(reversed(layers), key=lambda entry: depth(key, entry[1]))[0]


def depth(key: str, layer: object) -> int:
    """How many steps of a dotted key a layer has; a name in it may have dots of its own."""
    inside = layer.items() if isinstance(layer, dict) else ()
    steps = [1 + depth(key[len(name) + 1 :], value) for name, value in inside if f"{key}.".startswith(f"{name}.")]
    return max(steps, default=0)


# Messages -------------------------------------------------------------------------------------------------------------


def printable(line: str) -> str:
    """A line with its control characters written out."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def short(value: object) -> str:
    """What was found, however large it is."""
    brief = reprlib.Repr()
    brief.maxstring, brief.maxother, brief.maxlevel = 80, 80, 2
    return brief.repr(value)


def shorter(text: str) -> str:
    return text if len(text) < 300 else f"{text[:300]} …"


def explained(error: ValidationError, content: dict) -> list[tuple[str, str]]:
    """Pydantic's errors as (dotted key, what is wrong and what to do), one a key."""
    found: dict[str, tuple[list[str], str]] = {}
    for detail in error.errors(include_url=False, include_context=False):
        location = place(detail, content)
        said, remedy = found.setdefault(".".join(location), ([], remedy_of(detail)))
        if (text := text_of(detail, location)) not in said:
            said.append(text)
    return [(key, " or ".join(said) + remedy) for key, (said, remedy) in found.items()]


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


def text_of(detail: ErrorDetails, location: list[str]) -> str:
    if detail["type"] == "extra_forbidden":
        known = sorted(known_keys(location[:-1]))
        near = difflib.get_close_matches(location[-1], known, n=1)
        return "unknown key; " + (f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}.")
    if detail["type"] == "missing":
        return "missing; add it (docs/params.md describes every key)."
    if detail["type"] == "string_pattern_mismatch":
        return f"{NAMES}; rename it."
    return detail["msg"][0].lower() + detail["msg"][1:]


def remedy_of(detail: ErrorDetails) -> str:
    if detail["type"] in ("extra_forbidden", "missing", "string_pattern_mismatch"):
        return ""
    return f", found {short(detail['input'])}; correct the value."


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
    checked, missing = set(), []
    for key, split in {"data.training": study.data.training, **splits}.items():
        for part in sorted(split.md5.keys() & split.files.keys()):
            path, expected = root / split.files[part], split.md5[part]
            if path in checked:
                continue
            checked.add(path)
            try:
                found = hashlib.md5(path.read_bytes()).hexdigest()
            except (OSError, ValueError):  # a path with a null byte is a ValueError
                missing.append(path)
                continue
            if found != expected:
                text = f"{path} has the MD5 {found}, not {expected}; restore the file, or declare the new data here."
                yield f"{key}.md5.{part}", f"{text} All results follow from these images and will be made anew."
    if missing:
        others = f" {len(missing) - 1} more are missing, too." if missing[1:] else ""
        remedy = f"restore it (git checkout, dvc pull, its archive) or correct data.root.{others}"
        yield "data.root", f"{missing[0]} is missing; {remedy}"


def weight_problems(study: Study) -> Iterator[tuple[str, str]]:
    """Files of published weights that are not there. They are read on this machine, so it has to know their folder."""
    if not study.released or study.released.source != "files":
        return
    root = expanded(study.released.root)
    if "$" in root or not root:
        yield "released.root", f"is {root or 'empty'}: export the variable, or give the folder of the files."
        return
    for name, weights in study.released.weights.items():
        if weights.file and not os.path.isfile(path := os.path.join(root, weights.file)):
            yield f"released.weights.{name}.file", f"{path} is missing; put it there, or correct released.root."


def expanded(root: str) -> str:
    """A data root with `~` and environment variables filled in."""
    return os.path.expandvars(os.path.expanduser(root))
