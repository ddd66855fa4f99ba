"""One table: papermill runs the notebook; the folder gets the executed notebook, HTML, CSV, LaTeX and figures.

python workflow/jobs/render.py --recipe R [--predictions DIR ...] [--throughput DIR ...] [--networks DIR ...]
    [--tokens DIR ...] --output DIR
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.engines import papermill_engines

from deit.store.job import Job
from deit.store.results import check_planned, new_folder, read_job
from deit.tables.definition import definition
from deit.tables.recipes import READ
from jobs.render_kernel import Here

NOTEBOOK = Path(__file__).parent.parent / "notebooks/table.ipynb"
JUPYTER_FOLDERS = ("JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body{{font:17px/1.5 Charter,"Bitstream Charter","Iowan Old Style",Palatino,Georgia,"Liberation Serif",serif;
 color:#1a1a1a;max-width:60em;margin:2.5em auto;padding:0 1.2em}}
h1{{font-weight:500;font-size:1.6em}} pre{{font-size:12.5px;line-height:1.45;background:#f7f7f5;padding:.7em .9em;
 overflow-x:auto}}
.prompt,.anchor-link{{display:none}} img{{max-width:100%}} table.dataframe{{border-collapse:collapse;font-size:.8em}}
.dataframe td,.dataframe th{{border:0;padding:.15em .7em;text-align:right}}
</style>
{body}
</html>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, required=True)
    for section in READ:
        parser.add_argument(f"--{section}", type=Path, nargs="+", default=[], metavar="DIR")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    job = read_job(arguments.recipe)
    inputs = [folder for section in READ for folder in getattr(arguments, section)]
    check_inputs(job, inputs)
    render(job, arguments.recipe, inputs, arguments.output)


def check_inputs(job: Job, folders: list[Path]) -> None:
    """Refuse a set of folders that is not exactly the one that the table was planned with, and damaged ones."""
    results = check_planned(folders, job.inputs.values(), job.name)
    given = {result.job.digest for result in results}
    for role, digest in job.inputs.items():
        if digest not in given:
            raise SystemExit(f"{job.name}: the result {digest} of {role} is missing. Give its folder.")
    for result in results:
        result.verify()


def render(job: Job, recipe: Path, inputs: list[Path], output: Path) -> None:
    """Fills the folder `output`."""
    name = job.resolved().table
    with new_folder(output, job) as folder:
        parameters = {"recipe": str(recipe), "inputs": [str(path) for path in inputs], "output": str(folder)}
        with own_jupyter():
            executed = execute(notebook(name), folder / f"{name}.ipynb", parameters)
            settle(executed, folder, output)
            nbformat.write(executed, folder / f"{name}.ipynb")
            body, _ = HTMLExporter(template_name="basic").from_notebook_node(executed)
        (folder / f"{name}.html").write_text(PAGE.format(title=escape(name), body=body), encoding="utf-8")


def notebook(table: str) -> nbformat.NotebookNode:
    """The notebook that all tables share, opened by this one's own heading and story."""
    # Not by its path, as papermill would fill in {…} in names of folders.
    content: Any = nbformat.read(NOTEBOOK, as_version=4)
    own = definition(table)
    content.cells[0].source = f"# {own.heading}\n\n{own.story}"
    return content


def execute(notebook: nbformat.NotebookNode, output: Path, parameters: dict) -> nbformat.NotebookNode:
    """The executed notebook; its kernel is this very process, in the current directory."""
    papermill_engines.register("here", Here)
    return papermill.execute_notebook(
        notebook, output, parameters, engine_name="here", log_output=False, progress_bar=False
    )


@contextmanager
def own_jupyter() -> Iterator[None]:
    """Jupyter finds nothing of the user's, nor leaves anything there: settings and templates of theirs change pages."""
    with tempfile.TemporaryDirectory(prefix="jupyter-") as home:
        os.environ |= dict.fromkeys(JUPYTER_FOLDERS, home)
        yield


def settle(notebook: nbformat.NotebookNode, folder: Path, output: Path) -> None:
    """Takes out what differs between two runs: times, random names, the temporary folder."""
    notebook.metadata.pop("papermill", None)
    for number, cell in enumerate(notebook.cells):
        cell.metadata.pop("papermill", None)
        cell.id = f"cell-{number}"
        cell.source = cell.source.replace(str(folder), str(output))


if __name__ == "__main__":
    main()
