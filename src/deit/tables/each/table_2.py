"""Table 2: the teacher matters."""

from typing import Any

from deit.bounds import Mistake, Name, SomeNames
from deit.tables.asked import Runs, TableParams, Wanted, of_labels
from deit.tables.checks import Checked, known_models, known_supervision, one_token
from deit.tables.definition import Definition
from deit.tables.paper_findings import Claim, Layout, Pair, phases


class Table2(TableParams):
    """The teacher matters."""

    student: Name
    """The model that learns from each of the teachers; the paper's DeiT-B."""
    supervision: Name
    """Name of the supervision by which it learns. The paper does not say; its last row equals Table 3's hard
    distillation, so `hard`, without a distillation token."""
    teachers: SomeNames
    """Its rows: models, each trained from labels. Each costs a training and an adaptation, two caches, a student and
    its fine-tuning."""


def checks(params: Table2, study: Any) -> Checked:
    key, name = "tables.table_2.supervision", params.supervision
    yield from known_models(study, "tables.table_2.student", [params.student], "transformer")
    yield from known_models(study, "tables.table_2.teachers", params.teachers)
    yield from known_supervision(study, key, name)
    if name in study.supervision and not study.supervision[name].teacher_says:
        text = f"'{name}' takes no teacher, and Table 2 compares teachers"
        yield Mistake(key, text, "name one that does (the paper: hard).", (f"supervision.{name}.loss",))
    yield from one_token(study, key, name, "Table 2's student")


def cells(params: Table2, runs: Runs) -> Wanted:
    """Rows: teachers. The student of this table has no distillation token."""
    low, high = runs.resolutions
    wanted: Wanted = {}
    for teacher in params.teachers:
        columns = {
            "teacher": of_labels(runs, teacher),
            "pretrained": runs.seeded(params.student, params.supervision, teacher, low),
            "finetuned": runs.seeded(params.student, params.supervision, teacher, high),
        }
        wanted |= {(teacher, column, "class", runs.study.data.primary): group for column, group in columns.items()}
    return wanted


def convnets_over_transformers(layout: Layout) -> list[Pair]:
    """Students, by what their teachers are."""
    return [
        Pair(
            what=layout.title(convnet) + (" ↑" if phase == "finetuned" else ""),
            better=(convnet, phase),
            worse=(transformer, phase),
            part=layout.title(convnet),
        )
        for convnet in of_family(layout, "convnet")
        for transformer in of_family(layout, "deit")
        for phase in phases(layout)
    ]


def students_over_teachers(layout: Layout) -> list[Pair]:
    return [
        Pair(what=layout.title(row), better=(row, phase), worse=(row, "teacher"), shared=True)
        for row in of_family(layout, "convnet")
        for phase in phases(layout)[-1:]
    ]


def of_family(layout: Layout, family: str) -> list[str]:
    return [row for row in layout.rows if layout.families.get(row) == family]


TABLE = Definition(
    place=2,
    number="Table 2",
    caption="The teacher matters: students of different teachers",
    heading="Table 2: the teacher matters",
    story="Students of the same size, trained by hard distillation without a distillation token, that differ in "
    "nothing but their teacher; then fine-tuned at the higher resolution (↑) with the teacher at that resolution.",
    about="The teacher matters: one student, many teachers.",
    params=Table2,
    cells=cells,
    checks=checks,
    of_networks=True,
    block="column",
    claims=(
        Claim(
            key="convnets_teach_better",
            text="Every convnet is a better teacher than the transformer, for the same student.",
            pairs=convnets_over_transformers,
            over="resolutions",
            each="convnet",
            of_teachers=True,
        ),
        Claim(
            key="student_over_teacher",
            text="The fine-tuned student is better than its convnet teacher.",
            pairs=students_over_teachers,
            over="teachers",
            of_teachers=True,
        ),
    ),
)
