"""The tables of a study: the runs of their cells, what each is made from, and its recipe."""

from deit.tables.asked import FINETUNED, Measured, Wanted, family
from deit.tables.definition import definition
from deit.tables.recipes import Cell, Table
from plan.released import existing, why_missing
from plan.runs import Run, RunSettings


def cells_of(settings: RunSettings) -> dict[str, Wanted]:
    """Table -> its cells, for every table that the study asks for."""
    return {name: definition(name).cells(params, settings) for name, params in settings.study.tables.asked().items()}


def runs_of(cells: Wanted) -> list[Run]:
    return [run for runs in cells.values() for run in runs]


def throughput_runs(settings: RunSettings) -> dict[str, Run]:
    """Label -> a run of the network, which need not be trained, for all whose images per second a table shows."""
    low, high = settings.resolutions
    of_tables = [definition(name).measured(params) for name, params in settings.study.tables.asked().items()]
    convnets, students, finetuned = (
        list(dict.fromkeys(model for one in of_tables for model in getattr(one, part))) for part in Measured._fields
    )
    wanted = [(model, model, settings.labels, low) for model in convnets]
    third, models = settings.study.tables.table_3, settings.study.models
    two_tokens = {"-token": third.rows["token"]} if third else {}
    for suffix, supervision in ({"": settings.labels} | two_tokens).items():
        there = [model for model in (*students, *finetuned) if not suffix or models[model].timm_distilled]
        wanted += [(model + suffix, model, supervision, low) for model in students if model in there]
        wanted += [(model + suffix + FINETUNED, model, supervision, high) for model in finetuned if model in there]
    return {label: settings.run(model, supervision, "", size, 0) for label, model, supervision, size in wanted}


def table_recipe(settings: RunSettings, name: str, cells: Wanted) -> Table:
    """What is asked of the job that renders a table."""
    own, study, params = definition(name), settings.study, settings.study.tables.asked()[name]
    rows = own.rows(params) if own.rows else dict.fromkeys(row for row, *_ in cells)
    options = {
        "decimals": params.decimals,
        "primary": study.data.primary,
        "titles": {key: value.title for key, value in study.data.evaluation.items()} | own.called(params, settings),
        "paper_columns": {key: value.paper for key, value in study.data.evaluation.items() if value.paper},
    }
    if own.of_networks:
        firsts = {row: runs[0] for (row, *_), runs in reversed(cells.items())}  # Table 2: the teacher, not its students
        options["families"] = {row: family(settings, firsts[row]) for row in rows}
    if settings.teacher_a_seed:
        options["teacher_a_seed"] = True
        taught_by = {run.teacher for run in runs_of(cells) if run.teacher}
        if given := sorted(name for name in taught_by if study.models[name].weights):
            options["given_teachers"] = given
    if missing := why_missing(study.released, runs_of(cells)):
        options["missing"] = missing
    return Table(
        table=name,
        caption=params.caption,
        rows=tuple(rows),
        columns=tuple(dict.fromkeys(column for _, column, *_ in cells)),
        cells=tuple(
            Cell.model_validate(
                {
                    "row": row,
                    "column": column,
                    "runs": tuple(run.name for run in existing(study.released, runs)),
                    "read": head,
                    "evaluation_set": evaluation_set,
                }
            )
            for (row, column, head, evaluation_set), runs in cells.items()
        ),
        options=options,
    )
