"""The section `released` of a params file: its keys, and what can be wrong in them."""

import os
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from deit.bounds import Recipe
from deit.networks.recipes import Source
from deit.tables.checks import token_variants
from study.given import source_problems
from study.models import unknown_model
from study.phases import Pattern
from study.problem import Problem
from study.supervision import unknown_supervision


class Released(Recipe):
    """Published weights in place of all trained ones: a study with this section trains nothing."""

    source: Literal["hub", "files"]
    """Whether weights come from the hub, by timm's tags, or from files."""
    root: str = ""
    """Folder of the files; `~` and environment variables are expanded. Not part of any digest."""
    weights: Annotated[dict[Pattern, Source], Field(min_length=1)]
    """model/supervision/resolution -> its weights, of which `source` chooses `timm` or `file`, below `released.root`;
    cells of other runs stay empty."""
    missing: dict[Pattern, str] = {}
    """Pattern of such names -> why there are no weights, which tables say below."""


def released_problems(released: Released, study: Any) -> Iterator[Problem]:
    """Published weights: of runs that the study may have, and with all that their source needs."""
    for name, weights in released.weights.items():
        key, sizes = f"released.weights.{name}", [str(size) for _, size in study.resolutions]
        model, supervision, resolution = [*name.split("/"), "", ""][:3]
        if name.count("/") != 2 or resolution not in sizes:
            remedy = f"write model/supervision/resolution, with a resolution of {' or '.join(sizes)}."
            yield Problem(key, "names no run", remedy, ("resolutions.pretraining", "resolutions.finetuning"))
            continue
        yield from unknown_model(study.models, key, model)
        yield from unknown_supervision(study.supervision, key, supervision)
        yield from (Problem(*mistake) for mistake in token_variants(study, [model], supervision, key))
        way, remedy = ("timm", "name the tag") if released.source == "hub" else ("file", "name the file")
        if getattr(weights, way) is None:
            yield Problem(
                f"{key}.{way}", "missing", f"{remedy}, or choose another released.source.", ("released.source",)
            )
        else:
            yield from source_problems(key, chosen(released, weights))
    lists = {"seeds.default": study.seeds.default}
    lists |= {f"seeds.models.{name}": those for name, those in study.seeds.models.items()}
    for key, those in lists.items():
        if len(those) != 1:
            yield Problem(key, "published weights have no seeds", "give one number.", ("released",))


def chosen(released: Released, weights: Source) -> Source:
    """Of weights that are told in both ways, the one that `released.source` chooses."""
    if released.source == "hub":
        return Source(timm=weights.timm)
    return Source(file=weights.file and os.path.join(released.root, weights.file), sha256=weights.sha256)
