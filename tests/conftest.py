"""What several test files share: one finished smoke study, one synthetic study, images, params.

What needs torch or pandas is imported by the fixture that does: most files need neither.
"""

import fcntl
import gc
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from hypothesis import settings
from smoke_study import ROOT, copy_of_project, snakemake

settings.register_profile("ours", deadline=None, derandomize=True)  # a slow machine fails no test, a draw no second run
settings.load_profile("ours")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's `pytest &` ignores it, and so would what we start
for path in (ROOT / "params").glob("*.yaml"):
    for name in re.findall(r"\$\{(\w+)\}", path.read_text(encoding="utf-8")):
        os.environ.pop(name, None)  # a user's folder of images
os.environ |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "commit.gpgsign", "GIT_CONFIG_VALUE_0": "false"}


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


@pytest.fixture(scope="session")
def params(tmp_path_factory) -> Path:
    """params/ elsewhere, where a test may write a study `mutant`."""
    return shutil.copytree(ROOT / "params", tmp_path_factory.mktemp("bad") / "params")


@pytest.fixture
def root(tmp_path) -> Path:
    """Where a tiny training finds its images."""
    return tmp_path / "data"


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A folder beside a clone with params/ and without studies, in which commands are given."""
    (tmp_path / "clone/params").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path


@pytest.fixture(scope="session")
def fashion():
    """The images that the streams of the tests show."""
    from streams import DATA, FASHION

    from deit.see.datasets import training_images

    return training_images(DATA, FASHION)


@pytest.fixture(scope="session")
def inputs(tmp_path_factory):
    """Predictions, throughput and tokens of the synthetic study."""
    import synthetic_study as study

    from deit.tables.predictions import Inputs

    results = study.build(tmp_path_factory.mktemp("study"))
    return Inputs([folder for section in ("predictions", "throughput", "tokens") for folder in results[section]])


@pytest.fixture(scope="session")
def shown(inputs) -> dict:
    """Name -> table of the synthetic study; a test may not change one."""
    import synthetic_study as study
    from synthetic_tables import computed

    return {name: computed(recipe, inputs) for name, recipe in study.tables().items()}


@pytest.fixture(scope="session")
def noisy(tmp_path_factory) -> dict:
    """The synthetic study with chance in every decision, its tables as `compute` makes them, and their inputs."""
    from synthetic_tables import noisy_study

    return noisy_study(tmp_path_factory.mktemp("noisy"))


@pytest.fixture(autouse=True)
def settings_of_torch():
    """A job that was run in this process leaves its own; hypothesis draws denormal numbers, and equal bits may need
    them."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_flush_denormal(False)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(False)


IN_MINIATURE = ("test_imagenet.py", "test_released.py", "test_cifar_study.py", "test_transfer.py")
"""Files whose fixture `study` runs a whole study, as `finished` and that of test_given_study do for the quick tests."""


TAKE_LONG = ("dvc", "slurm", "long")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the files that fork ranks: where a test had torch begin threads, as for fake tensors, no later one can.

    Last those that run studies again, the longest first: two processes (`pytest -n 2`, a file at a time) end together.
    """
    last = ("test_slurm.py", "test_dvc.py", "test_kills.py", "test_surroundings.py", "test_sittings.py")
    rank = {name: number for number, name in enumerate(last, 1)}
    for item in items:
        if item.path.name in IN_MINIATURE and "study" in getattr(item, "fixturenames", ()):
            item.add_marker("long")
    items.sort(key=lambda item: -1 if hasattr(item.module, "on_two_ranks") else rank.get(item.path.name, 0))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """After TEST_DEADLINE (seconds since 1970) none is begun that takes long: a very slow host ends in time, too."""
    late = time.time() > float(os.environ.get("TEST_DEADLINE", "inf"))
    if late and any(item.get_closest_marker(name) for name in TAKE_LONG):
        pytest.skip("TEST_DEADLINE is over; `make test` has none")


def pytest_collection_finish() -> None:
    """One thread a process: two processes with two threads each would wait for each other on two cores.

    And no test looks for garbage in what was imported.
    """
    gc.freeze()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
