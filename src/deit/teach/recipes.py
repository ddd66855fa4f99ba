"""What is said of a teacher: which of its answers are kept, and how exactly a student hears them."""

from typing import Literal

from deit.bounds import Recipe, Size, Temperature
from deit.networks.recipes import Model
from deit.see.recipes import Stream


class Heard(Recipe):
    """How exactly a run hears its teacher: what is rounded or left out between the teacher's logits and its loss."""

    precision: Literal["fp32", "bf16"]
    """In which the teacher computes."""
    k: Size = 0
    """soft: so many of the largest logits, and the mass of the rest; 0 = all logits."""


class Caching(Stream, kind="cache"):
    """What a teacher says of every view of some epochs of a stream."""

    model: Model
    """The teacher."""
    first_epoch: Size
    last_epoch: Size
    """Inclusive."""
    keep: Literal["labels", "dense", "top-k"]
    """The teacher's decision only, or also its logits: all of them, in the bytes of the precision, or the k largest and
    the mass of the rest."""
    k: Size = 0
    temperature: Temperature = 1.0
    """top-k: the temperature at which the mass of the rest is exact."""
    precision: Literal["fp32", "bf16"]
