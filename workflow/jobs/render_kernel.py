"""An engine of papermill's that runs cells in this process: they find what is imported, and no kernel has to start.

Results of cells, and what they display, are the bytes that a kernel of Jupyter's gives. Printed text goes to the log.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from platform import python_version
from typing import Any
from warnings import catch_warnings, filterwarnings

import pandas as pd
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from nbformat import NotebookNode
from nbformat.v4 import new_output
from papermill.engines import Engine, NotebookExecutionManager
from traitlets import List, Type
from traitlets.config import Config

WITHOUT_HISTORY = Config({"HistoryManager": {"enabled": False}})
NO_TERMINAL = ("display.max_columns", 20)
"""What pandas takes where a kernel is a process of its own; in this one it would fit the terminal."""
LANGUAGE = {
    "name": "python",
    "version": python_version(),
    "mimetype": "text/x-python",
    "file_extension": ".py",
    "pygments_lexer": "ipython3",
    "codemirror_mode": {"name": "ipython", "version": sys.version_info.major},
    "nbconvert_exporter": "python",
}
"""What a kernel says of itself, by which pages and editors colour the cells."""


class Here(Engine):
    """What papermill calls with a notebook."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: NotebookExecutionManager, kernel_name: str, **options: Any) -> None:
        """Fills the outputs of the cells; raises what a cell raises, or the showing of its result."""
        nb_man.nb.metadata.language_info = LANGUAGE
        with own_shell() as shell, pd.option_context(*NO_TERMINAL), catch_warnings():
            filterwarnings("ignore", "To exit: use")  # advice to who types SystemExit
            for cell in nb_man.nb.cells:
                if cell.cell_type == "code":
                    run(cell, shell)


class Displayed(DisplayPublisher):
    """Keeps what a cell displays."""

    def publish(self, data: Mapping, metadata: Mapping | None = None, *rest: Any, **options: Any) -> None:
        Shell.instance().shown.append(new_output("display_data", data=data, metadata=metadata or {}))


class Result(DisplayHook):
    """Keeps the value of a cell's last expression."""

    def write_output_prompt(self) -> None:
        """No prompt is shown."""

    def write_format_data(self, format_dict: Mapping, md_dict: Mapping | None = None) -> None:
        number = self.prompt_count
        Shell.instance().shown.append(
            new_output("execute_result", data=format_dict, metadata=md_dict or {}, execution_count=number)
        )


class Shell(InteractiveShell):
    """IPython's, whose cells show things to a list."""

    display_pub_class = Type(Displayed)
    displayhook_class = Type(Result)
    shown = List()
    raised: BaseException | None = None

    def init_virtualenv(self) -> None:
        """No packages of another environment are taken."""

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        self.raised = evalue  # also where a result cannot be shown, which counts for no error of the cell


@contextmanager
def own_shell() -> Iterator[Shell]:
    """A shell for one notebook; behind it others find no shell, and their `__main__`."""
    main = sys.modules["__main__"]
    try:
        yield Shell.instance(config=WITHOUT_HISTORY)
    finally:
        Shell.clear_instance()
        sys.modules["__main__"] = main


def run(cell: NotebookNode, shell: Shell) -> None:
    """Runs a cell and takes what it shows."""
    shell.shown, cell.execution_count = [], shell.execution_count
    shell.run_cell(cell.source, store_history=True)
    if shell.raised:
        raise shell.raised
    cell.outputs = shell.shown
