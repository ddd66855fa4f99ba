"""The teacher's dial: a student's accuracy over its teacher's, and convnets beside transformers at equal accuracy.

The paper finds that a convnet teaches better than a transformer, by convnets that are also the more accurate ones.
With convnets of several accuracies a transformer can be compared with a convnet as accurate as itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from deit.bounds import Mistake, Name, SomeNames
from deit.tables.asked import Runs, TableParams, Wanted, of_labels
from deit.tables.checks import Checked, known_models, known_supervision, one_token
from deit.tables.definition import Definition, titles_of
from deit.tables.paper_findings import Claim, Layout, Pair
from deit.tables.recipes import Cell, Table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from deit.tables.cells import Computed
    from deit.tables.predictions import Inputs
    from deit.tables.scores import Scores

TEACHER, STUDENT, EQUAL = "teacher", "pretrained", "of_an_equal_convnet"


class Dial(TableParams):
    """The teacher's dial."""

    student: Name
    """The model that learns from each of the teachers."""
    supervision: Name
    """Name of the supervision by which it learns; without a distillation token, as in Table 2."""
    convnets: Annotated[SomeNames, Field(min_length=2)]
    """The dial: convnets of different accuracy, such as one that is trained for different lengths. Each costs a
    training, a cache and a student."""
    transformers: SomeNames
    """Teachers that are compared with a convnet of their own accuracy."""


def checks(params: Dial, study: Any) -> Checked:
    key, name = "tables.dial.supervision", params.supervision
    yield from known_models(study, "tables.dial.student", [params.student], "transformer")
    yield from known_models(study, "tables.dial.convnets", params.convnets, "convnet")
    yield from known_models(study, "tables.dial.transformers", params.transformers, "transformer")
    yield from known_supervision(study, key, name)
    if name in study.supervision and not study.supervision[name].teacher_says:
        text = f"'{name}' takes no teacher, and the dial compares teachers"
        yield Mistake(key, text, "name one that does, as hard.", (f"supervision.{name}.loss",))
    yield from one_token(study, key, name, "the dial's student")


def cells(params: Dial, runs: Runs) -> Wanted:
    """Rows: teachers; their own accuracy and that of their students."""
    low, _ = runs.resolutions
    wanted: Wanted = {}
    for teacher in (*params.transformers, *params.convnets):
        students = runs.seeded(params.student, params.supervision, teacher, low)
        for column, group in ((TEACHER, of_labels(runs, teacher)), (STUDENT, students)):
            wanted[teacher, column, "class", runs.study.data.primary] = group
    return wanted


def build(recipe: Table, inputs: Inputs) -> Computed:
    """Accuracies; beside a transformer's student, what one of an equally accurate convnet would reach."""
    from deit.tables import cells

    found, facts = cells.accuracies(recipe, inputs)
    families, a_seed = recipe.options["families"], "teacher_a_seed" in recipe.options
    dial = [points for row in recipe.rows if families[row] == "convnet" if (points := both(recipe, found, row))]
    for row in recipe.rows:
        if families[row] == "deit" and dial and (own := both(recipe, found, row)):
            seeds = seeds_of_all([own, *dial], a_seed)
            equal = at_equal_accuracy(dial, own[0], seeds, a_seed)
            found.add(row, EQUAL, equal)
            if outside := sorted(set(seeds) - set(equal.seeds if equal else ())):
                told = ", ".join(map(str, outside))
                facts.append(f"Seeds in which {row} is outside the accuracies of all convnets, and left out: {told}.")
    return found, facts


def both(recipe: Table, found: Any, row: str) -> tuple[Scores, Scores] | None:
    """The scores of a teacher and of its students, if the study has them; a given teacher is that of every seed."""
    import numpy as np

    teacher, students = found.scores.get((row, TEACHER)), found.scores.get((row, STUDENT))
    if not (teacher and students):
        return None
    if row in recipe.options.get("given_teachers", ()):
        values = np.repeat(teacher.values[:1], len(students.seeds), axis=0)
        teacher = replace(teacher, seeds=students.seeds, values=values, shared=True)
    return teacher, students


def seeds_of_all(points: Sequence[tuple[Scores, Scores]], a_seed: bool) -> tuple[int, ...]:
    """The seeds that the students of all teachers have, and these, too, where each seed has teachers of its own."""
    from deit.tables.scores import common_seeds

    return common_seeds([one for own, students in points for one in ((students, own) if a_seed else (students,))])


