"""The whole plan of a study: the runs that its tables want, the tables, and the page that gathers them."""

from functools import cache
from pathlib import Path

from study.params import load_study
from study.problem import ParamsError

from deit.tables.definition import definition
from plan.given import givers_of
from plan.plan import Plan
from plan.released import existing, plan_released
from plan.tables import cells_of, runs_of, table_recipe, throughput_runs


def plan_study(name: str, folder: Path = Path("params"), given_to: tuple[str, ...] = ()) -> Plan:
    """The plan of `params/<name>.yaml`: every table with all that it needs, and the report.

    `given_to` names the studies that are given weights of this one, each of the next. Raises ParamsError.
    """
    if name in given_to:
        circle = " <- ".join((*given_to[given_to.index(name) :], name))
        raise ParamsError(
            f"{folder}/{name}.yaml: models: weights go in a circle, {circle}; give one of them otherwise."
        )
    study = load_study(name, folder)
    planned = cache(lambda other: list(plan_study(other, folder, (*given_to, name)).jobs.values()))
    plan = Plan(name, study, givers=givers_of(study.models, name, folder, planned), folder=folder)
    released = plan.study.released
    cells = cells_of(plan.settings)
    runs = {table: existing(released, runs_of(of_table)) for table, of_table in cells.items()}
    reads = {table: definition(table).reads for table in cells}
    compared = dict.fromkeys(run for table in cells if "tokens" in reads[table] for run in runs[table])
    predicted = dict.fromkeys(run for table in cells if "predictions" in reads[table] for run in runs[table])
    measured = throughput_runs(plan.settings)
    plan.plan_networks([*predicted, *compared], measured.values())
    if released:
        plan_released(plan, released, [*predicted, *compared])
    else:
        plan.plan_runs([*predicted, *compared])
    sheets = plan.plan_sheets([*predicted])
    models = {label: plan.settings.model(run) for label, run in measured.items()}
    throughput = plan.plan_throughput(models) if models else ""
    digests = {}
    for table, of_table in cells.items():
        inputs: dict[str, str] = {}
        if "predictions" in reads[table]:
            inputs |= {sheet: sheets[sheet] for sheet in map(plan.sheet_name, runs[table])}
        if "throughput" in reads[table]:
            inputs["throughput"] = throughput
        if "networks" in reads[table]:
            inputs["networks"] = plan.networks
        if "tokens" in reads[table]:
            images = plan.study.tables.asked()[table].images
            inputs |= {run.name: plan.plan_tokens(run, images) for run in dict.fromkeys(runs[table])}
        digests[table] = plan.plan_table(table_recipe(plan.settings, table, of_table), inputs)
    students = dict.fromkeys(run.model for run in plan.runs if not plan.settings.is_convnet(run.model))
    plan.plan_report(digests, list(students))
    return plan
