"""What Snakemake makes again: a result that lost a file, one that it is told to, and none because of a clock."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from smoke_study import copy_of_project, snakemake

from deit.store.finished import seal_at
from deit.store.results import read_result

pytestmark = [pytest.mark.pipeline, pytest.mark.long]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A clone in which the first phase of the smoke study was run: two results of data, and stored views."""
    folder = copy_of_project(tmp_path_factory.mktemp("clone"))
    snakemake(folder, "--", "data")
    return folder


def results(project: Path) -> dict[str, Path]:
    """Section/name of a result -> its provenance.json."""
    root = project / "results/smoke"
    found = [path for path in root.glob("**/provenance.json") if not path.parent.suffix]
    return {str(path.parent.relative_to(root))[:-11]: path for path in found}


def logs(project: Path) -> str:
    """What the jobs of the data said."""
    return "".join(path.read_text(encoding="utf-8") for path in project.glob("results/smoke/logs/data/*.log"))


def test_what_lost_a_file_and_what_is_forced_is_made_again_and_nothing_else(prepared):
    before = {name: seal_at(path) for name, path in results(prepared).items()}
    assert {"data/training", "data/evaluation"} < set(before)
    (results(prepared)["data/training"].with_name("manifest.json")).unlink()
    snakemake(prepared, "--", "data")
    after = {name: seal_at(path) for name, path in results(prepared).items()}
    assert {name for name in before if before[name] != after[name]} == {"data/training"}

    assert "finished by another job" not in logs(prepared)
    snakemake(prepared, "-R", "prepare_data", "--", "data")
    assert "finished by another job" not in logs(prepared)
    forced = {name: seal_at(path) for name, path in results(prepared).items()}
    assert {name for name in before if after[name] != forced[name]} == {"data/training", "data/evaluation"}
    for path in results(prepared).values():
        read_result(path.parent).verify()
    assert "Nothing to be done" in snakemake(prepared, "--", "data")


def test_inputs_of_a_time_to_come_fail_no_job(prepared):
    """A clock was set back, or that of a node lags behind the one of the node that made the input."""
    views = next(path.parent for name, path in results(prepared).items() if name.startswith("views/"))
    (manifest,) = prepared.glob("results/smoke/data/training-*/manifest.json")
    tomorrow = time.time() + 86400
    os.utime(manifest, (tomorrow, tomorrow))
    shutil.rmtree(views)
    snakemake(prepared, "--", "data")
    assert json.loads((views / "provenance.json").read_bytes())["seal"]
    assert manifest.stat().st_mtime <= time.time()
