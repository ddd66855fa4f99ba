"""The whole plan of a study: the runs that its tables want, the tables, and the page that gathers them."""

from pathlib import Path

from study.params import load_study

from deit.tables.recipes import Cell, Table
from plan.plan import Plan
from plan.released import existing, plan_released, why_missing
from plan.runs import Run
from plan.tables import Cells, cells_of, family, throughput_runs

MEASURED = ("table_1", "table_5", "accuracy_throughput")
"""Tables that show images per second."""
OF_NETWORKS = ("table_2", "table_3", "table_5")
"""Tables whose rows are networks, of which their families tell convnets from DeiTs."""


def plan_study(name: str, folder: Path = Path("params")) -> Plan:
    """The plan of `params/<name>.yaml`: every table with all that it needs, and the report."""
    plan = Plan(name, load_study(name, folder))
    released = plan.study.released
    cells = cells_of(plan.settings)
    runs = {table: existing(released, runs_of(of_table)) for table, of_table in cells.items()}
    compared = dict.fromkeys(runs.pop("token_analysis", []))
    predicted = dict.fromkeys(run for group in runs.values() for run in group)
    measured = throughput_runs(plan.settings)
    plan.plan_networks([*predicted, *compared], measured.values())
    if released:
        plan_released(plan, released, [*predicted, *compared])
    else:
        plan.plan_runs([*predicted, *compared])
    sheets = plan.plan_sheets([*predicted])
    models = {label: plan.settings.model(run) for label, run in measured.items()}
    throughput = plan.plan_throughput(models) if models else ""
    analysis = plan.study.tables.token_analysis
    tokens = {run.name: plan.plan_tokens(run, analysis.images) for run in compared} if analysis else {}
    digests = {}
    for table, of_table in cells.items():
        inputs = {plan.sheet_name(run): sheets[plan.sheet_name(run)] for run in dict.fromkeys(runs.get(table, []))}
        inputs |= {"throughput": throughput} if table in MEASURED else {}
        inputs |= {"networks": plan.networks} if table == "table_1" else {}
        inputs |= tokens if table == "token_analysis" else {}
        digests[table] = plan.plan_table(table_recipe(plan, table, of_table), inputs)
    students = dict.fromkeys(run.model for run in plan.runs if not plan.settings.is_convnet(run.model))
    plan.plan_report(digests, list(students))
    return plan


def runs_of(cells: Cells) -> list[Run]:
    return [run for runs in cells.values() for run in runs]


def table_recipe(plan: Plan, name: str, cells: Cells) -> Table:
    params, study = getattr(plan.study.tables, name), plan.study
    rows = params.models if name == "table_1" else dict.fromkeys(row for row, *_ in cells)
    options = {
        "decimals": params.decimals,
        "primary": study.data.primary,
        "titles": {key: value.title for key, value in study.data.evaluation.items()},
        "paper_columns": {key: value.paper for key, value in study.data.evaluation.items() if value.paper},
    }
    if name in OF_NETWORKS:
        firsts = {row: runs[0] for (row, *_), runs in reversed(cells.items())}  # Table 2: the teacher, not its students
        options["families"] = {row: family(plan.settings, firsts[row]) for row in rows}
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
