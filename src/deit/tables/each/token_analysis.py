"""Token analysis (paper, section 4): the cosine of the class and the distillation token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deit.bounds import Count, Mistake, Names, SomeNames
from deit.tables.asked import Runs, TableParams, Wanted
from deit.tables.checks import Checked, known_models, reads_table_3
from deit.tables.definition import Definition, titles_of
from deit.tables.paper_findings import Claim, Layout, Pair
from deit.tables.recipes import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from deit.tables.cells import Computed
    from deit.tables.predictions import Inputs

ORTHOGONAL = 0.2
"""Two tokens whose cosine is surely nearer to zero are called nearly orthogonal (79 to 101 degrees; the paper: .06)."""
TWO_TOKENS = "two-class-tokens"
"""The control's loss."""


class TokenAnalysis(TableParams):
    """Cosines of the class and the distillation token."""

    students: SomeNames
    """Students whose class and distillation token are compared, as Table 3's token row trains them."""
    control: Names = []
    """Students also trained with two class tokens, whose cosine the paper gives as 0.999; empty = no control."""
    images: Count
    """Images of the primary evaluation set over which the cosine of each layer is averaged, at most; its first ones."""


def checks(params: TokenAnalysis, study: Any) -> Checked:
    yield from known_models(study, "tables.token_analysis.students", params.students, "transformer")
    yield from known_models(study, "tables.token_analysis.control", params.control, "transformer")
    yield from reads_table_3(study, "token_analysis", [*params.students, *params.control], "the token analysis")
    needed = {"token": ("the token analysis reads its runs", ("tables.token_analysis",))}
    if params.control:
        needed[TWO_TOKENS] = ("tables.token_analysis.control reads its runs", ("tables.token_analysis.control",))
    for loss, (reason, keys) in needed.items():
        if loss not in {objective.loss for objective in study.supervision.values()}:
            text = f"none has the loss {loss}, and {reason}"
            yield Mistake("supervision", text, f"add {loss}: {{loss: {loss}}}.", keys)


def cells(params: TokenAnalysis, runs: Runs) -> Wanted:
    """Rows: students; columns: their distillation token, and the control, a second class token."""
    low, third = runs.resolutions[0], runs.study.tables.table_3
    controls = [name for name, objective in runs.study.supervision.items() if objective.loss == TWO_TOKENS]
    wanted: Wanted = {}
    for column, supervision, students in (
        ("token", third.rows["token"], params.students),
        ("two_class_tokens", next(iter(controls), ""), params.control),
    ):
        for model in students:
            wanted[model, column, "class", ""] = runs.seeded(model, supervision, third.teacher, low)
    return wanted


def build(recipe: Table, inputs: Inputs) -> Computed:
    """Cosine of the two input tokens and of their embeddings after each layer, averaged over seeds.

    A cell's row is the student, its column `token` or the control `two_class_tokens`. A frame's row is `input` or
    `layer_<n>`, its column `<student>/token` or `<student>/two_class_tokens`. The paper gives one number for the input
    and one for the last layer, not saying for which size.
    """
    import numpy as np

    from deit.tables.cells import Cells, paper
    from deit.tables.scores import Scores, seed_of

    found, images = Cells(paper("token_analysis")), set()
    for wanted in recipe.cells:
        column, kind = f"{wanted.row}/{wanted.column}", wanted.column
        compared = [token_comparison(inputs, run) for run in wanted.runs]
        seeds = tuple(map(seed_of, wanted.runs))
        images |= {comparison["images"] for comparison in compared}
        layers = zip(*([comparison["input_cosine"], *comparison["layers"]] for comparison in compared), strict=True)
        cosines = [Scores(seeds=seeds, values=np.array(layer)) for layer in layers] or [None]
        for depth, layer in enumerate(cosines):
            there = "input" if depth == 0 else "last" if depth == len(cosines) - 1 else ""
            found.add(f"layer_{depth}" if depth else "input", column, layer, (kind, there))
    averaged = " or ".join(f"{count:,}" for count in sorted(images))
    return found, [f"Embeddings: average over {averaged or 'no'} evaluation images."]


def token_comparison(inputs: Inputs, run: str) -> dict:
    """What the `tokens` job said of a run."""
    if run not in inputs.tokens:
        raise SystemExit(f"{run}: none of the table's inputs compares the tokens of this run.")
    return inputs.tokens[run]


def token_columns(layout: Layout) -> list[str]:
    return [column for column in layout.columns if column.endswith("/token")]


def orthogonal_at_the_input(layout: Layout) -> list[Pair]:
    return [
        Pair(what=layout.title(column), better=("input", column), network=column) for column in token_columns(layout)
    ]


