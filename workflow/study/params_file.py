"""One file of params/: YAML 1.2 of a size that a person writes, and nothing in it that JSON could not say."""

import math
import re
import stat
import textwrap
from collections.abc import Iterator
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.composer import MaxDepthExceededError
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from study.problem import ParamsError, kind_of

LARGEST = 2**53
"""Beyond it not every whole number is a floating-point number, and JSON's readers disagree."""
MOST_BYTES = 64_000
"""Eight times the longest study of ours; ruamel reads about so much in a second."""
DEEPEST = 50
"""Levels of keys, lists and values below each other."""
MOST_VALUES = 20_000
"""Keys and values, counted wherever an alias or a merge key repeats them."""
KINDS = ("str", "int", "float", "bool", "null", "map", "seq", "merge", "timestamp")
OURS = {f"tag:yaml.org,2002:{kind}" for kind in KINDS}
"""Tags that YAML gives by itself; what looks like a date, a timestamp, is refused under its key."""
OR_QUOTED = ", or write what is no number in quotation marks"
"""YAML reads a number where a checksum begins with 12e45678."""


def read_yaml(path: Path) -> dict:
    """The keys and values of a file; ParamsError for what YAML allows and no study can hold, at once."""
    text = text_of(path)
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.max_depth = DEEPEST
        node = yaml.compose(text)
        if node and size(path, node, {}) > MOST_VALUES:
            said = f"its aliases and merge keys make more than {MOST_VALUES:,} values of it"
            raise ParamsError(f"{path}: top level: {said}; write less.")
        layer = yaml.constructor.construct_document(node) if node else None
    except DuplicateKeyError as error:
        raise ParamsError(f"{path}: line {error.problem_mark.line + 1}: {duplicate(error)}") from None
    except MaxDepthExceededError as error:
        said = f"keys, lists and values lie more than {DEEPEST} deep in each other"
        raise ParamsError(f"{path}: line {error.problem_mark.line + 1}: not valid YAML: {said}; correct it.") from None
    except MarkedYAMLError as error:
        line = (error.problem_mark or error.context_mark).line + 1
        said = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise ParamsError(f"{path}: line {line}: not valid YAML: {said}; correct it.") from None
    except (YAMLError, ValueError, TypeError, AttributeError, RecursionError) as error:  # ruamel's own constructors
        said = textwrap.shorten(str(error), 300, placeholder=" …")
        raise ParamsError(f"{path}: not valid YAML: {said or type(error).__name__}; correct the file.") from None
    if not isinstance(layer, dict):
        raise ParamsError(f"{path}: top level: expected keys and values, found {kind_of(layer)}; write `key: value`.")
    if lines := [f"{path}: {key}: {text}" for key, text in foreign(layer)]:
        raise ParamsError(*lines)
    return layer


def text_of(path: Path) -> str:
    """The text of a regular file of a sensible size; nothing else is opened, as a pipe or a device would never end."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
            raise ParamsError(f"{path}: cannot be read: is {what}, no file; put a text file there.")
        if status.st_size > MOST_BYTES:
            size = f"{status.st_size:,} bytes, more than {MOST_BYTES:,}"
            raise ParamsError(f"{path}: cannot be read: has {size}; split it with `extends:`, or write less.")
        return path.read_bytes().decode()
    except FileNotFoundError:
        known = "links to a file that is missing" if path.is_symlink() else "is missing"
        raise ParamsError(f"{path}: cannot be read: {known}; restore the file.") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read: {error.strerror}; restore the file, or its permissions.") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: byte {error.start}: is not UTF-8; save the file as UTF-8 text.") from None


def duplicate(error: DuplicateKeyError) -> str:
    found = re.match(r'found duplicate key "(.*)" with value', error.problem, re.DOTALL)
    return f"the key '{found[1]}' stands twice; remove one." if found else "two merge keys; write <<: [*one, *other]."


# Before anything is made of the text ----------------------------------------------------------------------------------


def size(path: Path, node: Node, sizes: dict[int, int]) -> int:
    """How many nodes a node and all below it are, those of an alias counted wherever it stands; each is seen once."""
    if id(node) not in sizes:
        sizes[id(node)] = 1  # of a node within itself, which `foreign` names
        if node.tag not in OURS:
            tag, line = str(node.tag).replace("tag:yaml.org,2002:", "!!"), node.start_mark.line + 1
            remedy = "remove it, or write the value in quotation marks."
            raise ParamsError(f"{path}: line {line}: the tag {tag} means nothing here; {remedy}")
        inside = () if isinstance(node, ScalarNode) else node.value
        below = [part for pair in inside for part in pair] if isinstance(node, MappingNode) else inside
        sizes[id(node)] += sum(size(path, part, sizes) for part in below)
    return sizes[id(node)]


# Afterwards -----------------------------------------------------------------------------------------------------------


def foreign(
    node: object, key: str = "", above: tuple[int, ...] = (), seen: set[int] | None = None
) -> Iterator[tuple[str, str]]:
    """(dotted key, text) of what JSON cannot say: keys that are no text, numbers without end, anchors in themselves."""
    seen = set() if seen is None else seen  # what several aliases share is looked at once
    if text := foreign_value(node):
        yield key, text
    if id(node) in above:
        yield key, "contains itself, by an alias below its own anchor; write the value out."
    if not isinstance(node, dict | list) or id(node) in seen:
        return
    seen.add(id(node))
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        place = f"{key}.{name}" if key else f"{name}"
        if isinstance(node, dict) and not isinstance(name, str):
            yield place, f"a key must be text, found {kind_of(name)}; write it in quotation marks."
        elif isinstance(name, str) and (text := foreign_value(name)):
            yield place, text
        else:
            yield from foreign(value, place, (*above, id(node)), seen)


def foreign_value(value: object) -> str:
    """What is wrong with a single value whatever its key; empty where nothing is."""
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, found {value}; correct it{OR_QUOTED}."
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"is beyond 2^53, where whole numbers are no longer exact; choose a smaller number{OR_QUOTED}."
    if isinstance(value, str) and re.search(r"[\ud800-\udfff]", value):
        return "has half of a character in it (a lone surrogate, \\ud800 to \\udfff); write the character itself."
    if isinstance(value, str) and re.search(r"[\x00-\x08\x0b-\x1f\x7f]", value):
        return "has a control character in it; remove it."
    if value is not None and not isinstance(value, dict | list | str | int | float):
        return f"is {kind_of(value)} to YAML; write it in quotation marks."
    return ""
