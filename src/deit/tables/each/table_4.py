"""Table 4: disagreement."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from deit.bounds import Name
from deit.tables.asked import Runs, TableParams, Wanted, of_labels
from deit.tables.checks import Checked, known_models, reads_table_3
from deit.tables.definition import Definition
from deit.tables.paper_findings import Claim, Layout, Pair
from deit.tables.recipes import Cell, Table

if TYPE_CHECKING:
    from deit.tables.cells import Computed
    from deit.tables.predictions import Inputs
    from deit.tables.scores import Scores

GROUND_TRUTH = "ground_truth"


class Table4(TableParams):
    """Disagreement."""

    teacher: Name
    """The convnet of the matrix. The paper does not say; its numbers fit RegNetY-16GF."""
    student: Name
    """The model whose runs from labels and by token are compared, at the lower resolution, as Table 3's rows train
    them. The paper's numbers fit DeiT-B."""


def checks(params: Table4, study: Any) -> Checked:
    yield from known_models(study, "tables.table_4.teacher", [params.teacher])
    yield from known_models(study, "tables.table_4.student", [params.student], "transformer")
    yield from reads_table_3(study, "table_4", [params.student], "Table 4's student")


def cells(params: Table4, runs: Runs) -> Wanted:
    """Classifiers of the matrix."""
    low, supervision = runs.resolutions[0], runs.study.tables.table_3.rows
    token = runs.seeded(params.student, supervision["token"], params.teacher, low)
    rows: dict[str, tuple[str, list]] = {
        GROUND_TRUTH: ("class", []),
        "convnet": ("class", of_labels(runs, params.teacher)),
        "deit": ("class", runs.seeded(params.student, supervision["labels"], params.teacher, low)),
        "token_class": ("class", token),
        "token_distillation": ("distillation", token),
        "token_fusion": ("fusion", token),
    }
    return {(row, "", head, runs.study.data.primary): group for row, (head, group) in rows.items()}


def build(recipe: Table, inputs: Inputs) -> Computed:
    """The fraction of images on which two classifiers decide differently; symmetric.

    Each classifier has one cell (its row's name, its runs by seed, its head); `ground_truth` needs none.
    """
    from deit.tables.cells import Cells, paper

    upper = paper("table_4").reindex(columns=list(recipe.rows), index=list(recipe.rows))
    found = Cells(upper.fillna(upper.T))
    classifiers = {wanted.row: wanted for wanted in recipe.cells if wanted.runs}
    for row, column in product(recipe.rows, recipe.rows):
        found.add(row, column, 0.0 if row == column else disagreements(inputs, classifiers, row, column))
    return found, [
        "Two classifiers are compared seed by seed, and averaged; one with a single seed meets all of the other."
    ]


def disagreements(inputs: Inputs, classifiers: dict[str, Cell], row: str, column: str) -> Scores | None:
    """Whether two classifiers decide differently, for each pair of seeds and image."""
    from deit.tables.cells import accuracy
    from deit.tables.scores import Scores, paired_seeds

    if GROUND_TRUTH in (row, column):
        one = classifiers.get(column if row == GROUND_TRUTH else row)
        hits = accuracy(one, inputs) if one else None
        return Scores(seeds=hits.seeds, values=~hits.values, images=hits.images) if hits else None
    if not {row, column} <= set(classifiers):
        return None
    one, other = decided(classifiers[row], inputs), decided(classifiers[column], inputs)
    if one.images != other.images:
        raise SystemExit(f"table_4: {row} and {column} were evaluated on different images. Give both the same set.")
    seeds = paired_seeds(f"table_4: {row}, {column}", one.seeds, other.seeds, shared=True)
    single = len(seeds) > 1 and 1 in (len(one.seeds), len(other.seeds))
    return Scores(seeds=seeds, values=one.of(seeds) != other.of(seeds), images=one.images, shared=single)


def decided(classifier: Cell, inputs: Inputs) -> Scores:
    """The decisions of a classifier's runs, a class number for each seed and image."""
    import numpy as np

    from deit.tables.cells import same_images
    from deit.tables.scores import Scores, seed_of

    runs = tuple(dict.fromkeys(classifier.runs))
    found = np.stack([inputs.decisions(run, classifier.evaluation_set, classifier.read) for run in runs])
    images = same_images(inputs, runs, classifier.evaluation_set)
    return Scores(seeds=tuple(map(seed_of, runs)), values=found, images=images)


def nearer_to_the_convnet(layout: Layout) -> list[Pair]:
    """The farther minus the nearer, in disagreement with the convnet."""
    return [
        Pair(
            what=f"{layout.title(farther)} farther than {layout.title(nearer)}",
            part=nearer,
            better=("convnet", farther),
            worse=("convnet", nearer),
        )
        for farther, nearer in (("deit", "token_class"), ("token_class", "token_distillation"))
    ]


TABLE = Definition(
    place=4,
    number="Table 4",
    caption="Disagreement: how often two classifiers decide differently",
    heading="Table 4: disagreement",
    story="The fraction of evaluation images on which two classifiers decide differently: the ground truth, the "
    "convnet teacher, DeiT trained on labels, and the distilled DeiT read three ways.",
    about="Disagreement: the fraction of images on which two classifiers decide differently.",
    titles={GROUND_TRUTH: "ground truth"},
    params=Table4,
    cells=cells,
    checks=checks,
    build=build,
    kind="fraction",
    behind=lambda cell, row, column: cell.row in (row, column),
    claims=(
        Claim(
            key="nearer_to_the_convnet",
            text="Distillation brings decisions nearer to the convnet’s, and those of the distillation head nearest.",
            pairs=nearer_to_the_convnet,
            over="seeds",
            each="step",
            remark="Each number is a difference of two fractions of images on which a head disagrees with the convnet.",
            of_teachers=True,
        ),
    ),
)
