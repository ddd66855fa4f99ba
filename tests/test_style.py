"""Linters, as tests: one command checks everything."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(sys.executable).parent
NOTEBOOKS = sorted(str(path) for part in ("workflow/notebooks", "docs") for path in (ROOT / part).glob("*.ipynb"))
CHECKS = {
    "ruff": ["ruff", "check", "."],
    "format": ["ruff", "format", "--check", "."],
    "snakefmt": ["snakefmt", "--check", "Snakefile", "workflow/rules"],
    "notebooks without outputs": ["nbstripout", "--verify", *NOTEBOOKS],
}


@pytest.mark.parametrize("command", CHECKS.values(), ids=CHECKS)
def test_style(command):
    run = subprocess.run([TOOLS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
