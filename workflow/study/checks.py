"""Rules between the tables and the rest of a study; each broken one gives its key and a remedy."""

from collections.abc import Iterator

from study.models import token_problems, unknown_model
from study.problem import Problem, unknown
from study.study import Ablation, Epochs, Study, Table3, TokenAnalysis
from study.supervision import unknown_supervision


def table_problems(study: Study) -> Iterator[Problem]:
    """References from the tables to models, and what these models must be."""
    for table, key, names, kind in table_references(study):
        for name in names:
            yield from unknown_model(study.models, f"tables.{table}.{key}", name)
            if kind and name in study.models and study.models[name].kind != kind:
                text = f"'{name}' is a {study.models[name].kind}"
                yield Problem(f"tables.{table}.{key}", text, f"name a {kind}.", (f"models.{name}.kind",))
    tables = study.tables
    if not any(table for _, table in tables):
        yield Problem("tables", "names no table, so nothing would run", "add one (docs/params.md describes them).")
    if tables.table_2:
        key, name = "tables.table_2.supervision", tables.table_2.supervision
        yield from unknown_supervision(study.supervision, key, name)
        if name in study.supervision and not study.supervision[name].teacher_says:
            text = f"'{name}' takes no teacher, and Table 2 compares teachers"
            yield Problem(key, text, "name one that does (the paper: hard).", (f"supervision.{name}.loss",))
        if name in study.supervision:
            yield from token_problems(
                study.models, [tables.table_2.student], study.supervision[name], "Table 2's student"
            )
    if tables.table_3:
        yield from table_3_problems(study, tables.table_3)
    for table in ("table_4", "table_5", "token_analysis", "accuracy_throughput"):
        if getattr(tables, table) and not tables.table_3:
            remedy = f"add tables.table_3, or set tables.{table} to null."
            yield Problem(f"tables.{table}", "reads the runs of table_3", remedy, ("tables.table_3",))
    for ending, name in tables.table_5.longer.items() if tables.table_5 else ():
        key = f"tables.table_5.longer.{ending}"
        yield from unknown_supervision(study.supervision, key, name)
        yield from loss_problems(study, key, name, "token")
    if tables.accuracy_throughput and not tables.table_5:
        remedy = "add tables.table_5, or set tables.accuracy_throughput to null."
        yield Problem("tables.accuracy_throughput", "draws the networks of table_5", remedy, ("tables.table_5",))
    if tables.token_analysis:
        yield from analysis_problems(study, tables.token_analysis)
    if tables.ablation:
        yield from ablation_problems(study, tables.ablation)
    if tables.epochs:
        yield from epochs_problems(study, tables.epochs)


def loss_problems(study: Study, key: str, name: str, needed: str) -> Iterator[Problem]:
    """A supervision of another loss than the row is for."""
    if name in study.supervision and (loss := study.supervision[name].loss) != needed:
        text = f"'{name}' has the loss {loss}, not {needed}"
        yield Problem(key, text, f"name a supervision of the loss {needed}.", (f"supervision.{name}.loss",))


def table_3_problems(study: Study, table: Table3) -> Iterator[Problem]:
    needed = {"labels": "labels", "soft": "soft", "soft_mean": "soft", "hard": "hard", "token": "token"}
    for row, name in table.rows.items():
        key = f"tables.table_3.rows.{row}"
        yield from unknown_supervision(study.supervision, key, name)
        yield from loss_problems(study, key, name, needed[row])
    for row in ("labels", "token"):
        if row not in table.rows:
            text = "missing, and Tables 4 and 5 read these runs"
            yield Problem(f"tables.table_3.rows.{row}", text, f"add {row}: NAME of a supervision.")
    for name in table.finetuned:
        if name not in table.students:
            text = f"'{name}' is not among tables.table_3.students"
            yield Problem("tables.table_3.finetuned", text, "add it there, or remove it.", ("tables.table_3.students",))
    if (token := study.supervision.get(table.rows.get("token", ""))) is None:
        return
    yield from token_problems(study.models, table.students, token, "the token row of Table 3")
    yield from token_problems(study.models, table.finetuned, token, "the token row of Table 3")
    if study.tables.table_4:
        yield from token_problems(study.models, [study.tables.table_4.student], token, "Table 4's student")
    if study.tables.table_5:
        yield from token_problems(study.models, study.tables.table_5.students, token, "Table 5's student")
        yield from token_problems(study.models, study.tables.table_5.finetuned, token, "Table 5's student")
    if study.tables.token_analysis:
        analysed = [*study.tables.token_analysis.students, *study.tables.token_analysis.control]
        yield from token_problems(study.models, analysed, token, "the token analysis")


