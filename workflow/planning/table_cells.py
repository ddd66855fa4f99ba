"""The tables of a study: which runs stand in which cell, and so which runs exist at all.

Rows and columns carry the names under which `src/deit/paper/*.csv` holds the paper's own numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deit.recipes import Cell, Model, Table
from planning.released import existing, why_missing

if TYPE_CHECKING:
    from planning.plan import Plan, Run

# Row of Table 3 for a token run -> the head through which the run is read. Fusion by softmax is the paper's, by logits
# the released code's.
TOKEN_ROWS = {
    "token_class": "class",
    "token_distillation": "distillation",
    "token_fusion": "fusion",
    "token_fusion_logits": "fusion_logits",
}
FINETUNED = "-finetuned"
TWO_TOKENS = "two-class-tokens"


def plan_tables(plan: Plan) -> None:
    """Plan everything that the tables of the study need, the tables, and the page that gathers them."""
    tables = {name: table for name, table in plan.study.tables if table}
    builders = {name: BUILDERS[name](plan) for name in tables}
    runs = {name: existing(plan, of_cells(cells)) for name, cells in builders.items()}
    compared = dict.fromkeys(runs.pop("token_analysis", []))
    predicted = dict.fromkeys(run for group in runs.values() for run in group)
    plan.plan_runs([*predicted, *compared])
    sheets = plan.plan_sheets([*predicted])
    throughput = plan.plan_throughput(throughput_models(plan)) if throughput_models(plan) else ""
    tokens = {run.name: plan.plan_tokens(run, plan.study.tables.token_analysis.images) for run in compared}
    digests = {}
    for name, cells in builders.items():
        inputs = {plan.sheet_name(run): sheets[plan.sheet_name(run)] for run in dict.fromkeys(runs.get(name, []))}
        if name in ("table_1", "table_5", "accuracy_throughput"):
            inputs["throughput"] = throughput
        if name == "token_analysis":
            inputs |= tokens
        digests[name] = plan.plan_table(table_recipe(plan, name, cells), inputs)
    students = dict.fromkeys(run.model for run in plan.runs if plan.study.models[run.model].kind == "transformer")
    plan.plan_report(digests, list(students))


# Key of a cell: row, column, head, evaluation set.
Cells = dict[tuple[str, str, str, str], "list[Run]"]


def of_cells(cells: Cells) -> list[Run]:
    return [run for runs in cells.values() for run in runs]


def table_recipe(plan: Plan, name: str, cells: Cells) -> Table:
    params = getattr(plan.study.tables, name)
    evaluation = plan.study.data.evaluation
    rows = params.models if name == "table_1" else dict.fromkeys(row for row, *_ in cells)
    options = {
        "decimals": params.decimals,
        "primary": plan.study.data.primary,
        "titles": {key: value.title for key, value in evaluation.items()},
        "paper_columns": {key: value.paper for key, value in evaluation.items() if value.paper},
    }
    if name in ("table_2", "table_3", "table_5"):
        firsts = {row: runs[0] for (row, *_), runs in reversed(cells.items())}  # Table 2: the teacher, not its students
        options["families"] = {row: family(plan, firsts[row]) for row in rows}
    if missing := why_missing(plan, of_cells(cells)):
        options["missing"] = missing
    return Table(
        table=name,
        caption=params.caption,
        rows=tuple(rows),
        columns=tuple(dict.fromkeys(column for _, column, *_ in cells)),
        cells=tuple(
            Cell(row=row, column=column, runs=names_of(plan, runs), read=head, evaluation_set=evaluation_set)
            for (row, column, head, evaluation_set), runs in cells.items()
        ),
        options=options,
    )


def names_of(plan: Plan, runs: list[Run]) -> tuple[str, ...]:
    return tuple(run.name for run in existing(plan, runs))


def family(plan: Plan, run: Run) -> str:
    """What a network is, asked of its kind and objective, never of its name: convnet, deit or deit-distilled (⚗)."""
    if plan.study.models[run.model].kind == "convnet":
        return "convnet"
    return "deit-distilled" if plan.study.supervision[run.supervision].loss == "token" else "deit"


def seeded(plan: Plan, model: str, supervision: str, teacher: str, resolution: int) -> list[Run]:
    return [plan.run(model, supervision, teacher, resolution, seed) for seed in plan.seeds(model)]


def table_1(plan: Plan) -> Cells:
    return {}


def table_2(plan: Plan) -> Cells:
    """Rows: teachers. The student of this table has no distillation token (paper.md tells why)."""
    table, low, high = plan.study.tables.table_2, *resolutions(plan)
    cells: Cells = {}
    for teacher in table.teachers:
        runs = {
            "teacher": [plan.run(teacher, plan.labels, "", low, plan.seeds(teacher)[0])],
            "pretrained": seeded(plan, table.student, table.supervision, teacher, low),
            "finetuned": seeded(plan, table.student, table.supervision, teacher, high),
        }
        cells |= {(teacher, column, "class", plan.study.data.primary): group for column, group in runs.items()}
    return cells


def table_3(plan: Plan) -> Cells:
    """Rows: methods. The token rows are one training read through its heads."""
    table, low, high = plan.study.tables.table_3, *resolutions(plan)
    cells: Cells = {}
    for method, supervision in table.rows.items():
        for row, head in TOKEN_ROWS.items() if method == "token" else [(method, "class")]:
            for model, column, resolution in [
                *((model, model, low) for model in table.students),
                *((model, model + FINETUNED, high) for model in table.finetuned),
            ]:
                runs = seeded(plan, model, supervision, table.teacher, resolution)
                cells[row, column, head, plan.study.data.primary] = runs
    return cells


def table_4(plan: Plan) -> Cells:
    """Classifiers of the disagreement matrix; the n-th run of each is compared with the n-th of the others."""
    table, low = plan.study.tables.table_4, resolutions(plan)[0]
    supervision = plan.study.tables.table_3.rows
    convnet = plan.run(table.teacher, plan.labels, "", low, plan.seeds(table.teacher)[0])
    token = seeded(plan, table.student, supervision["token"], table.teacher, low)
    rows = {
        "ground_truth": ("class", []),
        "convnet": ("class", [convnet] * len(plan.seeds(table.student))),
        "deit": ("class", seeded(plan, table.student, supervision["labels"], table.teacher, low)),
        "token_class": ("class", token),
        "token_distillation": ("distillation", token),
        "token_fusion": ("fusion", token),
    }
    return {(row, "", head, plan.study.data.primary): runs for row, (head, runs) in rows.items()}


def table_5(plan: Plan) -> Cells:
    """Rows: networks; columns: evaluation sets (throughput comes from its own measurement)."""
    table = plan.study.tables.table_5
    return {
        (row, name, head, name): runs
        for row, head, runs in [*networks(plan, table), *longer(plan, table)]
        for name in plan.study.data.evaluation
    }


def accuracy_throughput(plan: Plan) -> Cells:
    primary, table = plan.study.data.primary, plan.study.tables.table_5
    return {(row, family(plan, runs[0]), head, primary): runs for row, head, runs in networks(plan, table)}


def networks(plan: Plan, table) -> list[tuple[str, str, list[Run]]]:
    """Rows of Table 5 as (row, head, runs): convnets, DeiTs, distilled DeiTs."""
    low, high = resolutions(plan)
    supervision, teacher = plan.study.tables.table_3.rows, plan.study.tables.table_3.teacher
    rows = [(name, "class", [plan.run(name, plan.labels, "", low, plan.seeds(name)[0])]) for name in table.convnets]
    for method, suffix, head in (("labels", "", "class"), ("token", "-token", "fusion")):
        for model in table.students:
            rows.append((model + suffix, head, seeded(plan, model, supervision[method], teacher, low)))
        for model in table.finetuned:
            rows.append((model + suffix + FINETUNED, head, seeded(plan, model, supervision[method], teacher, high)))
    return rows


def longer(plan: Plan, table) -> list[tuple[str, str, list[Run]]]:
    """Further rows of distilled students, those of longer trainings, as in the last rows of the paper's Table 5."""
    low, high = resolutions(plan)
    teacher = plan.study.tables.table_3.teacher
    return [
        (f"{model}-token{suffix}-{ending}", "fusion", seeded(plan, model, supervision, teacher, resolution))
        for ending, supervision in table.longer.items()
        for suffix, models, resolution in (("", table.students, low), (FINETUNED, table.finetuned, high))
        for model in models
    ]


