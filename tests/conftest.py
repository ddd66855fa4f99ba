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
