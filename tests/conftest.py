"""What several test files share: one finished smoke study."""

import fcntl
import os
import shutil
import sys
from pathlib import Path

import pytest
from smoke_study import copy_of_project, snakemake


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A clone in which the smoke study was run, one for all processes of `pytest -n 2`; not to be changed."""
    of_all = tmp_path_factory.getbasetemp()
    of_all = of_all.parent if "PYTEST_XDIST_WORKER" in os.environ else of_all
    folder, done = of_all / "smoke", of_all / "smoke-is-finished"
    with (of_all / "smoke-lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process makes it: it waits, as Snakemake uses all cores
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            snakemake(copy_of_project(folder), "--", "all_tables")
            done.touch()
    return folder


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory) -> Path:
    """A test file's own copy of the finished clone."""
    return shutil.copytree(finished, tmp_path_factory.mktemp("clone") / "project", symlinks=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that two processes (`pytest -n 2`, a file at a time) end at about the same time."""
    longest = ("test_slurm.py", "test_dvc.py", "test_kills.py", "test_damage.py", "test_pipeline.py")
    items.sort(key=lambda item: longest.index(item.path.name) if item.path.name in longest else len(longest))


def pytest_collection_finish() -> None:
    """One thread a process: two processes with two threads each would wait for each other on two cores."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
