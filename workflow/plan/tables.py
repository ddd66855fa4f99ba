"""The tables of a study: which runs stand in which cell, and so which runs exist at all.

Rows and columns carry the names under which `src/deit/paper/*.csv` holds the paper's own numbers.
"""

from study.study import Ablation, Epochs, Table2, Table3, Table4, Table5, TokenAnalysis

from plan.runs import Run, RunSettings

# Key of a cell: row, column, head, evaluation set.
Cells = dict[tuple[str, str, str, str], list[Run]]

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


def family(settings: RunSettings, run: Run) -> str:
    """What a network is, asked of its kind and objective, never of its name: convnet, deit or deit-distilled (⚗)."""
    if settings.is_convnet(run.model):
        return "convnet"
    return "deit-distilled" if settings.study.supervision[run.supervision].loss == "token" else "deit"


def cells_of(settings: RunSettings) -> dict[str, Cells]:
    """Table -> its cells, for every table of the study; Table 1 has no runs."""
    tables = settings.study.tables
    cells: dict[str, Cells] = {}
    if tables.table_1:
        cells["table_1"] = {}
    if tables.table_2:
        cells["table_2"] = table_2(settings, tables.table_2)
    if tables.table_3:
        cells["table_3"] = table_3(settings, tables.table_3)
    if tables.table_4:
        cells["table_4"] = table_4(settings, tables.table_4)
    if tables.table_5:
        cells["table_5"] = table_5(settings, tables.table_5)
    if tables.token_analysis:
        cells["token_analysis"] = token_analysis(settings, tables.token_analysis)
    if tables.accuracy_throughput and tables.table_5:
        cells["accuracy_throughput"] = accuracy_throughput(settings, tables.table_5)
    if tables.ablation:
        cells["ablation"] = ablation(settings, tables.ablation)
    if tables.epochs:
        cells["epochs"] = epochs(settings, tables.epochs)
    return cells


def methods(settings: RunSettings) -> Table3:
    """Table 3, whose teacher and runs other tables read; params have it where these stand (checks.py)."""
    table = settings.study.tables.table_3
    assert table
    return table


def table_2(settings: RunSettings, table: Table2) -> Cells:
    """Rows: teachers. The student of this table has no distillation token (paper.md tells why)."""
    low, high = settings.resolutions
    cells: Cells = {}
    for teacher in table.teachers:
        runs = {
            "teacher": [settings.run(teacher, settings.labels, "", low, settings.seeds(teacher)[0])],
            "pretrained": settings.seeded(table.student, table.supervision, teacher, low),
            "finetuned": settings.seeded(table.student, table.supervision, teacher, high),
        }
        cells |= {(teacher, column, "class", settings.study.data.primary): group for column, group in runs.items()}
    return cells


def table_3(settings: RunSettings, table: Table3) -> Cells:
    """Rows: methods. The token rows are one training read through its heads."""
    low, high = settings.resolutions
    cells: Cells = {}
    for method, supervision in table.rows.items():
        for row, head in TOKEN_ROWS.items() if method == "token" else [(method, "class")]:
            for model, column, resolution in [
                *((model, model, low) for model in table.students),
                *((model, model + FINETUNED, high) for model in table.finetuned),
            ]:
                runs = settings.seeded(model, supervision, table.teacher, resolution)
                cells[row, column, head, settings.study.data.primary] = runs
    return cells


def table_4(settings: RunSettings, table: Table4) -> Cells:
    """Classifiers of the disagreement matrix; the n-th run of each is compared with the n-th of the others."""
    low, _ = settings.resolutions
    supervision = methods(settings).rows
    convnet = settings.run(table.teacher, settings.labels, "", low, settings.seeds(table.teacher)[0])
    token = settings.seeded(table.student, supervision["token"], table.teacher, low)
    rows: dict[str, tuple[str, list[Run]]] = {
        "ground_truth": ("class", []),
        "convnet": ("class", [convnet] * len(settings.seeds(table.student))),
        "deit": ("class", settings.seeded(table.student, supervision["labels"], table.teacher, low)),
        "token_class": ("class", token),
        "token_distillation": ("distillation", token),
        "token_fusion": ("fusion", token),
    }
    return {(row, "", head, settings.study.data.primary): runs for row, (head, runs) in rows.items()}


def table_5(settings: RunSettings, table: Table5) -> Cells:
    """Rows: networks; columns: evaluation sets (throughput comes from its own measurement)."""
    return {
        (row, name, head, name): runs
        for row, head, runs in [*networks(settings, table), *longer(settings, table)]
        for name in settings.study.data.evaluation
    }


