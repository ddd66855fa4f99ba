"""Which of our files a module reaches by its imports: all that running it may execute."""

import ast
from functools import cache
from pathlib import Path

from deit.store.behaviour import ROOT


@cache
def closure(module: str) -> tuple[str, ...]:
    """The files of `module` and of all our modules that it reaches, which running it may execute; sorted."""
    modules, frontier = set(), [module]
    while frontier:
        name = frontier.pop()
        if name not in modules:
            modules.add(name)
            frontier.extend(_imports(name))
    return tuple(sorted(str(_path(name).relative_to(ROOT)) for name in modules))


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The modules of ours that `module` imports itself, at its top or inside functions, sorted."""
    names = set()
    package = module if _path(module).name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(_path(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                stem = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*stem, base] if base else stem)
            names.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
    return tuple(sorted(name for name in names if name.partition(".")[0] == "deit" and _path(name).exists()))


def _path(module: str) -> Path:
    path = ROOT.joinpath("src", *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
