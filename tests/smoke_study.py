"""A clone of the project and its smoke study, for tests of the whole pipeline."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "snakemake", "--profile", "local", "--config", "study=smoke"]
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
TREE = ("Snakefile", "local", "slurm", "params", "src", "workflow", ".gitignore")


def copy_of_project(folder: Path) -> Path:
    """A clone of the working tree in git, without any results."""
    folder.mkdir(exist_ok=True)
    for name in TREE:
        source = ROOT / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
        else:
            shutil.copy(source, folder / name, follow_symlinks=False)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run([*git, "init", "-q"], cwd=folder, check=True)
    subprocess.run([*git, "add", "-A"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "-qm", "clone"], cwd=folder, check=True)
    return folder


def snakemake(project: Path, *arguments: str, check: bool = True) -> str:
    """stdout and stderr of `snakemake --profile local --config study=smoke ...`."""
    run = subprocess.run([*COMMAND, *arguments], cwd=project, capture_output=True, encoding="utf-8", env=ENVIRONMENT)
    output = run.stdout + run.stderr
    assert run.returncode == 0 or not check, output[-6000:]
    return output
