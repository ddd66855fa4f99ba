"""Sizes of a study of one's own images: networks, views and learning rates that go together, for a kind of machine.

The values are those of `fashion` on CPUs, of `cifar10` and `imagenet` on a GPU, where these were chosen with a reason.
"""

from dataclasses import dataclass, replace
from typing import Any

REGNET = {"stem_width": 32, "depth": 4, "w0": 16, "wa": 20.0, "wm": 1.8, "group_size": 8, "output_stride": 8}
"""timm's RegNet with one block a stage."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """What suits images of a size on a kind of machine."""

    pixels: int
    """Of a view's side, in pre-training."""
    patch: int
    widths: tuple[int, int]
    """Embedding dimensions of the two students."""
    heads: tuple[int, int]
    depth: int
    stochastic_depth: float
    teacher: str
    """timm's name."""
    teacher_arguments: dict[str, Any]
    teacher_factor: int
    """How many times the students' epochs it is trained."""
    teacher_rate: float
    learning_rate: float
    batch: int
    scale: tuple[float, float]
    randaugment: str
    mix_probability: float
    crop: float
    gpus: int
    precision: str
    minutes: int
    """That a study is to take."""
    views: int
    """That a student sees at least, however long that takes."""
    why_models: str
    why_views: str
    why_rate: str

    @property
    def larger(self) -> int:
        """Pixels of the fine-tuning: 1.75 times as many, as in the paper 1.71, in whole patches."""
        return round(1.75 * self.pixels / self.patch) * self.patch


CPU = Size(
    pixels=32,
    patch=8,
    widths=(32, 64),
    heads=(2, 4),
    depth=4,
    stochastic_depth=0.0,
    teacher="regnety_080",
    teacher_arguments=REGNET,
    teacher_factor=3,
    teacher_rate=0.8,
    learning_rate=0.01,
    batch=60,
    scale=(0.5, 1.0),
    randaugment="rand-m5-mstd0.5-n1-inc1",
    mix_probability=0.5,
    crop=1.0,
    gpus=0,
    precision="fp32",
    minutes=12,
    views=20_000,
    why_models="small ones, which CPUs train in minutes, as those of `fashion`",
    why_views="as in `fashion`: milder than the paper's, for networks that see little and underfit",
    why_rate="for a batch of 512; 1.2e-3 at 60. Of few images, 4e-3 learns less (docs/recipe.md)",
)
SMALL_IMAGES = Size(
    pixels=32,
    patch=4,
    widths=(96, 192),
    heads=(3, 6),
    depth=12,
    stochastic_depth=0.1,
    teacher="regnety_040",
    teacher_arguments={"output_stride": 8},
    teacher_factor=1,
    teacher_rate=0.4,
    learning_rate=1.0e-3,
    batch=256,
    scale=(0.35, 1.0),
    randaugment="rand-m9-mstd0.5-inc1",
    mix_probability=1.0,
    crop=1.0,
    gpus=1,
    precision="bf16",
    minutes=120,
    views=100_000,
    why_models="half of the paper's widths, as in `cifar10`, and its smallest convnet",
    why_views="the paper's, with larger crops, as in `cifar10`",
    why_rate="for a batch of 512. As in `cifar10`",
)
PHOTOGRAPHS = replace(
    SMALL_IMAGES,
    pixels=224,
    patch=16,
    widths=(192, 384),
    teacher_arguments={},
    learning_rate=5.0e-4,
    scale=(0.08, 1.0),
    crop=0.875,
    minutes=240,
    why_models="the paper's DeiT-Ti and DeiT-S, and its smallest convnet",
    why_views="the paper's",
    why_rate="for a batch of 512. The paper's",
)


def size_for(side: int, gpus: int) -> Size:
    """For images whose shorter sides have a median of so many pixels."""
    if not gpus:
        pixels = min(32, max(16, side // 4 * 4))  # 4 x 4 patches, as in `fashion`
        return replace(CPU, pixels=pixels, patch=pixels // 4)
    if side < 48:
        return SMALL_IMAGES
    if side < 112:
        return replace(SMALL_IMAGES, pixels=64, patch=8, teacher_arguments={"output_stride": 16})
    return PHOTOGRAPHS
