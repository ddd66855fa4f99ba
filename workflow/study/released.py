"""The section `released` of a params file: its keys, and what can be wrong in them."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from deit.bounds import Recipe
from study.models import Models, token_problems, unknown_model
from study.phases import Pattern
from study.problem import Problem, short
from study.seeds import Seeds, seed_lists
from study.supervision import Supervision, unknown_supervision
from study.views import Resolutions


class PublishedWeights(Recipe):
    """Weights of one run that others have published."""

    hub: str = ""
    """source hub: repository of the Hugging Face hub that timm reads; `@revision` may follow."""
    file: str = ""
    """source files: file below released.root: safetensors, or a .pth with a state dict, alone or as its `model`; read
    as tensors only."""
    sha256: str = ""
    """source files: of the file, or its first digits, at least eight; the authors' names of files end in them."""


class Released(Recipe):
    """Published weights in place of trained ones. A study with this section trains nothing."""

    source: Literal["hub", "files"]
    """Whether weights come from the hub, which needs a network where Snakemake runs, or from files."""
    root: str = ""
    """Folder of the files; `~` and environment variables are expanded. Not part of any digest."""
    weights: Annotated[dict[Pattern, PublishedWeights], Field(min_length=1)]
    """model/supervision/resolution -> its weights; cells of other runs stay empty."""
    missing: dict[Pattern, str] = {}
    """Pattern of such names -> why there are no weights, which tables say below."""


def released_problems(
    released: Released, models: Models, supervisions: Supervision, resolutions: Resolutions, seeds: Seeds
) -> Iterator[Problem]:
    """Published weights: of runs that the study may have, and with all that their source needs."""
    for name, weights in released.weights.items():
        key, sizes = f"released.weights.{name}", [str(size) for _, size in resolutions]
        model, supervision, resolution = [*name.split("/"), "", ""][:3]
        if name.count("/") != 2 or resolution not in sizes:
            remedy = f"write model/supervision/resolution, with a resolution of {' or '.join(sizes)}."
            yield Problem(key, "names no run", remedy, ("resolutions.pretraining", "resolutions.finetuning"))
            continue
        yield from unknown_model(models, key, model)
        yield from unknown_supervision(supervisions, key, supervision)
        if supervision in supervisions:
            yield from token_problems(models, [model], supervisions[supervision], f"released.weights.{name}")
        yield from source_problems(key, released.source, weights)
    for key, those in seed_lists(seeds):
        if len(those) != 1:
            yield Problem(key, "published weights have no seeds", "give one number.", ("released",))


def source_problems(key: str, source: str, weights: PublishedWeights) -> Iterator[Problem]:
    if source == "hub":
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", weights.hub):
            text = f"{short(weights.hub)} is no owner/name of the hub"
            yield Problem(f"{key}.hub", text, "correct it, or set source: files.", ("released.source",))
        return
    if not weights.file:
        remedy = "name the file below released.root, or set released.source: hub."
        yield Problem(f"{key}.file", "missing", remedy, ("released.source",))
    if not re.fullmatch(r"[0-9a-f]{8,64}", weights.sha256):
        text = f"{short(weights.sha256)} is not 8 to 64 hex digits"
        yield Problem(f"{key}.sha256", text, "give those of the file.", ("released.source",))
