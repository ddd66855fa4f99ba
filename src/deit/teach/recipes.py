"""What is asked of a teacher: which of its answers are kept."""

from typing import Literal

from deit.bounds import Size
from deit.networks.recipes import Model
from deit.see.recipes import Stream


class Caching(Stream, kind="cache"):
    """What a teacher says of every view of some epochs of a stream."""

    model: Model
    """The teacher."""
    first_epoch: Size
    last_epoch: Size
    """Inclusive."""
    keep: Literal["labels", "dense"]
    """The teacher's decision only, or also all its logits, in the bytes of the precision."""
    precision: Literal["fp32", "bf16"]
    """In which the teacher computes."""
