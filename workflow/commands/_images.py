"""The images of which a study is proposed: what lies there, or one message why nothing can be learned from it."""

import posixpath
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from study.problem import listed, printable

from commands._layouts import Layout, layout_of
from commands._survey import Survey, survey_of
from deit.see.datasets import divided
from deit.see.folders import ENDINGS, Unclear, is_odd
from deit.see.reader import reader_named
from deit.see.recipes import Split, TrainingData

MOST_CLASSES = 65536
HELD_OUT = 0.2
"""Of the training images, where there are no others to evaluate on."""
LOOK_SECONDS = 60
"""For which images are looked at, at most; `prepare_data` decodes all of them."""
FEWEST = 10
"""Images."""
CLASSES_TOLD, PATHS_TOLD = 8, 20


@dataclass(frozen=True)
class Images:
    """What lies where the user said."""

    layout: Layout
    survey: Survey
    classes: list[str]
    counts: list[int]
    """Training images a class."""
    evaluation: dict[str, int]
    """Images of each evaluation set."""
    unread: Counter[str]
    """How many files beside the images have names with each ending."""

    @property
    def training(self) -> int:
        return sum(self.counts)

    @property
    def shown(self) -> str:
        pairs = zip(self.classes, self.counts, strict=True)
        return listed([printable(f"{name} ({count})") for name, count in pairs], CLASSES_TOLD)

    @property
    def about(self) -> str:
        sets = "".join(f", {count:,} of {name}" for name, count in self.evaluation.items())
        return f"{self.training:,} images of {len(self.classes)} classes{sets}"

    @property
    def told(self) -> str:
        survey = self.survey
        seen = "all" if len(survey.looks) == survey.total else f"{len(survey.looks):,}"
        lines = [
            f"{self.about}: {self.shown}",
            f"{seen} looked at: {survey.sizes} pixels, {'grey' if survey.grey else 'in colour'}, none damaged",
        ]
        counted = Counter(name.lower() for name in self.classes)
        if alike := [name for name in self.classes if counted[name.lower()] > 1]:
            lines.append(f"Classes that differ by small and capital letters alone are several: {listed(alike)}")
        if self.unread:
            counts = [printable(f"{count} {name or 'without one'}") for name, count in sorted(self.unread.items())]
            lines.append(f"Files with other endings than {listed(sorted(ENDINGS))} are not read: {listed(counts)}")
        if self.layout.left:
            read = [split.part for split in (self.layout.training, *self.layout.evaluation.values())]
            counts = [f"{count} of {name!r}" for name, count in self.layout.left]
            lines.append(f"Lines of other splits than {listed(read)} are not read: {listed(counts)}")
        return "\n".join(lines)


def looked_at(images: str) -> Images:
    """Raises Unclear where they cannot be learned from: it names what, and says what to do."""
    layout = layout_of(images)
    training, *others = (
        read(layout, name, split) for name, split in {"training": layout.training, **layout.evaluation}.items()
    )
    classes = training.classes
    if odd := [name for name in classes if is_odd(name)]:
        raise Unclear(f"{training.path}: the hidden folder {listed(odd)} holds images. Remove it, or rename it")
    if len(classes) == MOST_CLASSES:  # names that nobody gave
        classes = classes[: int(training.labels.max()) + 1]
    for split, other in zip(layout.evaluation.values(), others, strict=True):
        if unknown := sorted({other.classes[label] for label in other.labels} - set(classes)):
            what = f"has the class {listed(unknown)}, and {training.path} has not"
            raise Unclear(f"{other.path}: {what}. Give all splits the same classes")
        own = layout.reader in ("timm", "csv") and not split.part  # its classes are those that it shows itself
        if own and (missing := sorted(set(classes) - set(other.classes))):
            what = f"has no image of the class {listed(missing)}"
            raise Unclear(f"{other.path}: {what}. Add some, as every split has the same classes")
        if layout.reader == "csv":
            refuse_shared(training, other)
    counted = Counter(training.labels.tolist())
    counts = [counted[number] for number in range(len(classes))]
    refuse_few(training, classes, counts)
    if not others:
        refuse_untaught(training, classes, held_out_of(len(training)))
    survey = survey_of([training, *others], LOOK_SECONDS)
    if survey.damaged:
        more = f"\nand {len(survey.damaged) - PATHS_TOLD} more" if len(survey.damaged) > PATHS_TOLD else ""
        told = "\n".join([f"{len(survey.damaged)} images cannot be read:", *survey.damaged[:PATHS_TOLD]])
        raise Unclear(f"{told}{more}")
    evaluation = dict(zip(layout.evaluation, map(len, others), strict=True))
    unread = sum((images.found.others for images in (training, *others)), Counter())
    return Images(layout, survey, classes, counts, evaluation, unread)


def read(layout: Layout, name: str, split: Split) -> Any:
    """The images of a split, of as many classes as there are."""
    plain = {"name": name, "channels": 3, "mean": (0.5,) * 3, "std": (0.5,) * 3, "classes": MOST_CLASSES}
    data = TrainingData.model_validate(plain | {"reader": layout.reader, "split": split})
    try:
        return reader_named(layout.reader).read(split, data, layout.root, "")
    except SystemExit as error:  # it ends in a remedy and key for params, which are not there yet
        said = re.sub(r" \([\w.]*\)\.$", "", str(error))
        remedy = ". Name a folder that holds a folder for each class"
        raise Unclear(re.sub(r"\. Restore the original under data\.root.*", remedy, said)) from None


def refuse_shared(training: Any, other: Any) -> None:
    """Raises Unclear where lines of CSV files would have a network evaluated on images that it has learned."""
    learned = {posixpath.normpath(training.place(index)) for index in range(len(training))}
    places = [other.place(index) for index in range(len(other))]
    if shared := [place for place in places if posixpath.normpath(place) in learned]:
        more = f", as are {len(shared) - 1} more" if shared[1:] else ""
        what = f"is there to learn from and to evaluate on{more}"
        raise Unclear(f"{shared[0]}: {what}. Leave each image in one split")


def held_out_of(images: int) -> int:
    """How many training images a study holds out that has no others to evaluate on."""
    return max(1, round(HELD_OUT * images))


def refuse_untaught(images: Any, classes: list[str], held_out: int) -> None:
    """Raises Unclear where a class has all of its images among the held-out ones, which are drawn from all alike."""
    learned = Counter(images.labels[divided(len(images), held_out)[0]].tolist())
    if untaught := [name for number, name in enumerate(classes) if not learned[number]]:
        what = f"of the class {listed(untaught)} every image would be among the {held_out} that are held out"
        raise Unclear(f"{images.path}: {what}. Add some, or lay the images out as train and val")


def refuse_few(images: Any, classes: list[str], counts: list[int]) -> None:
    """Raises Unclear where there is nothing to tell apart, or nothing to hold out."""
    if empty := [name for name in images.found.empty if not is_odd(name)]:
        raise Unclear(f"{images.path}: no image in the folder {listed(empty)}. Add some, or remove it")
    if len(classes) < 2:
        raise Unclear(f"{images.path}: has one class, {classes[0]}, and there is nothing to tell apart. Add another")
    if few := [name for name, count in zip(classes, counts, strict=True) if count < 2]:
        raise Unclear(f"{images.path}: has fewer than two images of the class {listed(few)}. Add some, or remove it")
    if sum(counts) < FEWEST:
        raise Unclear(f"{images.path}: has {sum(counts)} images, and training needs at least {FEWEST}. Add some")
