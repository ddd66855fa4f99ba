"""Imports point down, the package knows nothing of the workflow, and notebooks read tables only."""

import ast
import json
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    {"commands"},
    {
        "training",
        "recording",
        "run_state",
        "history",
        "validation",
        "evaluation",
        "analysis",
        "tables",
        "throughput",
        "pictures",
    },
    {
        "teacher_logits",
        "models",
        "views",
        "mixing",
        "losses",
        "schedules",
        "checkpoints",
        "finite",
        "reduction",
        "datasets",
        "distributed",
        "loading",
        "stored_views",
        "results",
        "published",
        "shards",
    },
    {"recipes", "behaviour", "interruption"},
)
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}
WORKFLOW_TOOLS = {"snakemake", "dvc", "papermill"}
SLOW_IMPORTS = {"torch", "torchvision", "timm"}
NOTEBOOKS_READ = {"deit.tables"}


def imported(source: str, package: str = "") -> set[str]:
    """Dotted names that a module of `package` imports, also lazily; `from a import b` gives a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(above + ([node.module] if node.module else []))
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def module_imports(source_root: Path) -> dict[str, set[str]]:
    """Every module below src, dotted -> the dotted names that it imports."""
    graph = {}
    for path in sorted(source_root.rglob("*.py")):
        module = path.relative_to(source_root).with_suffix("").parts
        package = ".".join(module[:-1])
        name = package if module[-1] == "__init__" else ".".join(module)
        graph[name] = imported(path.read_text(), package)
    return graph


def room(dotted: str) -> str:
    """deit.commands.train -> commands; deit.models.create -> models; the package itself -> nothing."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "deit" and len(parts) > 1 else ""


def violations(root: Path) -> list[str]:
    """Every breach of the rules in a project's src and notebooks, as text."""
    graph = module_imports(root / "src")
    internal = {module: names & graph.keys() - {"deit", module} for module, names in graph.items()}
    found = [f"{module}: has no layer" for module in graph if room(module) and room(module) not in LAYER]
    for module, names in internal.items():
        found += [
            f"{module} imports {name}, which is above it"
            for name in sorted(names)
            if LAYER.get(room(name), 0) < LAYER.get(room(module), 0)
        ]
    for module, names in graph.items():
        found += [f"{module} imports {name}" for name in sorted(names) if name.split(".")[0] in WORKFLOW_TOOLS]
    try:
        TopologicalSorter(internal).prepare()
    except CycleError as error:
        found.append("cycle: " + " -> ".join(error.args[1]))
    return found + slow_tables(graph, internal) + notebook_violations(root)


def slow_tables(graph: dict[str, set[str]], internal: dict[str, set[str]]) -> list[str]:
    """A table must not wait for torch or timm, neither in its own code nor in what that imports."""
    reached, waiting = set(), [module for module in graph if room(module) == "tables"]
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting += internal.get(module, set()) - reached
    slow = {module: {name.split(".")[0] for name in graph.get(module, ())} & SLOW_IMPORTS for module in reached}
    return [f"tables reach {name} through {module}" for module in sorted(slow) for name in sorted(slow[module])]


def notebook_violations(root: Path) -> list[str]:
    found = []
    for path in sorted(root.glob("workflow/notebooks/*.ipynb")):
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        # A magic is no Python, and imports nothing of ours.
        lines = [
            line for cell in cells for line in "".join(cell["source"]).split("\n") if not line.startswith(("%", "!"))
        ]
        names = {name for name in imported("\n".join(lines)) if room(name)}
        allowed = tuple(f"{name}." for name in NOTEBOOKS_READ)
        found += [f"{path.name} imports {name}" for name in sorted(names) if not f"{name}.".startswith(allowed)]
    return found


def test_imports_of_the_project_point_down():
    assert violations(ROOT) == []


HOUSE = {
    "__init__": "",
    "recipes": "import json",
    "models": "import torch\nfrom .recipes import Model",
    "teacher_logits": "from .models import create",
    "tables": "import pandas",
    "training": "from . import models, teacher_logits",
    "commands/__init__": "",
    "commands/train": "from deit.training import train\nfrom ..recipes import Job",
}


def build(root: Path, changes: dict[str, str], notebook: str = "from deit.tables import table_1") -> Path:
    """A small project with the right imports, then `changes`."""
    for name, source in (HOUSE | changes).items():
        path = root / "src" / "deit" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    notebooks = root / "workflow" / "notebooks"
    notebooks.mkdir(parents=True)
    cells = [
        {"cell_type": "markdown", "source": ["import torch"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", notebook]},
    ]
    (notebooks / "table_1.ipynb").write_text(json.dumps({"cells": cells}))
    return root


def test_a_project_that_keeps_the_rules_passes(tmp_path):
    assert violations(build(tmp_path, {})) == []


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("recipes", "from .models import create", "deit.recipes imports deit.models, which is above it"),
        (
            "models",
            "def f():\n    from deit import training",
            "deit.models imports deit.training, which is above it",
        ),
        (
            "training",
            "import deit.commands.train",
            "deit.training imports deit.commands.train, which is above it",
        ),
        ("models", "from . import teacher_logits", "cycle: "),
        ("models", "import snakemake.io", "deit.models imports snakemake.io"),
        ("commands/train", "if True:\n    from dvc.api import open", "deit.commands.train imports dvc.api"),
        ("training", "import papermill as pm", "deit.training imports papermill"),
        ("helpers", "", "deit.helpers: has no layer"),
        ("tables", "import torch.nn", "tables reach torch through deit.tables"),
        ("tables", "from .models import create", "tables reach torch through deit.models"),
    ],
)
def test_each_violation_is_found(tmp_path, module, source, message):
    found = violations(build(tmp_path, {module: source}))
    assert any(line.startswith(message) for line in found), found


@pytest.mark.parametrize(
    "source", ["import deit.models", "from deit import training", "from deit.training import train"]
)
def test_a_notebook_that_reads_more_than_tables_is_found(tmp_path, source):
    assert any(line.startswith("table_1.ipynb imports deit.") for line in violations(build(tmp_path, {}, source)))


def test_relative_imports_are_resolved():
    source = "from . import a\nfrom .b import c\nfrom ..d import e\nfrom .. import f"
    assert imported(source, "deit.commands") >= {"deit.commands.a", "deit.commands.b", "deit.d", "deit.f"}
