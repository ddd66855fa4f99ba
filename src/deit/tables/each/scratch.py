"""From scratch: a student beside its teacher where neither knows other images (paper, section 5.4: CIFAR-10).

On CIFAR-10 alone the paper's DeiT-B with a distillation token ends above its teacher, RegNetY-16GF. It was trained for
up to 7,200 epochs, on images enlarged to 224 pixels.
"""

from typing import Any

from deit.bounds import Name
from deit.tables.asked import Runs, TableParams, Wanted, of_labels
from deit.tables.checks import Checked, known_models, known_supervision, token_variants
from deit.tables.definition import Definition
from deit.tables.paper_findings import Claim, Layout, Pair
from deit.tables.titles import title

COLUMN = "accuracy"


class Scratch(TableParams):
    """A student beside its teacher, from scratch on small images."""

    teacher: Name
    """The paper's is RegNetY-16GF."""
    student: Name
    """The paper's is DeiT-B."""
    token: Name
    """Name of the supervision by distillation token; it is read by both heads."""


def checks(params: Scratch, study: Any) -> Checked:
    yield from known_models(study, "tables.scratch.teacher", [params.teacher])
    yield from known_models(study, "tables.scratch.student", [params.student], "transformer")
    yield from known_supervision(study, "tables.scratch.token", params.token, "token")
    yield from token_variants(study, [params.student], params.token, "the student of tables.scratch")


def cells(params: Scratch, runs: Runs) -> Wanted:
    low, _ = runs.resolutions
    rows = {
        "teacher": ("class", of_labels(runs, params.teacher)),
        "labels": ("class", runs.seeded(params.student, runs.labels, "", low)),
        "token": ("fusion", runs.seeded(params.student, params.token, params.teacher, low)),
    }
    return {(row, COLUMN, head, runs.study.data.primary): group for row, (head, group) in rows.items()}


def titles(params: Scratch, runs: Runs) -> dict[str, str]:
    networks = {"teacher": params.teacher, "labels": params.student, "token": f"{params.student}-token"}
    return {row: title(network) for row, network in networks.items()}


def above_its_teacher(layout: Layout) -> list[Pair]:
    return [pair_of(layout, "teacher", shared=True)]


def above_labels(layout: Layout) -> list[Pair]:
    return [pair_of(layout, "labels")]


def pair_of(layout: Layout, worse: str, shared: bool = False) -> Pair:
    what = f"{layout.title('token')} over {layout.title(worse)}"
    return Pair(what=what, better=("token", COLUMN), worse=(worse, COLUMN), shared=shared)


TABLE = Definition(
    place=6,
    number="From scratch",
    caption="A student beside its teacher, from scratch on small images",
    heading="From scratch: a student beside its teacher",
    story="Networks that know no other images (section 5.4). The paper’s numbers are of CIFAR-10 at 224 pixels: "
    "RegNetY-16GF, DeiT-B, and DeiT-B with the distillation token, read by both heads; up to 7,200 epochs.",
    about="A student beside its teacher, from scratch on small images, as the paper’s on CIFAR-10.",
    called=titles,
    params=Scratch,
    cells=cells,
    checks=checks,
    claims=(
        Claim(
            key="student_above_its_teacher",
            text="From scratch on small images, the student with the distillation token ends above its teacher.",
            pairs=above_its_teacher,
            over="seeds",
            of_teachers=True,
        ),
        Claim(
            key="token_over_none_from_scratch",
            text="From scratch on small images, the distillation token beats learning from labels.",
            pairs=above_labels,
            over="seeds",
            of_teachers=True,
        ),
    ),
)
