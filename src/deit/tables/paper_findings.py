"""The paper's findings: which cells each compares, and where it wants their difference. The one place that says so."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from .titles import title

MARGIN = 0.5
"""Points of accuracy. Two methods that surely differ by less are called equal, and one that surely falls short of
another by less is called at least as good. The paper's gains that it calls an improvement are 0.5 to 2 points, the
standard deviation over seeds that it gives is 0.2."""
ORTHOGONAL = 0.2
"""Two tokens whose cosine is surely nearer to zero are called nearly orthogonal (79 to 101 degrees; the paper: .06)."""
AVERAGED = "with the KL averaged over classes, as the original runs had it"
FINETUNED = "-finetuned"
AUGMENTATIONS = {
    "no_randaugment": "RandAugment",
    "no_mixup": "mixup",
    "no_cutmix": "cutmix",
    "no_mixup_cutmix": "mixup and cutmix",
    "no_erasing": "random erasing",
}
"""Rows of the ablation -> what each leaves out of the recipe."""

Family = Literal["distillation", "training recipe"]
"""Findings that one question asks for, and that are corrected together for their number."""
FAMILIES: dict[str, Family] = {"ablation": "training recipe"}
"""Table -> family of its findings, `distillation` where it is not named. By table and so by design, never by results.

The paper is on distillation; which ingredients its recipe needs is another question, and a study may ask it or not.
In one family an ablation's seven claims would raise the bar for all the others."""

Place = tuple[str, str]
"""Row and column of a cell."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One comparison that a finding rests on: a cell minus another, or (worse = None) a cell alone."""

    what: str
    better: Place
    worse: Place | None = None
    threshold: float = 0.0
    expected: Literal["above", "below"] = "above"
    """On which side of the threshold the claim wants the difference."""
    shared: bool = False
    """Whether a side of a single run is one network that all seeds of the other meet (a teacher)."""
    there: tuple[Place, Place] | None = None
    """The two cells of the paper's table whose difference stands beside, if they are others."""


@dataclass(frozen=True)
class Layout:
    """What a table compares with what depends on its rows and columns."""

    rows: Sequence[str]
    columns: Sequence[str]
    titles: Mapping[str, str] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    """Of Table 2's teachers: convnet or deit."""

    def title(self, key: str) -> str:
        return title(key, self.titles)

    @property
    def sizes(self) -> list[str]:
        """Table 3's columns without the fine-tuned ones."""
        return [column for column in self.columns if not column.endswith(FINETUNED)]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A finding of the paper that a table can tell of."""

    key: str
    table: str
    text: str
    pairs: Callable[[Layout], list[Pair]]
    remark: str = ""
    rows: tuple[str, ...] = ()
    """Where it is not empty, the finding is spoken of only if the table has any of these rows."""

    def is_of(self, table: str, rows: Sequence[str]) -> bool:
        return self.table == table and (not self.rows or not set(self.rows).isdisjoint(rows))


def over(better: str, worse: str, finetuned: bool = True) -> Callable[[Layout], list[Pair]]:
    """One method of Table 3 better than another, in each column; of the sizes as pre-trained only, if so asked."""
    return lambda layout: [
        Pair(what=layout.title(column), better=(better, column), worse=(worse, column))
        for column in (layout.columns if finetuned else layout.sizes)
    ]


def equal(one: str, other: str) -> Callable[[Layout], list[Pair]]:
    """Two methods of Table 3 equal within the margin in each column: two one-sided tests each."""
    return lambda layout: [
        Pair(what=layout.title(column), better=(one, column), worse=(other, column), threshold=bound, expected=side)
        for column in layout.columns
        for bound, side in bounds(MARGIN)
    ]


def bounds(margin: float) -> Iterator[tuple[float, Literal["above", "below"]]]:
    yield -margin, "above"
    yield margin, "below"


def fusion_over_heads(layout: Layout) -> list[Pair]:
    return [
        Pair(
            what=f"{layout.title(column)} over {head}",
            better=("token_fusion", column),
            worse=(f"token_{head}", column),
            threshold=-MARGIN,
        )
        for column in layout.columns
        for head in ("class", "distillation")
    ]


def finetuned_over_pretrained(layout: Layout) -> list[Pair]:
    columns = [column for column in layout.columns if column.endswith(FINETUNED)]
    return [
        Pair(
            what=", ".join([layout.title(row)] + [layout.title(column)] * (len(columns) > 1)),
            better=(row, column),
            worse=(row, column.removesuffix(FINETUNED)),
        )
        for row in ("labels", "soft", "hard", "token_fusion")
        for column in columns
    ]


def convnets_over_transformers(layout: Layout) -> list[Pair]:
    """Students of Table 2, by what their teachers are."""
    return [
        Pair(
            what=layout.title(convnet) + (" ↑" if phase == "finetuned" else ""),
            better=(convnet, phase),
            worse=(transformer, phase),
        )
        for transformer in of_family(layout, "deit")
        for phase in phases(layout)
        for convnet in of_family(layout, "convnet")
    ]


def students_over_teachers(layout: Layout) -> list[Pair]:
    return [
        Pair(what=layout.title(row), better=(row, phase), worse=(row, "teacher"), shared=True)
        for row in of_family(layout, "convnet")
        for phase in phases(layout)[-1:]
    ]


def of_family(layout: Layout, family: str) -> list[str]:
    return [row for row in layout.rows if layout.families.get(row) == family]


def phases(layout: Layout) -> list[str]:
    return [phase for phase in ("pretrained", "finetuned") if phase in layout.columns]


def nearer_to_the_convnet(layout: Layout) -> list[Pair]:
    """Table 4: the farther minus the nearer, in disagreement with the convnet."""
    return [
        Pair(
            what=f"{layout.title(farther)} farther than {layout.title(nearer)}",
            better=("convnet", farther),
            worse=("convnet", nearer),
        )
        for farther, nearer in (("deit", "token_class"), ("token_class", "token_distillation"))
    ]


def token_columns(layout: Layout) -> list[str]:
    return [column for column in layout.columns if column.endswith("/token")]


def orthogonal_at_the_input(layout: Layout) -> list[Pair]:
    return [
        Pair(what=layout.title(column), better=("input", column), threshold=bound, expected=side)
        for column in token_columns(layout)
        for bound, side in bounds(ORTHOGONAL)
    ]


def layer_over_layer(layout: Layout) -> list[Pair]:
    """Students may differ in depth: a layer that one lacks is a cell that the table does not have."""
    return [
        Pair(
            what=", ".join(filter(None, (layout.title(column), f"{layout.title(before)} → {layout.title(row)}"))),
            better=(row, column),
            worse=(before, column),
        )
        for column in token_columns(layout)
        for before, row in zip(layout.rows, layout.rows[1:], strict=False)
    ]


def control_over_token(layout: Layout) -> list[Pair]:
    """At the last layer."""
    return [
        Pair(what=layout.title(column), better=(layout.rows[-1], control), worse=(layout.rows[-1], column))
        for column in token_columns(layout)
        if (control := column.replace("/token", "/two_class_tokens")) in layout.columns
    ]


def longest_over_shortest(*methods: str) -> Callable[[Layout], list[Pair]]:
    """Of the epochs figure. The paper's difference is that of its own lengths, which may be others."""

    def pairs(layout: Layout) -> list[Pair]:
        shortest, longest = min(layout.columns, key=int), max(layout.columns, key=int)
        return [
            Pair(
                what=f"{layout.title(method)}, {shortest} → {layout.title(longest)}",
                better=(method, longest),
                worse=(method, shortest),
                there=((method, "1000"), (method, "300")),
            )
            for method in methods
            if method in layout.rows and shortest != longest
        ]

    return pairs


