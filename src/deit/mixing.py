"""Mixup and cutmix of a mix group: one draw of kind and lambda for all of its views, as in the released code."""

import numpy as np
from timm.data import Mixup
from timm.data.mixup import mixup_target
from torch import Tensor

from .recipes import Views


def mix(views: Tensor, labels: Tensor, recipe: Views, classes: int, key: int) -> tuple[Tensor, Tensor]:
    """Views (G, C, H, W) and labels (G,) -> mixed views (G, C, H, W) and mixed, smoothed targets (G, K), float32.

    View i mixes with view G-1-i. A pure function: `key` (32 bits) seeds the generator that timm draws from, which is
    left as it was. G is even where views are mixed.
    """
    if not (recipe.mix_probability and (recipe.mixup or recipe.cutmix)):
        return views, mixup_target(labels, classes, smoothing=recipe.label_smoothing)
    mixup = Mixup(
        mixup_alpha=recipe.mixup,
        cutmix_alpha=recipe.cutmix,
        prob=recipe.mix_probability,
        switch_prob=recipe.switch_probability,
        label_smoothing=recipe.label_smoothing,
        num_classes=classes,
    )
    before = np.random.get_state()
    np.random.seed(key)
    try:
        return mixup(views.clone(), labels)
    finally:
        np.random.set_state(before)
