"""Mixup and cutmix of a mix group: one draw of kind and lambda for all of its views, as in the released code."""

from typing import NamedTuple

import numpy as np
from timm.data import Mixup
from timm.data.mixup import cutmix_bbox_and_lam

from deit.see.recipes import Views


class Mixing(NamedTuple):
    """What a mix group is mixed by. View i mixes with view G-1-i."""

    weight: float = 1.0
    """Lambda, the weight of a view's own label, and of its own pixels; 1 = not mixed. With cutmix, its own area."""
    box: tuple[int, ...] = (0, 0, 0, 0)
    """What cutmix takes from the other view: top, bottom, left, right; empty = mixup."""

    @property
    def cuts(self) -> bool:
        top, bottom, left, right = self.box
        return self.weight != 1 and top < bottom and left < right

    @property
    def blends(self) -> bool:
        return self.weight != 1 and not self.cuts


def draw_mixing(recipe: Views, key: int) -> Mixing:
    """A pure function: `key` (32 bits) seeds the generator that timm draws from, which is left as it was."""
    if not (recipe.mix_probability and (recipe.mixup or recipe.cutmix)):
        return Mixing()
    mixup = Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        prob=recipe.mix_probability,
        switch_prob=recipe.switch_probability,
    )
    before = np.random.get_state()
    np.random.seed(key)
    try:
        weight, cut = mixup._params_per_batch()
        if not cut:
            return Mixing(weight)
        box, weight = cutmix_bbox_and_lam((recipe.resolution, recipe.resolution), weight)
        return Mixing(float(weight), tuple(map(int, box)))
    finally:
        np.random.set_state(before)
