"""The variables that a job is given: those of whoever starts it, without what would change a result or break the job.

What stays may differ from machine to machine: paths, the cluster's variables, those of threads and of hardware (which a
result records where they may change its last bits), and PYTHONPATH, behind our own folders, as some clusters give all
their packages by it. What a user's files say (`matplotlibrc`, kernels, startup files, packages installed with `pip
install --user`) does not count.
"""

import site
from collections.abc import Mapping
from importlib.metadata import distributions

OTHERS = ("PYTHON", "JUPYTER", "IPYTHON", "IPYKERNEL", "PAPERMILL", "MPL", "MATPLOTLIB", "PANDAS_", "TIMM_")
OTHERS += ("PET_", "TORCHELASTIC_")
"""Beginnings of names that tell programs of ours to work otherwise; TIMM_FUSED_ATTN alone changes every network.

PET_NNODES and its like are defaults of torchrun's arguments.
"""
REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
"""Where another repository would be recorded than the one that runs, as in a hook of git's."""
RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE")
RANKS += ("ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Of another launcher's processes: a job would wait for ranks that nobody starts. torchrun tells its own after this."""
TERMINAL = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE")
HARMLESS = ("PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PYTHONFAULTHANDLER")
HARMLESS += ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "MPLCONFIGDIR")
"""Of those that begin so: where things are, and what no result of ours follows from."""
OURS = {"PYTHONUTF8": "1", "MPLBACKEND": "agg", "MATPLOTLIBRC": "/dev/null"}
"""Texts are UTF-8 whatever the locale, on standard output, too; figures need no screen."""

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "pyarrow", "pillow", "matplotlib", "papermill")


def surroundings(given: Mapping[str, str]) -> dict[str, str]:
    """The variables of a job, of those that are `given`."""
    kept = {name: value for name, value in given.items() if name in HARMLESS or not is_foreign(name)}
    return kept | OURS | ({"PYTHONNOUSERSITE": "1"} if is_complete() else {})


def is_foreign(name: str) -> bool:
    return name.startswith(OTHERS) or name in (*REPOSITORY, *RANKS, *TERMINAL)


def is_complete() -> bool:
    """Whether the environment has by itself what results are made with, without the user's own packages."""
    places = site.getsitepackages()
    return all(any(distributions(name=name, path=places)) for name in PACKAGES)
