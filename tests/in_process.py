"""Commands of jobs that run in the test's own process."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch


@contextmanager
def working_in(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """`folder` is the working one; afterwards it is as before, and so are what is patched, and torch's settings."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield patch
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def refusal_of(main: Callable[[], None], folder: Path, *words: str | Path) -> str:
    """What a command says that refuses, called in `folder` with these words; empty where it ends well."""
    with working_in(folder) as patch:
        patch.setattr(sys, "argv", ["command", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            return str(end)
    return ""
