"""Table 3: the distillation method."""

from collections.abc import Callable
from typing import Any, Literal

from deit.bounds import Mistake, Name, Names, SomeNames
from deit.tables.asked import FINETUNED, TOKEN_ROWS, Runs, TableParams, Wanted
from deit.tables.checks import Checked, known_models, known_supervision, token_variants
from deit.tables.definition import Definition
from deit.tables.paper_findings import MARGIN, Claim, Layout, Pair

LOSSES = {"labels": "labels", "soft": "soft", "soft_mean": "soft", "hard": "hard", "token": "token"}
"""Method -> the loss of its supervision."""
AVERAGED = "with the KL averaged over classes, as the original runs had it"


class Table3(TableParams):
    """The distillation method."""

    teacher: Name
    """The model from which all students learn, itself trained from labels; the paper's RegNetY-16GF."""
    students: SomeNames
    """Its columns at the lower resolution: models, each trained once a row."""
    finetuned: Names
    """Of them, those with a column at the higher resolution; the paper's DeiT-B. Each row is then fine-tuned."""
    rows: dict[Literal["labels", "soft", "soft_mean", "hard", "token"], Name]
    """Method -> name of the supervision. `labels` and `token` are needed, by Tables 4 and 5; the three ⚗ rows are the
    one run of `token`, read through its heads. `soft_mean`: soft with `reduction: mean`."""


def checks(params: Table3, study: Any) -> Checked:
    yield from known_models(study, "tables.table_3.teacher", [params.teacher])
    yield from known_models(study, "tables.table_3.students", params.students, "transformer")
    for row, name in params.rows.items():
        yield from known_supervision(study, f"tables.table_3.rows.{row}", name, LOSSES[row])
    for row in ("labels", "token"):
        if row not in params.rows:
            text = "missing, and Tables 4 and 5 read these runs"
            yield Mistake(f"tables.table_3.rows.{row}", text, f"add {row}: NAME of a supervision.")
    for name in params.finetuned:
        if name not in params.students:
            text = f"'{name}' is not among tables.table_3.students"
            yield Mistake("tables.table_3.finetuned", text, "add it there, or remove it.", ("tables.table_3.students",))
    students = [*params.students, *params.finetuned]
    yield from token_variants(study, students, params.rows.get("token", ""), "the token row of Table 3")


def cells(params: Table3, runs: Runs) -> Wanted:
    """Rows: methods. The token rows are one training read through its heads."""
    low, high = runs.resolutions
    wanted: Wanted = {}
    for method, supervision in params.rows.items():
        for row, head in TOKEN_ROWS.items() if method == "token" else [(method, "class")]:
            for model, column, resolution in [
                *((model, model, low) for model in params.students),
                *((model, model + FINETUNED, high) for model in params.finetuned),
            ]:
                group = runs.seeded(model, supervision, params.teacher, resolution)
                wanted[row, column, head, runs.study.data.primary] = group
    return wanted


def over(better: str, worse: str, finetuned: bool = True) -> Callable[[Layout], list[Pair]]:
    """One method minus another, in each column; of the sizes as pre-trained only, if so asked."""
    return lambda layout: [
        Pair(what=layout.title(column), better=(better, column), worse=(worse, column), network=network(column))
        for column in layout.columns
        if finetuned or not column.endswith(FINETUNED)
    ]


def network(column: str) -> str:
    """A size is one network, which is fine-tuned from its own pre-training."""
    return column.removesuffix(FINETUNED)


def fusion_over_heads(layout: Layout) -> list[Pair]:
    return [
        Pair(
            what=f"{layout.title(column)} over {head}",
            better=("token_fusion", column),
            worse=(f"token_{head}", column),
            part=f"over {head}",
            network=network(column),
        )
        for head in ("class", "distillation")
        for column in layout.columns
    ]


def finetuned_over_pretrained(layout: Layout) -> list[Pair]:
    columns = [column for column in layout.columns if column.endswith(FINETUNED)]
    return [
        Pair(
            what=", ".join([layout.title(row)] + [layout.title(column)] * (len(columns) > 1)),
            better=(row, column),
            worse=(row, network(column)),
            network=network(column),
        )
        for row in ("labels", "soft", "hard", "token_fusion")
        for column in columns
    ]


SIZES = "sizes and resolutions"
CLAIMS = (
    Claim(
        key="hard_over_none",
        text="Hard distillation beats no distillation.",
        pairs=over("hard", "labels", finetuned=False),
        over="sizes",
        of_teachers=True,
    ),
    Claim(
        key="hard_over_soft",
        text="Hard distillation beats usual (soft) distillation.",
        pairs=over("hard", "soft"),
        over=SIZES,
        of_teachers=True,
    ),
    Claim(
        key="hard_over_soft_mean",
        text=f"Hard distillation beats usual (soft) distillation {AVERAGED}.",
        pairs=over("hard", "soft_mean"),
        over=SIZES,
        rows=("soft_mean",),
        of_teachers=True,
    ),
    Claim(
        key="soft_equals_none",
        text=f"Usual (soft) distillation equals no distillation, within {MARGIN:g} points.",
        pairs=over("soft", "labels"),
        over=SIZES,
        threshold=MARGIN,
        side="within",
        rows=("soft",),
        of_teachers=True,
    ),
    Claim(
        key="soft_mean_equals_none",
        text=f"Usual (soft) distillation {AVERAGED}, equals no distillation, within {MARGIN:g} points.",
        pairs=over("soft_mean", "labels"),
        over=SIZES,
        threshold=MARGIN,
        side="within",
        rows=("soft_mean",),
        of_teachers=True,
    ),
    Claim(
        key="token_over_hard",
        text="The distillation token, read by class + distillation, beats hard distillation without it.",
        pairs=over("token_fusion", "hard"),
        over=SIZES,
        of_teachers=True,
    ),
    Claim(
        key="fusion_not_below_heads",
        text=f"Class + distillation is at least as good as either head, within {MARGIN:g} points.",
        pairs=fusion_over_heads,
        over=SIZES,
        each="head",
        threshold=-MARGIN,
    ),
    Claim(
        key="distillation_over_class",
        text="The distillation embedding is better than the class embedding.",
        pairs=over("token_distillation", "token_class"),
        over=SIZES,
    ),
    Claim(
        key="finetuning_helps",
        text="Fine-tuning at the higher resolution helps.",
        pairs=finetuned_over_pretrained,
        over="methods and sizes",
    ),
)

TABLE = Definition(
    place=3,
    number="Table 3",
    caption="The distillation method",
    heading="Table 3: the distillation method",
    story="The same teacher, the same views, different objectives (section 4). The rows with a distillation token (⚗) "
    "are one training, read through its class head, its distillation head and the sum of their softmaxes. True labels "
    "are in the loss of every row.",
    about="The distillation method: methods by students. Tables 4 and 5, the token analysis and the figure read its "
    "runs.",
    params=Table3,
    cells=cells,
    checks=checks,
    of_networks=True,
    block="column",
    claims=CLAIMS,
)