def table_references(study: Study) -> Iterator[tuple[str, str, list[str], str]]:
    tables = study.tables
    if tables.table_1:
        yield "table_1", "models", tables.table_1.models, "transformer"
    if tables.table_2:
        yield "table_2", "student", [tables.table_2.student], "transformer"
        yield "table_2", "teachers", tables.table_2.teachers, ""
    if tables.table_3:
        yield "table_3", "teacher", [tables.table_3.teacher], ""
        yield "table_3", "students", tables.table_3.students, "transformer"
    if tables.table_4:
        yield "table_4", "teacher", [tables.table_4.teacher], ""
        yield "table_4", "student", [tables.table_4.student], "transformer"
    if tables.table_5:
        yield "table_5", "convnets", tables.table_5.convnets, "convnet"
        yield "table_5", "students", tables.table_5.students, "transformer"
        yield "table_5", "finetuned", tables.table_5.finetuned, "transformer"
    if tables.ablation:
        yield "ablation", "student", [tables.ablation.student], "transformer"
    if tables.epochs:
        yield "epochs", "teacher", [tables.epochs.teacher], ""
        yield "epochs", "student", [tables.epochs.student], "transformer"
    if tables.token_analysis:
        yield "token_analysis", "students", tables.token_analysis.students, "transformer"
        yield "token_analysis", "control", tables.token_analysis.control, "transformer"


def analysis_problems(study: Study, table: TokenAnalysis) -> Iterator[Problem]:
    key, losses = "tables.token_analysis", {objective.loss for objective in study.supervision.values()}
    needed = {"token": ("the token analysis reads its runs", (key,))}
    if table.control:
        needed["two-class-tokens"] = (f"{key}.control reads its runs", (f"{key}.control",))
    for loss, (reason, keys) in needed.items():
        if loss not in losses:
            text = f"none has the loss {loss}, and {reason}"
            yield Problem("supervision", text, f"add {loss}: {{loss: {loss}}}.", keys)


def ablation_problems(study: Study, table: Ablation) -> Iterator[Problem]:
    key = "tables.ablation"
    yield from unknown_supervision(study.supervision, f"{key}.supervision", table.supervision)
    if table.supervision in study.supervision and study.supervision[table.supervision].teacher_says:
        text, others = f"'{table.supervision}' takes a teacher", (f"supervision.{table.supervision}.loss",)
        yield Problem(f"{key}.supervision", text, "name one that learns from labels alone.", others)
    if table.supervision in study.supervision:
        yield from token_problems(
            study.models, [table.student], study.supervision[table.supervision], "the ablation's student"
        )
    for row, variant in table.rows.items():
        yield from unknown(f"{key}.rows.{row}", variant, study.variants, "variant", "variants")
        if row == "baseline":
            yield Problem(
                f"{key}.rows.baseline", "is the study's own recipe, and stands there already", "rename the row."
            )
        if variant in study.variants and not table.finetuned and not study.variants[variant].changes_pretraining:
            text, others = f"'{variant}' changes fine-tuning alone", (f"{key}.finetuned", f"variants.{variant}")
            yield Problem(f"{key}.rows.{row}", text, "set tables.ablation.finetuned: true.", others)


def epochs_problems(study: Study, table: Epochs) -> Iterator[Problem]:
    key = "tables.epochs"
    for name in table.variants:
        yield from unknown(f"{key}.variants", name, study.variants, "variant", "variants")
    for row, name in table.rows.items():
        yield from unknown_supervision(study.supervision, f"{key}.rows.{row}", name)
        if name not in study.supervision:
            continue
        yield from loss_problems(study, f"{key}.rows.{row}", name, row)
        yield from token_problems(
            study.models, [table.student], study.supervision[name], "the student of the epochs figure"
        )
    known = [name for name in table.rows.values() if name in study.supervision]
    yield from dict.fromkeys(problem for name in known for problem in length_problems(study, table, name))


def length_problems(study: Study, table: Epochs, supervision: str) -> Iterator[Problem]:
    """Two trainings of one length would stand in one cell, and rows of other lengths not below each other."""
    own = study.phase("students", table.student, supervision).epochs
    if own != study.students.epochs:
        key = f"students.runs.{table.student}"
        text = f"gives runs of tables.epochs {own} epochs in place of {study.students.epochs}"
        yield Problem(key, text, "take that away.", ("students.epochs", "tables.epochs"))
    lengths = {own: "the study itself"}
    for name in table.variants:
        if name in study.variants:
            length = study.variants[name].students.get("epochs", own)
            if length in lengths:
                text = f"'{name}' trains for {length} epochs, as {lengths[length]} does"
                others = (f"variants.{name}.students.epochs", "students.epochs")
                yield Problem("tables.epochs.variants", text, "change one.", others)
            lengths[length] = f"'{name}'"
