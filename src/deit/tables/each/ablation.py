"""Ablation: the training recipe, one ingredient at a time (paper, Table 8)."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from deit.bounds import Mistake, Name
from deit.tables.asked import Runs, TableParams, Wanted
from deit.tables.checks import Checked, Reference, known_models, known_supervision, token_variants
from deit.tables.definition import Definition
from deit.tables.paper_findings import MARGIN, Claim, Layout, Pair, phases

AUGMENTATIONS = {
    "no_randaugment": "RandAugment",
    "no_mixup": "mixup",
    "no_cutmix": "cutmix",
    "no_mixup_cutmix": "mixup and cutmix",
    "no_erasing": "random erasing",
}
"""Rows -> what each leaves out of the recipe."""
INGREDIENTS = {
    "baseline": "recipe",
    **dict.fromkeys(("sgd_pretraining", "sgd_finetuning"), "optimiser"),
    **dict.fromkeys(("no_randaugment", "autoaugment", "no_mixup", "no_cutmix", "no_mixup_cutmix"), "augmentation"),
    "no_erasing": "augmentation",
    **dict.fromkeys(("no_stochastic_depth", "stochastic_depth", "no_repeats", "repeats"), "regularisation"),
    **dict.fromkeys(("dropout", "ema"), "regularisation"),
}
"""Rows -> what they change. A study's further rows are another part of the table."""
DIVERGED = "In the paper, training without {} diverged, so its difference cannot be compared with the others."


class Ablation(TableParams):
    """The training recipe, one ingredient at a time (paper, Table 8)."""

    student: Name
    """Of all rows; the paper's is DeiT-B."""
    supervision: Name
    """Of all rows; one that learns from labels alone, as the paper's."""
    finetuned: bool = False
    """With a column of the fine-tuned runs, too."""
    rows: Annotated[dict[Name, Name], Field(min_length=1)]
    """Row -> variant. `baseline`, the study's own recipe, stands above them."""


def checks(params: Ablation, study: Any) -> Checked:
    key, name = "tables.ablation", params.supervision
    yield from known_models(study, f"{key}.student", [params.student], "transformer")
    yield from known_supervision(study, f"{key}.supervision", name)
    if name in study.supervision and study.supervision[name].teacher_says:
        text, others = f"'{name}' takes a teacher", (f"supervision.{name}.loss",)
        yield Mistake(f"{key}.supervision", text, "name one that learns from labels alone.", others)
    yield from token_variants(study, [params.student], name, "the ablation's student")
    for row, variant in params.rows.items():
        yield Reference(f"{key}.rows.{row}", variant, "variant")
        if row == "baseline":
            yield Mistake(
                f"{key}.rows.baseline", "is the study's own recipe, and stands there already", "rename the row."
            )
        if variant in study.variants and not params.finetuned and not study.variants[variant].changes_pretraining:
            text, others = f"'{variant}' changes fine-tuning alone", (f"{key}.finetuned", f"variants.{variant}")
            yield Mistake(f"{key}.rows.{row}", text, "set tables.ablation.finetuned: true.", others)


def cells(params: Ablation, runs: Runs) -> Wanted:
    """Rows: the study's recipe, then its variants; a fine-tuning starts from the variant's own pre-training."""
    low, high = runs.resolutions
    columns = {"pretrained": low} | ({"finetuned": high} if params.finetuned else {})
    return {
        (row, column, "class", runs.study.data.primary): runs.seeded(
            params.student, params.supervision, "", resolution, variant
        )
        for row, variant in ({"baseline": ""} | params.rows).items()
        for column, resolution in columns.items()
    }


def recipe_over(row: str, what: str, part: str = "") -> Callable[[Layout], list[Pair]]:
    """The baseline minus a row that changes one ingredient, in each phase."""
    return lambda layout: [
        Pair(what=what + arrow, better=("baseline", phase), worse=(row, phase), part=part)
        for phase, arrow in arrows(layout)
    ]


def augmentations(layout: Layout) -> list[Pair]:
    present = [(row, what) for row, what in AUGMENTATIONS.items() if row in layout.rows]
    return [pair for row, what in present for pair in recipe_over(row, what, what)(layout)]


def with_over_without(ingredient: str, what: str) -> Callable[[Layout], list[Pair]]:
    """An ingredient that one study's recipe has and a row leaves out; another's has none, and a row adds it.

    The paper's, beside either, leaves it out.
    """
    without = f"no_{ingredient}"

    def pairs(layout: Layout) -> list[Pair]:
        return [
            Pair(
                what=what + arrow + how,
                better=(better, phase),
                worse=(worse, phase),
                there=(("baseline", phase), (without, phase)),
            )
            for better, worse, how in (("baseline", without, ""), (ingredient, "baseline", ", added"))
            for phase, arrow in arrows(layout)
            if {better, worse} <= set(layout.rows)
        ]

    return pairs


