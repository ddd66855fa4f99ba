"""An engine of papermill's that runs the cells in this process: they find what is imported, and no kernel has to start.

It shows what a kernel of Jupyter's would, to the byte.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from platform import python_version
from typing import Any

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
        """Fills the outputs of the cells; raises what a cell raises."""
        nb_man.nb.metadata.language_info = LANGUAGE
        with own_shell() as shell, pd.option_context(*NO_TERMINAL):
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
        """None is shown."""

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


@contextmanager
def own_shell() -> Iterator[Shell]:
    """A shell for one notebook, in whose place nothing is left behind."""
    main = sys.modules["__main__"]
    try:
        yield Shell.instance(config=WITHOUT_HISTORY)
    finally:
        Shell.clear_instance()
        sys.modules["__main__"] = main  # the shell's own has stood there


def run(cell: NotebookNode, shell: Shell) -> None:
    """Runs a cell and takes what it shows."""
    shell.shown, cell.execution_count = [], shell.execution_count
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as error:
        result = shell.run_cell(cell.source, store_history=True)
    printed = {"stdout": out.getvalue(), "stderr": error.getvalue()}
    result.raise_error()
    streams = [new_output("stream", name=name, text=text) for name, text in printed.items() if text]
    cell.outputs = [*streams, *shell.shown]
