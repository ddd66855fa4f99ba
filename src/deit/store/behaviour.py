"""What code does, as a digest: the syntax tree without comments, docstrings and layout.

A result is named after the code that makes it, so that a changed constant in a loss gives new results and a reworded
comment does not. The tree is written out by ourselves because `ast.dump` differs between versions of Python.
Files are named by their paths from the project's root, `src/deit/learn/objectives/labels.py`.
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# Fields that say nothing of behaviour, or that only some versions of Python have.
SILENT = {"ctx", "kind", "type_comment", "type_ignores", "type_params"}


def behaviour_of_source(source: str) -> str:
    """Digest of the behaviour of one piece of Python; equal for sources that differ in comments or layout only."""
    return hashlib.sha256("".join(_tokens(ast.parse(source))).encode()).hexdigest()


def _tokens(node: object) -> Iterator[str]:
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name in sorted(node._fields):
            value = getattr(node, name, None)
            if name in SILENT or value is None or value == []:
                continue
            yield f" {name}="
            yield from _tokens(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            if not _is_bare_string(item):
                yield from _tokens(item)
        yield "]"
    else:
        yield f"{type(node).__name__}:{node!r}"


def _is_bare_string(node: object) -> bool:
    """A docstring, of a module, class, function or field."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def behaviours(files: Iterable[str]) -> dict[str, str]:
    """File -> digest of its behaviour: of Python's syntax tree, of a notebook's cells, of other files' bytes."""
    return {file: _behaviour(file) for file in sorted(files)}


def edited(made_by: dict[str, str]) -> list[str]:
    """The files that behave otherwise today than in `made_by` (file -> digest), or are gone."""
    return [file for file, digest in made_by.items() if not (ROOT / file).exists() or _behaviour(file) != digest]


@cache
def _behaviour(file: str) -> str:
    path = ROOT / file
    if path.suffix == ".py":
        return behaviour_of_source(path.read_text(encoding="utf-8"))
    if path.suffix == ".ipynb":
        return behaviour_of_notebook(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def behaviour_of_notebook(content: str) -> str:
    """Digest of a notebook's cells: the behaviour of its code, the text of its prose."""
    cells = json.loads(content)["cells"]
    parts = [
        behaviour_of_source("".join(cell["source"])) if cell["cell_type"] == "code" else "".join(cell["source"])
        for cell in cells
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