def row_over_recipe(row: str, what: str) -> Callable[[Layout], list[Pair]]:
    """A row minus the baseline, in each phase."""
    return lambda layout: [
        Pair(what=what + arrow, better=(row, phase), worse=("baseline", phase)) for phase, arrow in arrows(layout)
    ]


def arrows(layout: Layout) -> list[tuple[str, str]]:
    """Phases, and what marks each in a comparison's name."""
    return [(phase, " ↑" if phase == "finetuned" else "") for phase in phases(layout)]


PHASES = "resolutions"
CLAIMS = (
    Claim(
        key="adamw_over_sgd",
        text="AdamW beats SGD in pre-training.",
        pairs=recipe_over("sgd_pretraining", "AdamW"),
        over=PHASES,
        rows=("sgd_pretraining",),
    ),
    Claim(
        key="augmentation_helps",
        text="Every augmentation of the recipe helps.",
        pairs=augmentations,
        over=PHASES,
        each="augmentation",
        remark=DIVERGED.format("random erasing"),
        rows=tuple(AUGMENTATIONS),
    ),
    Claim(
        key="autoaugment_no_better",
        text=f"AutoAugment is no better than RandAugment, within {MARGIN:g} points.",
        pairs=recipe_over("autoaugment", "RandAugment over AutoAugment"),
        over=PHASES,
        threshold=-MARGIN,
        rows=("autoaugment",),
    ),
    Claim(
        key="stochastic_depth_helps",
        text="Stochastic depth helps.",
        pairs=with_over_without("stochastic_depth", "stochastic depth"),
        over=PHASES,
        remark=DIVERGED.format("it"),
        rows=("stochastic_depth", "no_stochastic_depth"),
    ),
    Claim(
        key="repeats_help",
        text="Repeated augmentation helps.",
        pairs=with_over_without("repeats", "repeated augmentation"),
        over=PHASES,
        rows=("repeats", "no_repeats"),
    ),
    Claim(
        key="dropout_equals_none",
        text=f"Dropout changes nothing, within {MARGIN:g} points.",
        pairs=row_over_recipe("dropout", "dropout"),
        over=PHASES,
        threshold=MARGIN,
        side="within",
        rows=("dropout",),
    ),
    Claim(
        key="ema_equals_none",
        text=f"An exponential moving average of the weights changes nothing, within {MARGIN:g} points.",
        pairs=row_over_recipe("ema", "exponential moving average"),
        over=PHASES,
        threshold=MARGIN,
        side="within",
        rows=("ema",),
    ),
)

TABLE = Definition(
    place=7,
    number="Ablation",
    caption="The training recipe, one ingredient changed a row",
    heading="Ablation: the training recipe",
    story="The same student from labels, each row with one ingredient of the recipe changed (paper, Table 8); ↑: "
    "fine-tuned at the higher resolution from that row's own pre-training.",
    about="The training recipe, one ingredient changed a row: a run, or two, for each.",
    titles={
        "pretrained": "accuracy",
        "finetuned": "accuracy ↑",
        "baseline": "the study’s recipe",
        "sgd_pretraining": "SGD for pre-training",
        "sgd_finetuning": "SGD for fine-tuning",
        "no_randaugment": "no RandAugment",
        "autoaugment": "AutoAugment for RandAugment",
        "no_mixup": "no mixup",
        "no_cutmix": "no cutmix",
        "no_mixup_cutmix": "neither mixup nor cutmix",
        "no_erasing": "no random erasing",
        "no_stochastic_depth": "no stochastic depth",
        "stochastic_depth": "stochastic depth",
        "no_repeats": "no repeated augmentation",
        "repeats": "repeated augmentation",
        "dropout": "dropout",
        "ema": "exponential moving average",
    },
    params=Ablation,
    cells=cells,
    checks=checks,
    block="column",
    claims=CLAIMS,
    # The paper is on distillation; which ingredients its recipe needs is another question, and a study may ask it or
    # not. In one family these seven claims would raise the bar for all the others.
    family="training recipe",
    parts=INGREDIENTS,
    guide="Each row changes the recipe in one point, and no row is in bold, because the best of so many is partly best "
    "by chance. The findings tell which rows differ from the recipe, and are a family of their own, corrected for "
    "their own number.",
)
