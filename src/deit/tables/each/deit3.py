"""DeiT III: plain transformers that learn from labels alone, by a recipe of their own (Touvron et al., ECCV 2022)."""

from typing import Any

from deit.bounds import Names, SomeNames
from deit.tables.asked import FINETUNED, Runs, TableParams, Wanted
from deit.tables.checks import Checked, Reference, known_models, length_checks
from deit.tables.definition import Definition


class Deit3(TableParams):
    """Transformers from labels alone, in several lengths."""

    models: SomeNames
    """Its rows at the lower resolution, trained from labels."""
    finetuned: Names = []
    """Of them, those with rows at the higher resolution."""
    variants: Names = []
    """Further lengths beside the study's own, each with rows of all these: variants of `students: {epochs: …}`."""


def checks(params: Deit3, study: Any) -> Checked:
    key = "tables.deit3"
    yield from known_models(study, f"{key}.models", params.models, "transformer")
    yield from known_models(study, f"{key}.finetuned", params.finetuned, "transformer")
    for name in params.variants:
        yield Reference(f"{key}.variants", name, "variant")
    labels = next((name for name, objective in study.supervision.items() if objective.loss == "labels"), "")
    students = [name for name in params.models if name in study.models]
    if params.variants and labels:
        yield from length_checks(study, "deit3", students, labels, params.variants)


def cells(params: Deit3, runs: Runs) -> Wanted:
    """Rows: networks, those of a variant with their epochs; columns: evaluation sets."""
    low, high = runs.resolutions
    wanted: Wanted = {}
    for variant in ("", *params.variants):
        for suffix, models, resolution in (("", params.models, low), (FINETUNED, params.finetuned, high)):
            for model in models:
                ending = f"-{length(runs, model, variant)}-epochs" if variant else ""
                group = runs.seeded(model, runs.labels, "", resolution, variant)
                for name in runs.study.data.evaluation:
                    wanted[model + suffix + ending, name, "class", name] = group
    return wanted


def length(runs: Runs, model: str, variant: str) -> int:
    """Epochs of a variant's training at the lower resolution."""
    return runs.phase(runs.seeded(model, runs.labels, "", runs.resolutions[0], variant)[0]).epochs


TABLE = Definition(
    place=9,
    number="DeiT III",
    caption="Transformers from labels alone, by the recipe of DeiT III",
    heading="DeiT III: transformers from labels alone",
    story="What plain transformers reach without a teacher, by the recipe of “DeiT III: Revenge of the ViT” (Touvron "
    "et al., 2022); ↑ is fine-tuned at the higher resolution. The numbers beside ours are those of the authors’ "
    "README, of 800 epochs.",
    about="Transformers that learn from labels alone, by the recipe of DeiT III, on every evaluation set.",
    titles={
        f"vit-{size}{suffix}": f"ViT-{size.upper()}{arrow}"
        for size in ("s", "b", "l", "h")
        for suffix, arrow in (("", ""), (FINETUNED, " ↑"))
    },
    params=Deit3,
    cells=cells,
    checks=checks,
)
