"""A job in words, for those who watch: `distil DeiT-Ti: hard, from RegNetY-16GF, 20 px, seed 1`."""

from collections.abc import Callable

from deit.store.job import Job
from deit.tables.definition import definition
from deit.tables.titles import title


def words(job: Job) -> str:
    """What a job does. One of a section that has no words yet goes by its name."""
    section, _, rest = job.name.partition("/")
    told = WORDS[section](*rest.split("/")) if section in WORDS else f"{job.kind} {job.name}"
    if job.execution.copy_of:
        return f"copy from {job.execution.copy_of.split('/')[1]}: {told}"
    return f"take from its pass: {told}" if job.execution.made_by else told


def run(model: str, supervision: str, resolution: str, seed: str) -> str:
    """The parts of a run's name: `deit-ti/hard-from-regnety-16gf+longer/20/seed1`."""
    method, _, variant = supervision.partition("+")
    method, _, teacher = method.partition("-from-")
    taught = [f"from {title(teacher)}"] if teacher else []
    return ", ".join([f"{title(model)}: {method}", *taught, *filter(None, [variant]), pixels(resolution), number(seed)])


def pixels(resolution: str) -> str:
    return f"{resolution} px"


def number(part: str) -> str:
    """seed1 -> seed 1"""
    kind = part.rstrip("0123456789-")
    return f"{kind} {part.removeprefix(kind)}"


def stream(part: str) -> str:
    """stream0-epochs0-3 -> stream 0, epochs 0-3; stream0-epochs4 -> stream 0, 4 epochs."""
    first, _, epochs = part.partition("-epochs")
    return f"{number(first)}, {f'epochs {epochs}' if '-' in epochs else f'{epochs} epochs'}"


def student(model: str, supervision: str, resolution: str, seed: str) -> str:
    verb = "distil" if "-from-" in supervision else "train"
    return f"{verb} {run(model, supervision, resolution, seed)}"


WORDS: dict[str, Callable[..., str]] = {
    "data": lambda purpose: f"check the images for {purpose}",
    "networks": lambda _: "build every network once",
    "views": lambda resolution, seen: f"store views: {pixels(resolution)}, {stream(seen)}",
    "given": lambda model, *name: f"fetch {run(model, *name) if len(name) > 1 else f'where {title(model)} starts'}",
    "teachers": lambda *name: f"train a teacher, {run(*name)}",
    "adapted": lambda *name: f"adapt a teacher, {run(*name)}",
    "teacher_logits": lambda *name: f"ask the teacher {run(*name[:-1])}; {stream(name[-1])}",
    "students": student,
    "finetuned": lambda *name: f"fine-tune {run(*name)}",
    "predictions": lambda model, resolution: f"predict with {title(model)}: {pixels(resolution)}",
    "throughput": lambda _: "measure images per second",
    "tokens": lambda *name: f"compare the tokens of {run(*name)}",
    "tables": lambda table: f"render {definition(table).heading}",
    "report": lambda _: "write the report",
    "passes": lambda name: f"train the runs of the pass {name}",
}
"""Section of a job's name -> what the rest of the name says."""
