"""A study of your own images: looks at them, and writes params/NAME.yaml of the right size for this machine.

    python workflow new my-study --images FOLDER

FOLDER holds a folder for each class, or train/ and val/ with them; a .tar of such folders, a .csv with the columns path
and label, and timm's hfds/FOLDER and wds/FOLDER will do, too. Where there are no images to evaluate on, a fifth is held
out. Every choice stands in the file with its reason. Nothing is trained; the last lines give the command that does, and
how long it takes by speeds measured here.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import ceil
from pathlib import Path
from typing import NamedTuple, NoReturn

import jinja2
from cost.speeds import UNITS, Node, Speed, read_speeds
from study.names import NAMES, known_studies
from study.problem import ParamsError

from commands._images import Images, held_out_of, looked_at
from commands._sizes import Size, size_for
from commands._teacher import Teacher, teacher_of
from commands.cost import gpus, makespan, paces_of, plan_with_passes
from deit.commands import allow_many_files
from deit.names import NAME
from deit.networks.recipes import Model
from deit.see.folders import Unclear
from deit.see.recipes import Split
from deit.store.job import Job

PARAMS = Path("params")
SEEDS = [0, 1, 2]
LONGEST = 300
"""Epochs; the paper's."""
FEWEST_EPOCHS = 4
SECONDS = 1.0
"""Of each measurement of this machine's speed."""
AT_ONCE = 6
"""Trainings of students that a study has at once, where there are cores for them."""
OTHER_STARTS = 1.5
"""How many times as long as a job's start one takes that trains and asks no network: a table, a count."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", help="of the study: its file will be params/NAME.yaml")
    parser.add_argument("--images", required=True, metavar="FOLDER", help="where they lie: a folder, .tar or .csv")
    about = "given, not trained: timm's NAME.TAG, or NETWORK=FILE with timm's name of its network"
    parser.add_argument("--teacher", metavar="TAG", help=about)
    arguments = parser.parse_args()
    allow_many_files()
    try:
        path = free_file(arguments.name)
        teacher = teacher_of(arguments.teacher) if arguments.teacher else None
        found = looked_at(arguments.images)
    except (Unclear, ParamsError) as error:
        refuse(str(error))
    except OSError as error:
        refuse(f"{error.filename or arguments.images}: {error.strerror or error}. Correct it")
    print(found.told, flush=True)
    study = Proposal(arguments.name, found, size_for(found.survey.side, cards()), teacher)
    with removed_unless_done(path):
        expected = write_measured(study, path)
    print(f"\n{path} is written, with a reason for every choice; edit it as you like.")
    if teacher and study.other_classes:
        told = f"The teacher tells {teacher.classes} classes apart, and these are {len(found.classes)}"
        print(f"{told}: write in that file, at its `weights:`, which of its classes mean them.")
    if teacher and teacher.supposed:
        told = f"Nothing tells at what size the teacher sees, and {teacher.pixels} pixels are timm's usual"
        print(f"{told}: if it was trained at another, correct `weights:` in that file, or it will teach badly.")
    if study.other_order:
        print("The teacher has to number the classes in their order here: that file says what to add if it does not.")
    print(f"Then, in {expected} where nothing else runs here:\n")
    print(f"    {snakemake()} --profile local{study.resources} --config study={study.name} -- all_tables")


@contextmanager
def removed_unless_done(path: Path) -> Iterator[None]:
    """A file that the block writes is gone where that ends by an error, by Ctrl-C, or because it was told to end."""
    heeded = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) != signal.SIG_IGN]  # nohup
    before = {each: signal.signal(each, end) for each in heeded}
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def end(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def refuse(text: str) -> NoReturn:
    raise SystemExit(f"Nothing was written: {text if text.endswith(('.', '?')) else text + '.'}")


def free_file(name: str) -> Path:
    """Where the study goes. Raises ParamsError where it cannot have this name."""
    if not re.fullmatch(NAME, name) or name in ("published", "study"):
        raise ParamsError(f"{name!r} is no name of a study: {NAMES}. Choose another")
    if (number := number_in(name)) not in ("", name):
        raise ParamsError(f"{name!r} is the number {number} to --config study={name}. Choose another name")
    if name in known_studies(PARAMS):
        raise ParamsError(f"{PARAMS / name}.yaml is there already. Choose another name, or remove that file")
    return PARAMS / f"{name}.yaml"


def number_in(name: str) -> str:
    """The number that Snakemake takes a name for, as it writes it; empty where it takes it for none."""
    for kind in (int, float):
        with suppress(ValueError):
            return str(kind(name))
    return ""


def snakemake() -> str:
    """What to call it here, where the environment may not be activated."""
    return "snakemake" if shutil.which("snakemake") else shlex.quote(str(Path(sys.executable).with_name("snakemake")))


def cards() -> int:
    """GPUs of this machine."""
    import torch

    return torch.cuda.device_count()


# The study ------------------------------------------------------------------------------------------------------------


class Evaluated(NamedTuple):
    """An evaluation set of the file."""

    name: str
    title: str
    split: Split
    images: int
    held_out: int = 0


class Proposal:
    """What the file says, but for how long the trainings are."""

    def __init__(self, name: str, found: Images, size: Size, teacher: Teacher | None = None):
        self.name, self.found, self.size, self.teacher = name, found, size, teacher
        self.teacher_name = teacher.name if teacher else "convnet"
        self.held_out = 0 if found.evaluation else held_out_of(found.training)
        self.learned = found.training - self.held_out
        most = min(size.batch, self.learned)
        self.batch = most // 64 * 64 if most >= 128 else most // 4 * 4
        self.mix_group = 64 if most >= 128 else self.batch // 2  # even, and a part of the batch

    @property
    def other_classes(self) -> bool:
        """Whether it has to be told which of the teacher's classes mean these."""
        return bool(self.teacher and self.teacher.classes not in (None, len(self.found.classes)))

    @property
    def other_order(self) -> list[list[int]]:
        """The key `classes` of a teacher whose classes are sorted as text; empty where that is the same order."""
        as_text = sorted(self.found.classes)
        same = not self.teacher or self.other_classes or as_text == self.found.classes
        return [] if same else [[as_text.index(name)] for name in self.found.classes]

    @property
    def resources(self) -> str:
        """Options of Snakemake's, one job at a time on each GPU."""
        return f" --resources gpu={cards()}" if self.size.gpus else ""

    @property
    def evaluation(self) -> list[Evaluated]:
        if self.held_out:
            whole = self.found.layout.training, self.found.training
            return [Evaluated("held-out", "held-out images", *whole, self.held_out)]
        splits = self.found.layout.evaluation
        return [Evaluated(name, name, splits[name], images) for name, images in self.found.evaluation.items()]

    def text(self, views: int, duration: str = "some time") -> str:
        """The file, of trainings in which a student sees so many views."""
        size, found = self.size, self.found
        epochs = min(LONGEST, max(FEWEST_EPOCHS, round(views / self.learned)))
        fewer = views < FEWEST_EPOCHS * self.learned
        mean, std = found.survey.normalisation()
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True
        )
        return environment.get_template("new_study.yaml.j2").render(
            study=self,
            found=found,
            size=size,
            mean=mean,
            std=std,
            duration=duration,
            epochs=epochs,
            later_epochs=max(1, epochs // 4),
            chunk_epochs=ceil(epochs / (cards() if size.gpus else cores())),
            longest=LONGEST,
            epoch_views=max(1, views // epochs // self.batch) * self.batch if fewer else 0,
            workers=max(1, cores() // max(1, cards()) - 1) if size.gpus else 0,
            seeds=SEEDS,
            declared=declared,
            quoted=quoted,
            written=written,
        )


def declared(split: Split, images: int) -> str:
    """A split as params declare it."""
    parts = {"images": images, "folder": quoted(split.folder)} | ({"part": quoted(split.part)} if split.part else {})
    return f"{{{', '.join(f'{key}: {value}' for key, value in parts.items())}}}"


def quoted(text: str | Path) -> str:
    """Text as YAML reads it back, whatever letters it has."""
    return written(str(text))


def written(value: object) -> str:
    """A value as JSON, which YAML reads back."""
    return json.dumps(value, ensure_ascii=False)


def cores() -> int:
    return len(os.sched_getaffinity(0))


# How long -------------------------------------------------------------------------------------------------------------


def write_measured(study: Proposal, path: Path) -> str:
    """Writes the file of a study that fits its time, by speeds measured here, and says how long it takes."""
    views, size = study.size.views, study.size
    path.write_text(study.text(views), encoding="utf-8")
    node = measured(study)
    fixed, whole = (minutes_of(study.name, node, share) for share in (0, 1))
    fitting = round(views * (size.minutes - fixed) / (whole - fixed))
    views = min(LONGEST * study.learned, max(views, fitting))
    path.write_text(study.text(views), encoding="utf-8")
    expected = told(minutes_of(study.name, node))
    path.write_text(study.text(views, expected), encoding="utf-8")
    return expected


def measured(study: Proposal) -> Node:
    """The speeds of this machine with the networks of a study, whose file is there."""
    print("Measuring how fast this machine is …", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "benchmarks/measure_speeds.py", study.name, "--own-images", "--workers", "0"]
        words += ["--seconds", str(SECONDS), "--output"]
        paths = os.pathsep.join(filter(None, ["src", "workflow", os.environ.get("PYTHONPATH")]))
        options = {"env": os.environ | {"PYTHONPATH": paths}, "capture_output": True, "encoding": "utf-8"}
        # Cores that all compute are slower than one alone, and in a study all do.
        outputs = [Path(folder, f"{number}.csv") for number in range(1 if study.size.gpus else min(cores(), AT_ONCE))]
        with ThreadPoolExecutor(len(outputs)) as pool:
            runs = [*pool.map(lambda output: subprocess.run([*words, str(output)], **options), outputs)]
        if failed := [run.stderr for run in runs if run.returncode]:
            refuse(f"the speed of this machine could not be measured:\n{failed[0][-2000:]}")
        return Node(read_speeds(outputs[0]) + ([asked(study, study.teacher)] if study.teacher else []))


def asked(study: Proposal, teacher: Teacher) -> Speed:
    """How fast a given teacher answers, in its own size; it is not among what is trained."""
    import torch

    from deit.networks.throughput import measure

    torch.set_num_threads(1)  # as jobs have
    size, classes = study.size, teacher.classes or len(study.found.classes)
    shape = {
        "timm": teacher.timm,
        "arguments": teacher.arguments,
        "classes": classes,
        "channels": 3,
        "resolution": teacher.pixels or size.pixels,
        "stochastic_depth": 0.0,
    }
    device = torch.device("cuda" if size.gpus else "cpu")
    row = measure(Model.model_validate(shape), 64 if size.gpus else 2, 3, device)
    key = ("infer", study.teacher_name, str(size.pixels), str(row["device"]), size.precision)
    return Speed(*key, float(str(row["images_per_second"])), UNITS["infer"], "measured", "here")


def minutes_of(name: str, node: Node, share: float = 1) -> float:
    """Minutes that a study takes on this machine; `share`: of its views, beside what each job takes anyway."""
    plan = plan_with_passes(name)
    start, paces = node.start_minutes(), paces_of(plan, node)
    minutes = {digest: 0 if job.execution.made_by else OTHER_STARTS * start for digest, job in plan.jobs.items()}
    minutes |= {digest: start + share * pace.seconds / 60 for digest, pace in paces.items()}
    on_cards = any(map(gpus, plan.jobs.values()))
    return makespan(plan, cards() if on_cards else cores(), minutes, gpus if on_cards else processes)


def processes(job: Job) -> int:
    return 0 if job.execution.made_by else job.execution.threads + job.execution.workers


def told(minutes: float) -> str:
    """In round numbers, as nobody knows it better."""
    if minutes < 90:
        return f"about {max(1, round(minutes))} minutes"
    return f"about {minutes / 60:.0f} hours"


if __name__ == "__main__":
    main()
