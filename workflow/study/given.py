"""Weights that a model is given, `weights` and `initial` of a params file: what can be wrong in them."""

import re
from collections.abc import Iterator

from deit.networks.recipes import Source, Weights
from study.data import DataParams
from study.models import ModelParams, Models
from study.problem import Problem, short

WAYS = ("timm", "file", "study")
TAG = re.compile(r"[A-Za-z0-9_]+\.[A-Za-z0-9_.-]+|hf-hub:[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""A name of timm's registry with its tag, or a repository of the hub as timm writes it."""
SHA256 = re.compile(r"[0-9a-f]{8,64}")


def sources(models: Models) -> dict[str, Source]:
    """Key -> the weights that stand there."""
    found = {
        f"models.{name}.{part}": getattr(model, part)
        for name, model in models.items()
        for part in ("weights", "initial")
    }
    return {key: source for key, source in found.items() if source}


def given_problems(models: Models, data: DataParams, released: bool) -> Iterator[Problem]:
    """`released`: the study evaluates published weights, and trains nothing."""
    for key, source in sources(models).items():
        if released:
            remedy = "remove it here; released.weights names the weights of every run."
            yield Problem(key, "stands in a study with the section released", remedy, ("released",))
        yield from source_problems(key, source)
        if source.timm and not source.timm.startswith("hf-hub:"):
            yield from other_network(key, source.timm, models[key.split(".")[1]])
        if isinstance(source, Weights):
            yield from convention_problems(key, source, data)


def source_problems(key: str, source: Source) -> Iterator[Problem]:
    """A source names one way, with all that this way needs."""
    ways = [way for way in WAYS if getattr(source, way) is not None]
    if len(ways) != 1:
        text = f"names {' and '.join(ways) or 'no weights'}"
        yield Problem(key, text, "give one of timm, file (with sha256), or study (with run).")
        return
    if source.timm is not None and not TAG.fullmatch(source.timm):
        text = f"{short(source.timm)} is no tag of timm's"
        yield Problem(f"{key}.timm", text, "write NAME.TAG, as timm.list_pretrained() does, or hf-hub:OWNER/NAME.")
    if source.file is not None and source.sha256 is None:
        yield Problem(
            f"{key}.sha256", "missing", "give that of the file, by which its weights are named.", (f"{key}.file",)
        )
    if source.sha256 is not None and not SHA256.fullmatch(source.sha256):
        text = f"{short(source.sha256)} is not 8 to 64 hex digits"
        yield Problem(f"{key}.sha256", text, "give those of the file, in small letters.")
    if (source.study is None) != (source.run is None):
        missing = "run" if source.run is None else "study"
        remedy = "name the study and its run, as {study: fashion, run: regnety-4gf/labels/20/seed0}."
        yield Problem(f"{key}.{missing}", "missing", remedy, (f"{key}.study", f"{key}.run"))


def other_network(key: str, tag: str, model: ModelParams) -> Iterator[Problem]:
    """A tag of another network than the model's; trainings may start from its variant with a distillation token."""
    known = [model.timm] + ([model.timm_distilled] if key.endswith(".initial") else [])
    if (theirs := tag.partition(".")[0]) not in [name.partition(".")[0] for name in known]:
        remedy = f"name a tag of {known[0]}, or let {key.rpartition('.')[0]}.timm be {theirs}."
        yield Problem(
            f"{key}.timm", f"is of {theirs}, and the model is {known[0]}", remedy, (f"{key.rpartition('.')[0]}.timm",)
        )


def convention_problems(key: str, weights: Weights, data: DataParams) -> Iterator[Problem]:
    """Normalisation and classes of given weights."""
    counts = [len(part) if part is not None else 0 for part in (weights.mean, weights.std)]
    if counts not in ([0, 0], [1, 1], [3, 3]):
        text = f"have {counts[0]} and {counts[1]} numbers"
        yield Problem(
            f"{key}.mean", f"mean and std {text}", "give both, one number a channel (1 or 3).", (f"{key}.std",)
        )
    if weights.classes is None:
        return
    if (rows := len(weights.classes)) != data.classes:
        text = f"tells of {rows} classes, and the study has {data.classes}"
        yield Problem(f"{key}.classes", text, "give one list for each class of the study.", ("data.classes",))
    numbers = [number for each in weights.classes for number in each]
    if empty := [number for number, each in enumerate(weights.classes) if not each]:
        text = f"names no class of the network that means the study's class {empty[0]}"
        yield Problem(f"{key}.classes", text, "name one at least, or leave the class out of the study's images.")
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        yield Problem(f"{key}.classes", f"names the network's class {twice[0]} twice", "let each mean one class.")
