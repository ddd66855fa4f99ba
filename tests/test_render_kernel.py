"""A table's notebook, whose cells run in the process that renders it, against the same in a kernel of Jupyter's own."""

import json
import logging
import sys
from collections.abc import Iterator

import papermill
import pytest
from jobs import render
from jobs.render import execute
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

CELLS = (
    "number = 1",
    "number + seven",
    "async def later():\n    return number\nawait later()",
    "import pandas as pd\nframe = pd.DataFrame([range(1000, 1025)] * 70)\nframe",
    "from IPython.display import HTML, Image, display\ndisplay(HTML('<b>first</b>'), metadata={'isolated': True})",
    "import base64\ndisplay(Image(base64.b64decode(PNG), width=7))\n{'a': number}",
    "number;",
    "None",
    "_ or number",
    "%precision 2\n3.14159",
)
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


def notebook(*cells: str):
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = [new_code_cell("seven = 0\nPNG = ''", metadata={"tags": ["parameters"]}), new_markdown_cell("# Heading")]
    return new_notebook(cells=[*content, *map(new_code_cell, cells)], metadata={"kernelspec": spec})


def shown(executed) -> list:
    """All that a reader sees, and an editor is told, without times and random names."""
    cells = [(cell.source, cell.get("outputs"), cell.get("execution_count")) for cell in executed.cells]
    return json.loads(json.dumps([cells, executed.metadata.language_info, executed.metadata.kernelspec]))


@pytest.fixture(autouse=True)
def jupyter() -> Iterator[None]:
    """Kernels and settings of whoever runs the tests count for nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name in render.JUPYTER_FOLDERS:
            patch.delenv(name, raising=False)  # and be set back
        with render.own_jupyter():
            yield


@pytest.fixture
def here(tmp_path):
    return lambda *cells: execute(notebook(*cells), tmp_path / "here.ipynb", {"seven": 7, "PNG": PNG})


def test_cells_show_what_they_show_in_a_kernel(here, tmp_path):
    parameters = {"seven": 7, "PNG": PNG}
    other = papermill.execute_notebook(notebook(*CELLS), tmp_path / "other.ipynb", parameters, progress_bar=False)
    assert shown(here(*CELLS)) == shown(other)
    assert "8" in json.dumps(shown(other)) and "isolated" in json.dumps(shown(other))


def test_a_notebook_knows_nothing_of_the_one_before(here):
    main = sys.modules["__main__"]
    first, second = here("left = 1"), here("'left' in globals()")
    assert second.cells[-1].outputs[0].data["text/plain"] == "False"
    assert first.cells[-1].execution_count == second.cells[-1].execution_count == 3
    assert sys.modules["__main__"] is main


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        ("raise SystemExit('table_3: one clear error')", SystemExit, "table_3: one clear error"),
        ("1 / 0", ZeroDivisionError, "division by zero"),
        ("1 +", SyntaxError, "invalid syntax"),
        ("class Odd:\n    def _repr_html_(self): raise KeyError('no such title')\nOdd()", KeyError, "no such title"),
        ("display(type('Odd', (), {'__repr__': lambda self: 1 / 0})())", ZeroDivisionError, "division by zero"),
    ],
)
def test_what_a_cell_raises_ends_the_job_as_it_is(here, source, error, says):
    with pytest.raises(error, match=says):
        here("1", source, "raise AssertionError('a cell after the error')")


def test_the_width_of_a_terminal_changes_nothing(here, monkeypatch):
    pages = []
    for columns in ("30", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        pages.append(shown(here(*CELLS)))
    assert pages[0] == pages[1]


def test_what_is_printed_goes_to_the_log(here, capsys, caplog):
    source = "import logging\nprint('printed')\nlogging.warning('logged')\nnumber = 1"
    executed = here(source)
    logging.warning("after the notebook")
    assert executed.cells[-1].outputs == [] and capsys.readouterr().out == "printed\n"
    assert [record.message for record in caplog.records][-2:] == ["logged", "after the notebook"]


def test_no_packages_of_another_environment_are_taken(here, tmp_path, monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    (tmp_path / "lib/python3.11/site-packages").mkdir(parents=True)
    before = [*sys.path]
    here("1")
    assert sys.path == before
