"""Transfer: networks taken to other data sets (arXiv version of the paper, section 5.4 and Table 7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from deit.bounds import Mistake, Name, Names, SomeNames
from deit.tables.asked import FINETUNED, Runs, TableParams, Wanted, of_labels
from deit.tables.checks import Checked, known_models, known_supervision, token_variants
from deit.tables.definition import Definition
from deit.tables.recipes import Table
from deit.tables.titles import title

if TYPE_CHECKING:
    from deit.tables.cells import Computed
    from deit.tables.predictions import Inputs

SCRATCH = "-scratch"
"""Ends the name of a row of networks that were trained on the data set alone."""
SUFFIXES = {"labels": "", "token": "-token"}
"""Method -> what the names of its rows have after the model's."""


class Transfer(TableParams):
    """Networks taken to other data sets."""

    students: SomeNames
    """Rows of transformers that were trained at the lower resolution, and learn the data sets at that."""
    finetuned: Names = []
    """Rows of those that were fine-tuned at the higher resolution, and learn the data sets at that; the paper's
    DeiT-B."""
    teacher: Name
    """Of the distilled rows, on the study's own images; the data sets say who teaches there."""
    rows: dict[Literal["labels", "token"], Name]
    """Method -> name of the supervision; `token` is read by the heads that learn on the data set."""
    sets: Names = []
    """Names below `transfer`, which are the columns; none = all of them."""


def checks(params: Transfer, study: Any) -> Checked:
    key = "tables.transfer"
    yield from known_models(study, f"{key}.teacher", [params.teacher])
    yield from known_models(study, f"{key}.students", params.students, "transformer")
    yield from known_models(study, f"{key}.finetuned", params.finetuned, "transformer")
    if not params.rows:
        yield Mistake(f"{key}.rows", "names no method, so nothing would run", "add labels: NAME of a supervision.")
    for row, name in params.rows.items():
        yield from known_supervision(study, f"{key}.rows.{row}", name, row)
    token = params.rows.get("token", "")
    yield from token_variants(study, [*params.students, *params.finetuned], token, "the token row of transfer")
    if not study.transfer:
        yield Mistake(key, "has no data set to show", "describe one below transfer.", ("transfer",))
    for name in params.sets or study.transfer:
        if name in study.transfer:
            yield from set_checks(name, study.transfer[name], token, study)
        else:
            text = f"there is no data set '{name}' below transfer"
            yield Mistake(f"{key}.sets", text, f"there are {', '.join(study.transfer) or 'none'}.", ("transfer",))


def set_checks(name: str, task: Any, token: str, study: Any) -> Checked:
    """That distilled networks have something to learn from on a data set."""
    learnt = study.supervision.get(task.training.supervision.get(token, token))
    if learnt and learnt.teacher_says and task.teacher is None:
        text = f"missing, and runs of '{token}' learn from a teacher"
        remedy = (
            f"name the model that teaches this data set, or a supervision without a teacher, of two tokens, by "
            f"transfer.{name}.training.supervision.{token}: they are then read by its head."
        )
        yield Mistake(f"transfer.{name}.teacher", text, remedy, (f"transfer.{name}.training.supervision",))


def cells(params: Transfer, runs: Runs) -> Wanted:
    """Rows: networks, those that know one data set alone last; columns: the study's own images, then the data sets."""
    low, high = runs.resolutions
    networks = [
        (model + SUFFIXES[method] + ending, runs.seeded(model, supervision, params.teacher, resolution))
        for method, supervision in params.rows.items()
        for ending, models, resolution in (("", params.students, low), (FINETUNED, params.finetuned, high))
        for model in models
    ]
    tasks = {name: runs.study.transfer[name] for name in params.sets or runs.study.transfer}
    taken = {name: task for name, task in tasks.items() if not task.from_scratch}
    teachers = [*dict.fromkeys(name for task in taken.values() for name in teachers_of(params, task, runs))]
    first = [*((name, of_labels(runs, name)) for name in teachers), *networks]
    primary = runs.study.data.primary
    wanted: Wanted = {(row, primary, head_of(group, runs), primary): group for row, group in first}
    for name, task in (taken | tasks).items():
        own = [(teacher, of_labels(runs, teacher)) for teacher in teachers_of(params, task, runs)]
        for row, group in [*own, *networks]:
            if task.from_scratch and row.endswith(FINETUNED):
                continue
            there = runs.taken(group[0], name)
            row += SCRATCH if task.from_scratch else ""
            wanted[row, task.data.name, head_of(there, runs), task.data.primary] = there
    return wanted


def teachers_of(params: Transfer, task: Any, runs: Runs) -> list[str]:
    """The convnet that teaches a data set, where networks are distilled: a row of its own, as it learns from labels."""
    teacher = task.teacher if "token" in params.rows else None
    return [teacher] if teacher is not None and runs.is_convnet(teacher) else []


def head_of(group: list[Any], runs: Runs) -> str:
    """By which these runs are judged: where they were distilled the fusion of both heads, else the class token's."""
    return runs.objective(group[0]).heads[-1]


def titles(params: Transfer, runs: Runs) -> dict[str, str]:
    """Of the columns of data sets, and of the rows of networks that know nothing else."""
    tasks = runs.study.transfer.values()
    teachers = [name for task in tasks for name in teachers_of(params, task, runs)]
    rows = [*teachers, *(model + SUFFIXES[method] for method in params.rows for model in params.students)]
    return {task.data.name: task.title for task in tasks} | {
        row + SCRATCH: f"{title(row)}, from scratch" for row in dict.fromkeys(rows)
    }


def build(recipe: Table, inputs: Inputs) -> Computed:
    """An accuracy in each cell; the paper's of the study's own images is that of the set which stands for them."""
    from deit.tables.cells import Cells, add_accuracies, paper

    found = Cells(paper("transfer"))
    add_accuracies(found, recipe, inputs)
    return found, [*untaught(recipe)]


def untaught(recipe: Table) -> Iterator[str]:
    """Where distilled networks had no teacher."""
    names = [cell.column for cell in recipe.cells if "-token" in cell.row and cell.read == "class"]
    if columns := ", ".join(title(name, recipe.options.get("titles", {})) for name in dict.fromkeys(names)):
        yield f"On {columns} distilled networks had no teacher: they learned from labels, and their class head is read."


TABLE = Definition(
    place=6,
    number="Transfer",
    caption="Networks taken to other data sets",
    heading="Transfer to other data sets",
    story="Networks that were trained on the images of the first column go on with those of the others, all weights at "
    "once; ↑ was fine-tuned at the higher resolution before, and sees the data sets at that, too. Rows from scratch "
    "know the data set alone. The paper’s numbers are Table 7 of its arXiv version, and section 5.4 for those from "
    "scratch.",
    about="Networks taken to the data sets below `transfer` (arXiv version of the paper, Table 7).",
    params=Transfer,
    cells=cells,
    checks=checks,
    of_networks=True,
    called=titles,
    build=build,
)
