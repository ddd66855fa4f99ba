"""The pictures of a page: views with the teacher's answers, and test images on which teacher and students differ."""

from collections.abc import Callable, Mapping

from deit.datasets import ImageSet, evaluation_images, training_images
from deit.pictures import class_names, differing_images, seen_views
from deit.recipes import Cell, Job
from deit.results import Result
from deit.tables import PaperTable
from deit.tables.predictions import Inputs

VIEWS, IMAGES = 4, 6
"""Of each kind of mixing, and of each case of disagreement."""
CLASSIFIERS = {"convnet": "teacher", "deit": "DeiT", "token_fusion": "DeiT⚗"}
"""Rows of Table 4 -> what they are called here."""


def pictures(job: Job, networks: Mapping[str, Result], shown: list[PaperTable], read: Inputs) -> dict:
    """What can be drawn: views, cases, classifiers, and names of the classes. `networks` by digest."""
    root = job.execution.data_root
    table = next((table for table in shown if table.name == "table_4"), None)
    compared = [cell for cell in table.recipe.cells if cell.row in CLASSIFIERS and cell.runs] if table else []
    found: dict = {"views": [], "cases": [], "classifiers": [CLASSIFIERS[cell.row] for cell in compared]}
    student = learner(networks, compared[-1].runs[0] if compared else "")
    if student and (images := at_hand(lambda: training_images(student.job.resolved().data, root))):
        teacher = networks[student.job.inputs["teacher"]]
        found |= {"views": seen_views(student, teacher, images, VIEWS)}
        found |= {"student": student.job.name, "teacher": teacher.job.name}
    if len(compared) > 1 and (images := at_hand(lambda: evaluated(read, compared[0], root))):
        found |= {"cases": differing_images(read, compared, images, IMAGES), "images": len(images)}
    if found["views"] or found["cases"]:
        found["names"] = class_names(root, next(iter(networks.values())).job.resolved().model.classes)
    return found


def learner(networks: Mapping[str, Result], preferred: str) -> Result | None:
    """The run of that name if it has a teacher, or else the first run that has."""
    taught = [result for result in networks.values() if "teacher" in result.job.inputs]
    return next((result for result in taught if result.job.name.endswith(f"/{preferred}")), next(iter(taught), None))


def evaluated(read: Inputs, cell: Cell, root: str) -> ImageSet:
    recipe = read.sheets[cell.runs[0]].job.resolved()
    return evaluation_images(recipe.data, recipe.evaluation_sets[cell.evaluation_set], root, cell.evaluation_set)


def at_hand(images: Callable[[], ImageSet]) -> ImageSet | None:
    """The images; None, and a line in the log, where the page is made without them."""
    try:
        return images()
    except SystemExit as missing:
        print(f"No pictures of these images: {missing}", flush=True)
        return None