def accuracy_throughput(settings: RunSettings, table: Table5) -> Cells:
    """The networks of Table 5, by family."""
    primary = settings.study.data.primary
    return {(row, family(settings, runs[0]), head, primary): runs for row, head, runs in networks(settings, table)}


def networks(settings: RunSettings, table: Table5) -> list[tuple[str, str, list[Run]]]:
    """Rows of Table 5 as (row, head, runs): convnets, DeiTs, distilled DeiTs."""
    low, high = settings.resolutions
    supervision, teacher = methods(settings).rows, methods(settings).teacher
    rows = [
        (name, "class", [settings.run(name, settings.labels, "", low, settings.seeds(name)[0])])
        for name in table.convnets
    ]
    for method, suffix, head in (("labels", "", "class"), ("token", "-token", "fusion")):
        for model in table.students:
            rows.append((model + suffix, head, settings.seeded(model, supervision[method], teacher, low)))
        for model in table.finetuned:
            rows.append((model + suffix + FINETUNED, head, settings.seeded(model, supervision[method], teacher, high)))
    return rows


def longer(settings: RunSettings, table: Table5) -> list[tuple[str, str, list[Run]]]:
    """Further rows of distilled students, those of longer trainings, as in the last rows of the paper's Table 5."""
    low, high = settings.resolutions
    teacher = methods(settings).teacher
    return [
        (f"{model}-token{suffix}-{ending}", "fusion", settings.seeded(model, supervision, teacher, resolution))
        for ending, supervision in table.longer.items()
        for suffix, models, resolution in (("", table.students, low), (FINETUNED, table.finetuned, high))
        for model in models
    ]


def token_analysis(settings: RunSettings, table: TokenAnalysis) -> Cells:
    """Rows: students; columns: their distillation token, and the control, a second class token."""
    low, teacher = settings.resolutions[0], methods(settings).teacher
    cells: Cells = {}
    for column, loss, students in (("token", "token", table.students), ("two_class_tokens", TWO_TOKENS, table.control)):
        for model in students:
            supervision = next(name for name, objective in settings.study.supervision.items() if objective.loss == loss)
            cells[model, column, "class", ""] = settings.seeded(model, supervision, teacher, low)
    return cells


def ablation(settings: RunSettings, table: Ablation) -> Cells:
    """Rows: the study's recipe, then its variants; a fine-tuning starts from the variant's own pre-training."""
    low, high = settings.resolutions
    columns = {"pretrained": low} | ({"finetuned": high} if table.finetuned else {})
    return {
        (row, column, "class", settings.study.data.primary): settings.seeded(
            table.student, table.supervision, "", resolution, variant
        )
        for row, variant in ({"baseline": ""} | table.rows).items()
        for column, resolution in columns.items()
    }


def epochs(settings: RunSettings, table: Epochs) -> Cells:
    """Rows: methods; columns: epochs of pre-training, the shortest first."""
    low, _ = settings.resolutions
    cells: Cells = {}
    for method, supervision in table.rows.items():
        row, head = ("token_fusion", "fusion") if method == "token" else (method, "class")
        lengths = [settings.seeded(table.student, supervision, table.teacher, low, v) for v in ("", *table.variants)]
        for runs in sorted(lengths, key=lambda runs: settings.phase(runs[0]).epochs):
            cells[row, str(settings.phase(runs[0]).epochs), head, settings.study.data.primary] = runs
    return cells


def throughput_runs(settings: RunSettings) -> dict[str, Run]:
    """Label -> a run of the network, which need not be trained, for all networks of Tables 1 and 5."""
    tables, (low, high) = settings.study.tables, settings.resolutions
    students = [
        *(tables.table_1.models if tables.table_1 else []),
        *(tables.table_5.students if tables.table_5 else []),
    ]
    finetuned = tables.table_5.finetuned if tables.table_5 else []
    wanted = [(model, model, settings.labels, low) for model in (tables.table_5.convnets if tables.table_5 else [])]
    two_tokens = {"-token": tables.table_3.rows["token"]} if tables.table_3 else {}
    for suffix, supervision in ({"": settings.labels} | two_tokens).items():
        wanted += [(model + suffix, model, supervision, low) for model in dict.fromkeys(students)]
        wanted += [(model + suffix + FINETUNED, model, supervision, high) for model in finetuned]
    return {label: settings.run(model, supervision, "", size, 0) for label, model, supervision, size in wanted}
