"""The section `transfer` of a params file: data sets to which networks are taken, and what can be wrong in them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deit.bounds import Name, Recipe
from deit.names import NAME
from study.changes import change_problems
from study.data import DataParams, data_problems
from study.execution import uneven_problems
from study.models import unknown_model
from study.names import NAMES
from study.phases import Phase, objective_problems, phase_problems, run_problems
from study.problem import Problem

FIXED = ("kind", "timm", "timm_distilled", "weights", "initial")
"""What makes a network another one: no data set changes it."""


class TransferParams(Recipe):
    """A data set to which networks are taken, and how they learn it."""

    title: str
    """How tables and the report call it."""
    data: DataParams
    """Its images, as those of the study: its `primary` evaluation set is the one that tables show. Its `name` is the
    column's, which a data set that is learnt from scratch shares with the same one that is not."""
    training: Phase
    """How networks learn it. Its `views` are those keys of the study's views that are others here."""
    model: dict[str, Any] = {}
    """Keys of all models that are others here, as `stochastic_depth`."""
    teacher: Name | None = None
    """Model that teaches distilled networks here: its own run from labels, taken to this data set as the others are.
    null = none: then `training.supervision` has to say what they learn from instead, and they are read by its heads."""
    from_scratch: bool = False
    """The networks begin anew, as in the paper's CIFAR-10 without ImageNet; false: each begins with the weights of its
    run on the study's own images, but for heads of another number of classes."""


Transfer = dict[Name, TransferParams]


def asked_for(study: Any) -> Transfer:
    """The data sets of the section that a table shows: nothing is read, or checked, of the others."""
    table = study.tables.transfer
    chosen = table.sets or study.transfer if table else {}
    return {name: study.transfer[name] for name in chosen if name in study.transfer}


def data_sets(study: Any) -> dict[str, DataParams]:
    """Dotted key -> the data set there, of all that the study reads; each once."""
    sets = {"data": study.data}
    for name, task in asked_for(study).items():
        if task.data not in sets.values():
            sets[f"transfer.{name}.data"] = task.data
    return sets


def transfer_problems(study: Any) -> Iterator[Problem]:
    for name, task in asked_for(study).items():
        yield from task_problems(f"transfer.{name}", task, study)
        yield from name_problems(name, study)
    yield from column_problems(asked_for(study), study.data)


def task_problems(key: str, task: TransferParams, study: Any) -> Iterator[Problem]:
    """What is wrong with one data set, or with how it is learned."""
    training, phase = f"{key}.training", task.training
    yield from data_problems(task.data, f"{key}.data")
    yield from phase_problems(training, phase, task.data, study.views, f"{key}.data")
    yield from run_problems(training, phase, study.models, study.supervision)
    yield from objective_problems(training, phase, study.supervision, study.views)
    models = study.models.values()
    found = (list(change_problems(f"{key}.model", task.model, "model", model, FIXED)) for model in models)
    yield from next(filter(None, found), [])
    if task.teacher is not None:
        yield from unknown_model(study.models, f"{key}.teacher", task.teacher)
    for section in ("students", "teachers") if task.from_scratch else ("finetuning", "adaptation"):
        yield from uneven_problems(study.execution, section, training, phase, study.models)


def name_problems(name: str, study: Any) -> Iterator[Problem]:
    """Names of runs end in `-to-NAME`, which must not be read as a part of anything else."""
    others: Mapping[str, Any] = {"models": study.models, "supervision": study.supervision, "variants": study.variants}
    for section, names in others.items():
        for other in names:
            if f"-to-{name}" in other:
                text = f"'-to-{name}' ends the names of runs that are taken to transfer.{name}"
                yield Problem(f"{section}.{other}", text, "rename it.", (f"transfer.{name}",))


def column_problems(tasks: Transfer, own: DataParams) -> Iterator[Problem]:
    """Data sets of one name stand in one column, so they have to be the same, and not the study's."""
    first: dict[str, str] = {}
    for name, task in tasks.items():
        key, other = f"transfer.{name}.data.name", first.setdefault(task.data.name, name)
        if not re.fullmatch(NAME, task.data.name):
            yield Problem(key, f"'{task.data.name}' names a column, and {NAMES}", "rename it.")
        if task.data.name in own.evaluation:
            text = f"'{task.data.name}' is an evaluation set of the study, whose accuracies have a column of that name"
            yield Problem(key, text, "rename one.", (f"data.evaluation.{task.data.name}",))
        if tasks[other].data != task.data:
            text = f"'{task.data.name}' is the name of transfer.{other}.data, too, which has other keys"
            yield Problem(key, text, "give them other names, or the same keys.", (f"transfer.{other}.data",))
        elif other != name and tasks[other].from_scratch == task.from_scratch:
            text = f"'{task.data.name}' is learnt as transfer.{other}, too, and would stand in the same cells"
            remedy = "give it another name, or learn one of them from scratch."
            yield Problem(key, text, remedy, (f"transfer.{other}.from_scratch",))