def recipe_over(row: str, what: str, threshold: float = 0.0) -> Callable[[Layout], list[Pair]]:
    """The ablation's baseline over a row that changes one ingredient, in each phase."""
    return lambda layout: [
        Pair(what=what + arrow, better=("baseline", phase), worse=(row, phase), threshold=threshold)
        for phase, arrow in arrows(layout)
    ]


def augmentations(layout: Layout) -> list[Pair]:
    present = [(row, what) for row, what in AUGMENTATIONS.items() if row in layout.rows]
    return [pair for row, what in present for pair in recipe_over(row, what)(layout)]


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


def changes_nothing(row: str, what: str) -> Callable[[Layout], list[Pair]]:
    """A row of the ablation equal to the baseline within the margin, in each phase: two one-sided tests each."""
    return lambda layout: [
        Pair(what=what + arrow, better=(row, phase), worse=("baseline", phase), threshold=bound, expected=side)
        for phase, arrow in arrows(layout)
        for bound, side in bounds(MARGIN)
    ]


def arrows(layout: Layout) -> list[tuple[str, str]]:
    """Phases, and what marks each in a comparison's name."""
    return [(phase, " ↑" if phase == "finetuned" else "") for phase in phases(layout)]


DIVERGED = "In the paper training without {} diverged: its difference is no gain like the others."

