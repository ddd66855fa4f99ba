"""What several test files share: one finished smoke study."""

from pathlib import Path

import pytest
from smoke_study import copy_of_project, snakemake


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """A clone in which the smoke study was run."""
    folder = copy_of_project(tmp_path_factory.mktemp("clone"))
    snakemake(folder, "--", "all_tables")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that two processes (`pytest -n 2`, a file at a time) end at about the same time."""
    longest = ("test_slurm.py", "test_dvc.py", "test_kills.py", "test_damage.py")
    items.sort(key=lambda item: longest.index(item.path.name) if item.path.name in longest else len(longest))
