"""The digest of a piece of Python: blind to what computes nothing, awake to everything that does."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deit.store.syntax import behaviour_of_notebook, behaviour_of_source

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
    SOURCE.replace("-> float", "-> int"),
    SOURCE.replace("return", "log.info('half of %s', x)\n    return"),
    SOURCE.replace("return", "x.log.info('half of %s', x)\n    return"),
    SOURCE.replace("return", "print(x)\n    return"),
    SOURCE.replace("return", "assert scale > 0, scale\n    return"),
    SOURCE.replace("return", "if scale < 0:\n        raise SystemExit('too small')\n    return"),
]
DIFFERENT = [
    SOURCE.replace("0.5", "0.6"),
    SOURCE.replace("scale * x", "x * scale"),
    SOURCE.replace("*, ", ""),
    SOURCE.replace("return scale", "return -scale"),
    SOURCE.replace("loss", "lose"),
    SOURCE.replace("0.5", '"0.5"'),
    SOURCE.replace("return", "if scale < 0:\n        return x\n    return"),
    SOURCE.replace("return", "if (x := scale) < 0:\n        raise SystemExit('too small')\n    return"),
    SOURCE.replace("return", "x += draw(x)\n    return"),
]
# The same under every version of Python and on every machine.
GOLDEN = "27be58ebd2d29ab01650021f75b8b00cdfd9ef65714e4edc494facc6fd1eeea1"


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


FUNCTION = """
def mean(values, weights=None):
    total, count = 0, len(values)
    for number, value in enumerate(values):
        total += value * (weights[number] if weights else 1)
    try:
        return total / count
    except ZeroDivisionError as error:
        raise ValueError(f"{count} values") from error
"""


@pytest.mark.parametrize("old", ["total", "count", "number", "error"])
def test_a_renamed_local_does_not_count(old):
    assert behaviour_of_source(FUNCTION.replace(old, f"other_{old}")) == behaviour_of_source(FUNCTION)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weights", "factors"),  # a parameter, which callers may name
        ("total / count", "count / total"),
        ("total += value", "count += value"),
        ("total, count = 0", "total, count = 1"),
        ("ZeroDivisionError", "OverflowError"),
    ],
)
def test_another_use_of_locals_and_parameters_counts(old, new):
    assert old in FUNCTION and behaviour_of_source(FUNCTION.replace(old, new)) != behaviour_of_source(FUNCTION)


def test_an_error_that_may_be_caught_is_part_of_the_way():
    one = "def f(x):\n    if x < 0:\n        raise LookupError(x)\n    return x\n"
    assert behaviour_of_source(one) != behaviour_of_source(one.replace("x < 0", "x < 1"))
    assert behaviour_of_source(one) == behaviour_of_source(one.replace("LookupError(x)", "LookupError(x, x)"))


STEERS = {
    "a draw in a guard": ("if torch.rand(1) > 2:\n        raise ValueError(x)", "pass"),
    "a change in place in a guard": ("if x.mul_(2).isnan():\n        raise ValueError(x)", "pass"),
    "a change in place in an assertion": ("assert x.mul_(2) is not None", "pass"),
    "a change in place in what is logged": ("log.info('%s', x.mul_(2))", "pass"),
    "a step of an iterator in what is logged": ("log.info('%s', next(x))", "pass"),
    "what is printed to a file": ("print(x, file=result)", "pass"),
    "by what a raised error is caught": ("raise KeyError(x)", "raise IndexError(x)"),
    "a refusal that is caught": tuple(
        f"try:\n        if x > {least}:\n            raise ValueError(x)\n    except ValueError:\n        x = 2"
        for least in (1, 2)
    ),
}


@pytest.mark.parametrize("case", STEERS)
def test_what_steers_is_not_silent(case):
    one, other = (behaviour_of_source(f"def f(x):\n    {each}\n    return x\n") for each in STEERS[case])
    assert one != other


def other_pythons() -> list[str]:
    """From the oldest on that can read our code; pyproject.toml requires it."""
    found = {shutil.which(f"python3.{minor}") for minor in range(11, 16)} - {None}
    roots = Path(sys.base_prefix).parent.glob("3.1[1-9]*/bin/python3")  # where several versions lie side by side
    return sorted(found | {str(path) for path in roots})


def test_digests_are_the_same_under_other_versions_of_python():
    """Those that are installed, as a shim of one that is not tells."""
    code = "from deit.store.reach import our_code; print(our_code().made_by(['deit.commands.train']))"
    for python in [sys.executable, *other_pythons()]:
        run = subprocess.run([python, "-c", code], capture_output=True, encoding="utf-8", env={"PYTHONPATH": "src"})
        if python == sys.executable:
            ours = run.stdout
            assert "src/deit/see/views.py" in ours
        elif run.returncode != 127:
            assert run.stdout == ours, f"{python}: {run.stderr}"


def test_the_golden_digest_holds():
    assert behaviour_of_source(SOURCE) == GOLDEN


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
