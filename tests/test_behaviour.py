"""The digest of code: blind to comments, docstrings and layout; awake to everything that runs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from plan.closure import closure

from deit.store.behaviour import ROOT, behaviour_of_notebook, behaviour_of_source, behaviours, edited

SOURCE = '''
def loss(x: float, *, scale: float = 0.5) -> float:
    """Half of x."""
    return scale * x
'''
SAME = [
    SOURCE.replace('"""Half of x."""', '"""Another docstring."""'),
    SOURCE.replace('    """Half of x."""\n', ""),
    SOURCE.replace("return", "# why\n    return"),
    SOURCE.replace("scale * x", "(\n        scale * x\n    )"),
    SOURCE.replace("0.5", "0.50"),
]
DIFFERENT = [
    SOURCE.replace("0.5", "0.6"),
    SOURCE.replace("scale * x", "x * scale"),
    SOURCE.replace("*, ", ""),
    SOURCE.replace("return scale", "return -scale"),
    SOURCE.replace("loss", "lose"),
    SOURCE.replace("0.5", '"0.5"'),
    SOURCE.replace("-> float", "-> int"),
]
# The same under every version of Python and on every machine.
GOLDEN = "309e2a92b721da4b787f5032800f78aac406e1a7ee91a521ad766ae42f1ee6e0"


@pytest.mark.parametrize("source", SAME)
def test_what_does_not_run_does_not_count(source):
    assert source != SOURCE
    assert behaviour_of_source(source) == behaviour_of_source(SOURCE)


@pytest.mark.parametrize("source", DIFFERENT)
def test_what_runs_counts(source):
    assert source != SOURCE
    assert behaviour_of_source(source) != behaviour_of_source(SOURCE)


def test_field_descriptions_are_docstrings_and_do_not_count():
    one = "class A:\n    x: int = 1\n    '''Pixels.'''\n"
    assert behaviour_of_source(one) == behaviour_of_source(one.replace("Pixels", "Pixels a side"))
    assert behaviour_of_source(one) != behaviour_of_source(one.replace("= 1", "= 2"))


def other_pythons() -> list[str]:
    found = {shutil.which(f"python3.{minor}") for minor in range(10, 16)} - {None}
    roots = Path(sys.base_prefix).parent.glob("3.1[0-9]*/bin/python3")  # where several versions lie side by side
    return sorted(found | {str(path) for path in roots})


def test_digests_are_the_same_under_other_versions_of_python():
    ours = str(behaviours(closure("deit.commands.train")))
    code = (
        "from plan.closure import *; from deit.store.behaviour import *; "
        "print(behaviours(closure('deit.commands.train')))"
    )
    for python in other_pythons():
        run = subprocess.run(
            [python, "-c", code], capture_output=True, encoding="utf-8", env={"PYTHONPATH": "src:workflow"}
        )
        if run.returncode == 0:
            assert run.stdout.strip() == ours, python


def test_the_golden_digest_holds():
    assert behaviour_of_source(SOURCE) == GOLDEN


def test_a_command_is_made_of_the_modules_that_it_reaches():
    trained = closure("deit.commands.train")
    names = ("learn/objectives/__init__", "see/views", "see/mixing", "networks/models", "learn/recipes")
    assert {f"src/deit/{name}.py" for name in names} <= set(trained)
    assert not {
        "src/deit/tables/__init__.py",
        "src/deit/networks/evaluation.py",
        "src/deit/networks/throughput.py",
    } & set(trained)
    assert "src/deit/learn/training.py" not in closure("deit.commands.predict")


def test_a_notebook_is_its_cells():
    def written(code: str, text: str = "A table.", outputs: list | None = None) -> str:
        cells = [
            {"cell_type": "markdown", "source": [text]},
            {"cell_type": "code", "source": [code], "outputs": outputs or [], "execution_count": 1},
        ]
        return behaviour_of_notebook(json.dumps({"cells": cells}))

    assert written("x = 1") == written("x = 1  # one", outputs=[{"text": "2"}])
    assert written("x = 1") != written("x = 2")
    assert written("x = 1") != written("x = 1", text="Another table.")


def test_edited_files_and_files_that_are_gone_are_named():
    made_by = behaviours(
        ["src/deit/learn/objectives/labels.py", "src/deit/paper/table_1.csv", "workflow/notebooks/table_1.ipynb"]
    )
    assert list(made_by) == sorted(made_by) and all((ROOT / file).exists() for file in made_by)
    assert edited(made_by) == []
    assert edited(made_by | {"src/deit/learn/objectives/labels.py": "another", "src/deit/gone.py": "x"}) == [
        "src/deit/learn/objectives/labels.py",
        "src/deit/gone.py",
    ]