def layer_over_layer(layout: Layout) -> list[Pair]:
    """Students may differ in depth: only those that have a layer stand in its mean."""
    return [
        Pair(
            what=", ".join(filter(None, (layout.title(column), f"{layout.title(before)} → {layout.title(row)}"))),
            better=(row, column),
            worse=(before, column),
            part=f"{layout.title(before)} → {layout.title(row)}",
            network=column,
        )
        for before, row in zip(layout.rows, layout.rows[1:], strict=False)
        for column in token_columns(layout)
        if row in layout.rows_of(column)
    ]


def control_over_token(layout: Layout) -> list[Pair]:
    """At the last layer of each student."""
    return [
        Pair(what=layout.title(column), better=(last, control), worse=(last, column), network=column)
        for column in token_columns(layout)
        for last in layout.rows_of(column)[-1:]
        if (control := column.replace("/token", "/two_class_tokens")) in layout.columns
    ]


def draw(recipe: Table, frame: pd.DataFrame) -> Figure:
    """Cosine of the two tokens at the input and after each layer, with 95 % intervals; crosses are the paper's."""
    import pandas as pd
    from matplotlib.figure import Figure

    from deit.tables import figures
    from deit.tables.titles import title

    with figures.own_style():
        figure = Figure(figsize=(6.8, 3.3), layout="constrained")
        axes = figure.subplots()
        layers = dict.fromkeys(frame["row"])
        depth = frame["row"].map({layer: number for number, layer in enumerate(layers)})
        columns = list(frame.groupby("column", sort=False))
        for number, (column, of_column) in enumerate(columns):
            style = {"ls": ":", "marker": "s"} if column.endswith("/two_class_tokens") else {"marker": "o"}
            beside = 0.05 * (number - (len(columns) - 1) / 2)  # or their bars would lie on each other
            bars = abs(of_column[["low", "high"]].clip(-1, 1).sub(of_column["ours"], axis=0)).T  # as cosines are
            label = title(column, titles_of(recipe))
            places = depth[of_column.index] + beside
            axes.errorbar(places, of_column["ours"], bars, ms=4, elinewidth=0.8, label=label, **style)
        theirs = frame[frame["paper"].notna()].drop_duplicates(["row", "paper"])
        axes.plot(depth[theirs.index], theirs["paper"], "x", color=figures.INK, ms=6, label="the paper", zorder=5)
        measured = frame.dropna(subset=["ours"]).reset_index(drop=True)
        heights = pd.concat([measured["ours"], theirs["paper"]], ignore_index=True)
        figures.fit_height(axes, heights, figures.half_interval(measured))
        axes.set_xticks(range(len(layers)), ["input", *(str(layer) for layer in range(1, len(layers)))])
        axes.set(xlabel="after layer", ylabel="cosine of the two tokens")
        figure.legend(fontsize=8.5, loc="outside right upper")
    return figure


TABLE = Definition(
    place=6,
    number="Token analysis",
    caption="Cosine between the class and the distillation token",
    heading="Token analysis",
    story="How alike are the class and the distillation token? Cosine between the learned input tokens, and between "
    "their embeddings after each layer, averaged over evaluation images. The control has two class tokens with the "
    "same target. The paper gives one number of the input and one of the last layer, and names no size.",
    about="Cosines of the class and the distillation token, learned and after every layer (paper, section 4).",
    titles={"input": "input tokens", "two_class_tokens": "two class tokens (control)", "token": ""},
    params=TokenAnalysis,
    cells=cells,
    checks=checks,
    reads=("tokens",),
    build=build,
    kind="cosine",
    behind=lambda cell, row, column: column == f"{cell.row}/{cell.column}",
    claims=(
        Claim(
            key="tokens_start_apart",
            text=f"Class and distillation token start nearly orthogonal: a cosine within {ORTHOGONAL:g} of zero.",
            pairs=orthogonal_at_the_input,
            over="sizes",
            threshold=ORTHOGONAL,
            side="within",
        ),
        Claim(
            key="tokens_grow_alike",
            text="The embeddings of the class and the distillation token grow more alike from layer to layer.",
            pairs=layer_over_layer,
            over="sizes",
            each="layer",
            remark="Each number is the change of the cosine from one layer to the next.",
        ),
        Claim(
            key="tokens_stay_apart",
            text="At the last layer the class and the distillation token are less alike than two class tokens.",
            pairs=control_over_token,
            over="sizes",
            remark="The control’s cosine minus the distillation token’s.",
        ),
    ),
    draw=draw,
)
