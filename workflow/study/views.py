"""The sections `views` and `resolutions` of a params file: their keys, and what can be wrong in them."""

from collections.abc import Iterator

from deit.bounds import Pixels, Recipe
from deit.see.recipes import Augmentation
from study.problem import Problem

ViewParams = Augmentation
"""Augmentation, the same for teachers and students (paper, Table 9)."""


class Resolutions(Recipe):
    pretraining: Pixels
    """Pixels a side of `students` and `teachers`; the paper's 224. A multiple of every transformer's patch size."""
    finetuning: Pixels
    """Pixels a side of `finetuning` and `adaptation`; the paper's 384. Larger than `pretraining`, and a multiple of
    every patch size; position embeddings are interpolated bicubically."""


def resolution_problems(resolutions: Resolutions) -> Iterator[Problem]:
    if resolutions.finetuning <= (low := resolutions.pretraining):
        text = f"{resolutions.finetuning} is not larger than resolutions.pretraining, {low}"
        yield Problem("resolutions.finetuning", text, "correct one of them.", ("resolutions.pretraining",))


def view_problems(views: ViewParams, where: str = "views") -> Iterator[Problem]:
    """`where`: the key below which they, or what is changed of them, stand."""
    for key in ("scale", "ratio"):
        smallest, largest = getattr(views, key)
        if smallest > largest:
            yield Problem(f"{where}.{key}", f"runs from {smallest} to {largest}", "give the smaller number first.")
    if views.color_jitter and views.randaugment and "3a" not in views.randaugment:
        text = f"is left out by timm beside the policy {views.randaugment}"
        yield Problem(f"{where}.color_jitter", text, "set it to null, or randaugment to 3a.", (f"{where}.randaugment",))
