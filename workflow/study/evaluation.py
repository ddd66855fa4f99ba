"""The sections `evaluation` and `throughput` of a params file: how finished runs are looked at."""

from typing import Literal

from deit.bounds import Count, Crop, Recipe, Size


class EvaluationRecipe(Recipe):
    crop: Crop
    """Resize to resolution / crop, bicubic, then crop the centre. The paper's 0.875 (256 to 224); timm's tags say 0.9,
    and 1.0 at 384, which differs by a few hundredths of a point."""
    precision: Literal["fp32", "bf16"]
    """In which the networks compute when they are evaluated, whatever they were trained in."""


class ThroughputParams(Recipe):
    batch: Size
    """Images a forward pass; 0 = the largest power of two that fits into the GPU's memory (the paper: the largest
    batch; on a CPU: 64)."""
    repeats: Count
    """Timed forward passes, after a warm-up; their mean counts. The paper's 30."""
