"""The pictures of a page: views with the teacher's answers, and test images on which teacher and students differ."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from deit.commands.pictures import class_names, differing_images, seen_views
from deit.see.datasets import ImageSet, evaluation_images, training_images
from deit.store.results import Result, read_result
from deit.tables.computed import PaperTable
from deit.tables.predictions import Inputs

VIEWS, IMAGES = 4, 6
"""Of each kind of mixing, and of each case of disagreement."""
CLASSIFIERS = {"convnet": "teacher", "deit": "DeiT", "token_fusion": "DeiT⚗"}
"""Rows of Table 4 -> what they are called here."""


class Images:
    """The images below `root` that runs learnt from and were evaluated on, and no others."""

    def __init__(self, root: str, folders: Iterable[Path]):
        """`folders` are results of prepared data."""
        self.root = root
        self.manifests = {result.job.digest: result.json("manifest.json") for result in map(read_result, folders)}

    def learnt(self, run: Result) -> ImageSet | None:
        return at_hand(lambda: training_images(run.job.resolved().data, self.root, self.manifest_of(run)))

    def evaluated(self, sheet: Result, name: str) -> ImageSet | None:
        recipe = sheet.job.resolved()
        images = recipe.evaluation_sets[name]
        return at_hand(lambda: evaluation_images(recipe.data, images, self.root, name, self.manifest_of(sheet)))

    def manifest_of(self, result: Result) -> dict:
        """Raises SystemExit where the report is not given the images' own result; then they are not `at_hand`."""
        digest = result.job.inputs.get("data", "")
        if digest not in self.manifests:
            raise SystemExit(
                f"{result.folder}: the report has no --data {digest}, which tells these images from others."
            )
        return self.manifests[digest]


def pictures(images: Images, networks: Mapping[str, Result], shown: list[PaperTable], read: Inputs) -> dict:
    """What can be drawn: views, cases, classifiers, and names of the classes. `networks` by digest."""
    table = next((table for table in shown if table.name == "table_4"), None)
    compared = [cell for cell in table.recipe.cells if cell.row in CLASSIFIERS and cell.runs] if table else []
    found: dict = {"views": [], "cases": [], "classifiers": [CLASSIFIERS[cell.row] for cell in compared]}
    student = learner(networks, compared[-1].runs[0] if compared else "")
    if student and (learnt := images.learnt(student)):
        teacher = networks[student.job.inputs["teacher"]]
        found |= {"views": seen_views(student, teacher, learnt, VIEWS)}
        found |= {"student": student.job.name, "teacher": teacher.job.name}
    sheet = read.sheets[compared[0].runs[0]] if len(compared) > 1 else None
    if sheet and (evaluated := images.evaluated(sheet, compared[0].evaluation_set)):
        found |= {"cases": differing_images(read, compared, evaluated, IMAGES), "images": len(evaluated)}
    if found["views"] or found["cases"]:
        found["names"] = class_names(images.root, next(iter(networks.values())).job.resolved().model.classes)
    return found


def learner(networks: Mapping[str, Result], preferred: str) -> Result | None:
    """The run of that name if it has a teacher, or else the first run that has."""
    taught = [result for result in networks.values() if "teacher" in result.job.inputs]
    return next((result for result in taught if result.job.name.endswith(f"/{preferred}")), next(iter(taught), None))


def at_hand(images: Callable[[], ImageSet]) -> ImageSet | None:
    """The images; None, and a line in the log, where the page is made without them."""
    try:
        return images()
    except SystemExit as missing:
        print(f"No pictures of these images: {missing}", flush=True)
        return None
