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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which tests stay on one process under `pytest -n 2`: those of one cluster, of one study, and of one file."""
    for item in items:
        slurm, study = item.get_closest_marker("slurm"), "project" in getattr(item, "fixturenames", ())
        group = "slurm" if slurm else "study" if study else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
