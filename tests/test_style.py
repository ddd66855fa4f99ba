"""Linters and types, as tests: one command checks everything; and commits are checked by the same."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
TOOLS = Path(sys.executable).parent
NOTEBOOKS = sorted(str(path) for part in ("workflow/notebooks", "docs") for path in (ROOT / part).glob("*.ipynb"))
SMK = ("Snakefile", "workflow/rules")
CHECKS = {
    "ruff": ["ruff", "check", "."],
    "ruff-format": ["ruff", "format", "--check", "."],
    "snakefmt": ["snakefmt", "--check", *SMK],
    "types": ["pyrefly", "check"],
    "nbstripout": ["nbstripout", "--verify", *NOTEBOOKS],
}


@pytest.mark.parametrize("command", CHECKS.values(), ids=CHECKS)
def test_style(command):
    run = subprocess.run([TOOLS / command[0], *command[1:]], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert run.returncode == 0, run.stdout + run.stderr


def test_commits_are_checked_by_these_linters_at_their_pinned_versions():
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE))
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    installed = {hook["id"]: hook["additional_dependencies"] for hook in local["hooks"]}
    assert installed == {hook: [f"{tool}=={pins[tool]}"] for hook, (tool, *_words) in CHECKS.items() if hook != "types"}
    for hook in local["hooks"]:
        assert hook["entry"].split() == [word for word in CHECKS[hook["id"]] if word not in (".", *SMK, *NOTEBOOKS)]
