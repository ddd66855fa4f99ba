"""Imports point down, in the package and in the workflow; the package knows nothing of the workflow.

Imports for type checkers and lazy ones count as any other. Notebooks read tables only."""

import ast
import json
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = (
    {"commands"},
    {"tables", "learn"},
    {"teach"},
    {"networks"},
    {"see"},
    {"store"},
    {"bounds"},
    {"names", "docstrings"},
)
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}
WORKFLOW_TOOLS = {"snakemake", "dvc", "papermill"}
WORKFLOW = {"study": set(), "plan": {"study"}, "jobs": set(), "cost": {"plan"}, "call": {"study", "plan", "cost"}}
WORKFLOW["commands"] = WORKFLOW.keys() - {"commands"}
"""Folder of workflow/ -> the others that it may import."""
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
        graph[name] = imported(path.read_text(encoding="utf-8"), package)
    return graph


def room(dotted: str) -> str:
    """deit.commands.train -> commands; deit.networks.models.create -> models; the package itself -> nothing."""
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
        found += [f"{module} imports {name}" for name in sorted(names) if above(name) in WORKFLOW_TOOLS | set(WORKFLOW)]
    return found + cycles(internal) + slow_tables(graph, internal) + notebook_violations(root)


def above(dotted: str) -> str:
    """The package, or the folder of workflow/, in which a module lies."""
    return dotted.split(".")[0]


def cycles(internal: dict[str, set[str]]) -> list[str]:
    """One circle of imports, where there is any."""
    try:
        TopologicalSorter(internal).prepare()
    except CycleError as error:
        return ["cycle: " + " -> ".join(error.args[1])]
    return []


def workflow_violations(root: Path) -> list[str]:
    """Every import between folders of workflow/ that WORKFLOW does not allow, as text."""
    graph = {module: names for module, names in module_imports(root / "workflow").items() if module != "__main__"}
    found = [f"{module}: in no folder of WORKFLOW" for module in graph if above(module) not in WORKFLOW]
    for module, names in graph.items():
        barred = WORKFLOW.keys() - {above(module)} - WORKFLOW.get(above(module), set())
        found += [f"{module} imports {name}" for name in sorted(names) if above(name) in barred]
    return found


def workflow_cycles(root: Path) -> list[str]:
    graph = module_imports(root / "workflow")
    return cycles({module: names & graph.keys() - {module} for module, names in graph.items()})


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
        cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
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


def test_plans_and_jobs_know_neither_each_other_nor_the_users_commands():
    assert workflow_violations(ROOT) == []


def test_no_circle_of_imports_in_the_workflow():
    assert workflow_cycles(ROOT) == []


HOUSE = {
    "__init__": "",
    "bounds": "import json",
    "networks/__init__": "",
    "networks/models": "import torch\nfrom ..bounds import Count",
    "teach/__init__": "",
    "teach/teacher_logits": "from deit.networks.models import create",
    "tables/__init__": "import pandas",
    "learn/__init__": "",
    "learn/training": "from deit.networks import models\nfrom ..teach import teacher_logits",
    "commands/__init__": "",
    "commands/train": "from deit.learn.training import train\nfrom ..bounds import Count",
}
WORKSHOP = {
    "__main__": "import importlib",
    "study/__init__": "",
    "study/study": "from deit.bounds import Count",
    "plan/__init__": "",
    "plan/plan": "from study.study import Study",
    "jobs/launch": "from deit.bounds import Count",
    "commands/keep": "from plan.plan import Plan\nfrom jobs.launch import start\nimport dvc",
}


def write(folder: Path, modules: dict[str, str]) -> None:
    for name, source in modules.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")


def build(root: Path, changes: dict[str, str], notebook: str = "from deit.tables import table_1") -> Path:
    """A small project with the right imports, then `changes`."""
    write(root / "src" / "deit", HOUSE | changes)
    notebooks = root / "workflow" / "notebooks"
    notebooks.mkdir(parents=True)
    cells = [
        {"cell_type": "markdown", "source": ["import torch"]},
        {"cell_type": "code", "source": ["%matplotlib inline\n", notebook]},
    ]
    (notebooks / "table_1.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    return root


def test_a_project_that_keeps_the_rules_passes(tmp_path):
    assert violations(build(tmp_path, {})) == []


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        (
            "bounds",
            "from .networks.models import create",
            "deit.bounds imports deit.networks.models, which is above it",
        ),
        (
            "networks/models",
            "def f():\n    from deit.learn import training",
            "deit.networks.models imports deit.learn.training, which is above it",
        ),
        (
            "learn/training",
            "import deit.commands.train",
            "deit.learn.training imports deit.commands.train, which is above it",
        ),
        ("networks/models", "from ..teach import teacher_logits", "cycle: "),
        ("networks/models", "import snakemake.io", "deit.networks.models imports snakemake.io"),
        ("commands/train", "if True:\n    from dvc.api import open", "deit.commands.train imports dvc.api"),
        ("learn/training", "import papermill as pm", "deit.learn.training imports papermill"),
        ("learn/training", "from study.study import Study", "deit.learn.training imports study.study"),
        ("helpers", "", "deit.helpers: has no layer"),
        ("tables/__init__", "import torch.nn", "tables reach torch through deit.tables"),
        (
            "tables/__init__",
            "from deit.networks.models import create",
            "tables reach torch through deit.networks.models",
        ),
    ],
)
def test_each_violation_is_found(tmp_path, module, source, message):
    found = violations(build(tmp_path, {module: source}))
    assert any(line.startswith(message) for line in found), found


def test_a_workflow_that_keeps_the_rules_passes(tmp_path):
    write(tmp_path / "workflow", WORKSHOP)
    assert workflow_violations(tmp_path) == workflow_cycles(tmp_path) == []


FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from plan.plan import Plan"


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("plan/plan", "from commands import keep", "plan.plan imports commands.keep"),
        ("study/study", "def f():\n    import jobs.launch", "study.study imports jobs.launch"),
        ("jobs/launch", FOR_TYPES, "jobs.launch imports plan.plan"),
        ("jobs/launch", "from commands.keep import main", "jobs.launch imports commands.keep"),
        ("helpers/paths", "", "helpers.paths: in no folder of WORKFLOW"),
        ("study/study", FOR_TYPES, "cycle: "),
    ],
)
def test_each_violation_of_the_workflow_is_found(tmp_path, module, source, message):
    write(tmp_path / "workflow", WORKSHOP | {module: source})
    found = workflow_violations(tmp_path) + workflow_cycles(tmp_path)
    assert any(line.startswith(message) for line in found), found


@pytest.mark.parametrize(
    "source", ["import deit.networks.models", "from deit import training", "from deit.learn.training import train"]
)
def test_a_notebook_that_reads_more_than_tables_is_found(tmp_path, source):
    assert any(line.startswith("table_1.ipynb imports deit.") for line in violations(build(tmp_path, {}, source)))


def test_relative_imports_are_resolved():
    source = "from . import a\nfrom .b import c\nfrom ..d import e\nfrom .. import f"
    assert imported(source, "deit.commands") >= {"deit.commands.a", "deit.commands.b", "deit.d", "deit.f"}