def token_analysis(plan: Plan) -> Cells:
    """Rows: students; columns: their distillation token, and the control, a second class token."""
    table, low = plan.study.tables.token_analysis, resolutions(plan)[0]
    teacher = plan.study.tables.table_3.teacher
    cells: Cells = {}
    for column, loss, students in (("token", "token", table.students), ("two_class_tokens", TWO_TOKENS, table.control)):
        for model in students:
            supervision = next(name for name, objective in plan.study.supervision.items() if objective.loss == loss)
            cells[model, column, "class", ""] = seeded(plan, model, supervision, teacher, low)
    return cells


def throughput_models(plan: Plan) -> dict[str, Model]:
    """Label -> model, for all networks of Tables 1 and 5."""
    tables, (low, high) = plan.study.tables, resolutions(plan)
    students = [
        *(tables.table_1.models if tables.table_1 else []),
        *(tables.table_5.students if tables.table_5 else []),
    ]
    finetuned = tables.table_5.finetuned if tables.table_5 else []
    wanted = [(model, model, plan.labels, low) for model in (tables.table_5.convnets if tables.table_5 else [])]
    two_tokens = {"-token": tables.table_3.rows["token"]} if tables.table_3 else {}
    for suffix, supervision in ({"": plan.labels} | two_tokens).items():
        wanted += [(model + suffix, model, supervision, low) for model in dict.fromkeys(students)]
        wanted += [(model + suffix + FINETUNED, model, supervision, high) for model in finetuned]
    return {label: plan.model(plan.run(model, supervision, "", size, 0)) for label, model, supervision, size in wanted}


def resolutions(plan: Plan) -> tuple[int, int]:
    return plan.study.resolutions.pretraining, plan.study.resolutions.finetuning


BUILDERS = {
    "table_1": table_1,
    "table_2": table_2,
    "table_3": table_3,
    "table_4": table_4,
    "table_5": table_5,
    "token_analysis": token_analysis,
    "accuracy_throughput": accuracy_throughput,
}