CLAIMS = (
    Claim(
        key="hard_over_none",
        table="table_3",
        text="Hard distillation beats no distillation at every size.",
        pairs=over("hard", "labels", finetuned=False),
    ),
    Claim(
        key="hard_over_soft",
        table="table_3",
        text="Hard distillation beats usual (soft) distillation at every size.",
        pairs=over("hard", "soft"),
    ),
    Claim(
        key="hard_over_soft_mean",
        table="table_3",
        text=f"Hard distillation beats usual (soft) distillation {AVERAGED}, at every size.",
        pairs=over("hard", "soft_mean"),
        rows=("soft_mean",),
    ),
    Claim(
        key="soft_equals_none",
        table="table_3",
        text=f"Usual (soft) distillation equals no distillation, within {MARGIN:g} points.",
        pairs=equal("soft", "labels"),
        rows=("soft",),
    ),
    Claim(
        key="soft_mean_equals_none",
        table="table_3",
        text=f"Usual (soft) distillation {AVERAGED}, equals no distillation, within {MARGIN:g} points.",
        pairs=equal("soft_mean", "labels"),
        rows=("soft_mean",),
    ),
    Claim(
        key="token_over_hard",
        table="table_3",
        text="The distillation token, read by class + distillation, beats hard distillation without it.",
        pairs=over("token_fusion", "hard"),
    ),
    Claim(
        key="fusion_not_below_heads",
        table="table_3",
        text=f"Class + distillation is at least as good as either head, within {MARGIN:g} points.",
        pairs=fusion_over_heads,
    ),
    Claim(
        key="distillation_over_class",
        table="table_3",
        text="The distillation embedding is better than the class embedding.",
        pairs=over("token_distillation", "token_class"),
    ),
    Claim(
        key="finetuning_helps",
        table="table_3",
        text="Fine-tuning at the higher resolution helps.",
        pairs=finetuned_over_pretrained,
    ),
    Claim(
        key="convnets_teach_better",
        table="table_2",
        text="Every convnet is a better teacher than the transformer, for the same student.",
        pairs=convnets_over_transformers,
    ),
    Claim(
        key="student_over_teacher",
        table="table_2",
        text="The student, fine-tuned, outgrows its convnet teacher.",
        pairs=students_over_teachers,
    ),
    Claim(
        key="nearer_to_the_convnet",
        table="table_4",
        text="Distillation brings decisions nearer to the convnet’s, those of the distillation head most.",
        pairs=nearer_to_the_convnet,
        remark="Differences of the fraction of images on which each decides differently from the convnet.",
    ),
    Claim(
        key="tokens_start_apart",
        table="token_analysis",
        text=f"The two tokens start nearly orthogonal: a cosine within {ORTHOGONAL:g} of zero at the input.",
        pairs=orthogonal_at_the_input,
    ),
    Claim(
        key="tokens_grow_alike",
        table="token_analysis",
        text="The two tokens’ embeddings grow alike layer by layer.",
        pairs=layer_over_layer,
        remark="Differences of the cosine from one layer to the next.",
    ),
    Claim(
        key="tokens_stay_apart",
        table="token_analysis",
        text="At the last layer they are less alike than two class tokens would be.",
        pairs=control_over_token,
        remark="The control’s cosine minus the distillation token’s.",
    ),
    Claim(
        key="longer_training",
        table="epochs",
        text="Hard distillation, with and without the token, goes on gaining from longer training.",
        pairs=longest_over_shortest("hard", "token_fusion"),
        remark="The paper’s differences: 300 → 1,000 epochs of ImageNet.",
        rows=("hard", "token_fusion"),
    ),
    Claim(
        key="adamw_over_sgd",
        table="ablation",
        text="AdamW beats SGD in pre-training.",
        pairs=recipe_over("sgd_pretraining", "AdamW"),
        rows=("sgd_pretraining",),
    ),
    Claim(
        key="augmentation_helps",
        table="ablation",
        text="Every augmentation of the recipe helps.",
        pairs=augmentations,
        remark=DIVERGED.format("random erasing"),
        rows=tuple(AUGMENTATIONS),
    ),
    Claim(
        key="autoaugment_no_better",
        table="ablation",
        text=f"AutoAugment is no better than RandAugment, within {MARGIN:g} points.",
        pairs=recipe_over("autoaugment", "RandAugment over AutoAugment", -MARGIN),
        rows=("autoaugment",),
    ),
    Claim(
        key="stochastic_depth_helps",
        table="ablation",
        text="Stochastic depth helps.",
        pairs=with_over_without("stochastic_depth", "stochastic depth"),
        remark=DIVERGED.format("it"),
        rows=("stochastic_depth", "no_stochastic_depth"),
    ),
    Claim(
        key="repeats_help",
        table="ablation",
        text="Repeated augmentation helps.",
        pairs=with_over_without("repeats", "repeated augmentation"),
        rows=("repeats", "no_repeats"),
    ),
    Claim(
        key="dropout_equals_none",
        table="ablation",
        text=f"Dropout changes nothing, within {MARGIN:g} points.",
        pairs=changes_nothing("dropout", "dropout"),
        rows=("dropout",),
    ),
    Claim(
        key="ema_equals_none",
        table="ablation",
        text=f"An exponential moving average of the weights changes nothing, within {MARGIN:g} points.",
        pairs=changes_nothing("ema", "exponential moving average"),
        rows=("ema",),
    ),
)


def claims_of(table: str, rows: Sequence[str]) -> list[Claim]:
    """The findings of which a table with such rows can tell."""
    return [claim for claim in CLAIMS if claim.is_of(table, rows)]