def at_equal_accuracy(
    dial: Sequence[tuple[Scores, Scores]], teacher: Scores, seeds: Sequence[int], a_seed: bool
) -> Scores | None:
    """What students of a convnet as accurate as `teacher` would reach, image by image: seed by seed on a straight line
    between the students of the next worse and the next better convnet.

    Of the seeds in which the teacher's accuracy lies among those of the convnets; None if there are none.
    """
    import numpy as np

    from deit.tables.scores import Scores

    values = {}
    for seed in seeds:
        x, *xs = (one.values[one.seeds.index(seed) if a_seed else 0].mean() for one in (teacher, *(t for t, _ in dial)))
        line = between(np.array(xs), np.stack([students.of([seed])[0] for _, students in dial]), x)
        if line is not None:
            values[seed] = line
    if not values:
        return None
    students = dial[0][1]
    return Scores(
        seeds=tuple(values),
        values=np.stack([*values.values()]),
        images=students.images,
        scale=students.scale,
        shared=not a_seed or any(one.shared for one in (teacher, *(own for own, _ in dial))),
    )


def between(xs: np.ndarray, ys: np.ndarray, x: float) -> np.ndarray | None:
    """ys (N, I) over xs (N,) at x, along straight lines; None outside of them."""
    order = xs.argsort(kind="stable")
    xs, ys = xs[order], ys[order]
    if not xs[0] <= x <= xs[-1]:
        return None
    above = max(1, int(xs.searchsorted(x)))
    width = xs[above] - xs[above - 1]
    share = (x - xs[above - 1]) / width if width else 0.5
    return (1 - share) * ys[above - 1] + share * ys[above]


def convnet_over_transformer(layout: Layout) -> list[Pair]:
    return [
        Pair(what=layout.title(row), better=(row, EQUAL), worse=(row, STUDENT))
        for row in layout.rows
        if layout.families.get(row) == "deit"
    ]


def draw(recipe: Table, frame: pd.DataFrame) -> Figure:
    """Students' accuracy over their teachers': a line of convnets, a point a transformer; bars are 95 % intervals."""
    from matplotlib.figure import Figure

    from deit.tables import figures
    from deit.tables.labels import place_names
    from deit.tables.titles import title

    families, titles = recipe.options["families"], titles_of(recipe)
    teachers, students = (frame[frame["column"] == column].set_index("row") for column in (TEACHER, STUDENT))
    points = students.assign(x=teachers["ours"], across=figures.half_interval(teachers)).dropna(subset=["x", "ours"])
    with figures.own_style():
        figure = Figure(figsize=(5.6, 3.7), layout="constrained")
        axes = figure.subplots()
        for family, (colour, marker) in figures.FAMILIES.items():
            of_family = points[[families[row] == family for row in points.index]].sort_values("x")
            if len(of_family):
                axes.errorbar(
                    of_family["x"],
                    of_family["ours"],
                    figures.half_interval(of_family),
                    of_family["across"],
                    color=colour,
                    marker=marker,
                    ms=4.5,
                    lw=1,
                    elinewidth=0.8,
                    linestyle="-" if family == "convnet" else "",
                    label=title(family),
                )
        axes.set(xlabel="teacher’s top-1 accuracy, %", ylabel="student’s top-1 accuracy, %")
        axes.margins(0.14, 0.14)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(figures.FAMILIES))
        names = [(title(row, titles), point["x"], point["ours"]) for row, point in points.iterrows()]
        place_names(axes, names, size=8, colour=figures.INK)
    return figure


def behind(cell: Cell, row: str, column: str) -> bool:
    """All teachers and students stand behind what is interpolated between them."""
    return column == EQUAL or (cell.row, cell.column) == (row, column)


TABLE = Definition(
    place=3,
    number="The teacher’s dial",
    caption="A student’s accuracy over its teacher’s",
    heading="The teacher’s dial",
    story="One student learns from convnets of different accuracy, and from transformers, by one method on the same "
    "views. Convnets may teach better because they are more accurate, or because they are convnets: at a "
    "transformer’s own accuracy only the second is left. There the student of a convnet is read off the straight "
    "line between its neighbours, seed by seed.",
    about="A student’s accuracy over its teacher’s, with convnets of several accuracies.",
    titles={EQUAL: "student of a convnet as accurate as the transformer"},
    params=Dial,
    cells=cells,
    checks=checks,
    of_networks=True,
    build=build,
    behind=behind,
    claims=(
        Claim(
            key="convnets_at_equal_accuracy",
            text="A convnet teaches better than a transformer of the same accuracy.",
            pairs=convnet_over_transformer,
            over="transformers",
            of_teachers=True,
            remark="The convnet’s student is read off a straight line; where the curve bends down, that favours the "
            "transformer.",
        ),
    ),
    draw=draw,
)
