"""What is said of a training beside its objective: optimisation, and the runs of a pass."""

import difflib
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializeAsAny, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from deit.bounds import AsList, Epochs, NonNegative, Positive, Probability, Rate, Recipe, Size
from deit.learn.objectives import Objective
from deit.networks.recipes import Model
from deit.see.recipes import Stream
from deit.store.job import JobRecipe

Beta = Annotated[float, Field(ge=0, lt=1)]
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "adam": ("betas", "eps"),
    "adamw": ("betas", "eps"),
    "adan": ("eps",),  # its betas are three
    "adopt": ("betas", "eps"),
    "lamb": ("betas", "eps"),
    "laprop": ("betas", "eps"),
    "lars": ("eps",),
    "lion": ("betas",),
    "muon": ("betas", "eps"),
    "nadamw": ("betas", "eps"),
    "radam": ("betas", "eps"),
    "rmsprop": ("eps",),
    "sgd": (),
}
"""timm's name -> the options that it takes. Those of timm that were tried here: planning cannot ask timm, which takes
seconds to import, and some of its names need other packages, or a loss that is computed again."""
DECAY_IN_GRADIENT = {"adam", "adopt", "lars", "radam", "rmsprop", "sgd"}
"""Those of them that add the decayed weights to the gradient. The others take them off the weights, by a decay that is
a hundred times larger where SGD is the one and AdamW the other."""


def known_optimizer(name: str) -> str:
    if name not in OPTIMIZERS:
        near = difflib.get_close_matches(name, OPTIMIZERS, n=1)
        remedy = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(OPTIMIZERS)}."
        raise PydanticCustomError("remedy", "{said}: {remedy}", {"said": f"'{name}' is unknown", "remedy": remedy})
    return name


class Optimisation(Recipe):
    """How the weights are learned."""

    optimizer: Annotated[str, AfterValidator(known_optimizer)]
    """timm's name. `adamw` (paper; code: `--opt adamw`) for students; `sgd`, with Nesterov momentum, for teachers
    (paper, section 5.1). Others: adam, adan, adopt, lamb, laprop, lars, lion, muon, nadamw, radam, rmsprop. With these
    but adam the host waits for a GPU at every step."""
    epochs: Epochs
    """Epochs of `epoch_views` views each; the paper's 300 for students, 25 for fine-tuning (the code's README: 30).
    Trap: with `views.repeats: 3` an epoch shows as many views as there are images, but a third of the images."""
    learning_rate: Annotated[float, Field(gt=0, le=1e3)]
    """Of the peak, for a batch of 512; multiplied by batch / 512. The paper's 5e-4 for students (code: `--lr`), 5e-6
    for fine-tuning (the code's README). Trap: the code sets it once an epoch, after it, so its epochs 0 and 1 both run
    at 1e-6; here it is set at every step."""
    schedule: Literal["cosine", "constant"]
    """After the warm-up: `cosine` falls to `final_learning_rate` (code: `--sched cosine`); `constant` stays at the
    peak. As timm's, the cosine is counted from step 0, and the warm-up hides its beginning."""
    warmup_epochs: NonNegative
    """Epochs, or part of one, in which the learning rate rises linearly to its peak; the paper's 5 (code:
    `--warmup-epochs`). Trap: the code's fine-tuning has them too, as its command does not say otherwise."""
    warmup_learning_rate: Rate
    """Where the linear warm-up starts; not scaled by the batch. Code: `--warmup-lr 1e-6`."""
    final_learning_rate: Rate
    """Where the cosine ends; not scaled by the batch. Code: `--min-lr 1e-5`. `constant` ignores it."""
    weight_decay: Rate
    """Not applied to biases, norms, position embedding and tokens (timm's rule; the released code decays the
    distillation token). The paper's 0.05 for students (code: `--weight-decay`), 1e-8 for fine-tuning (the code's
    README); the teachers' is not published."""
    momentum: Probability = 0.9
    """SGD: Nesterov momentum; code: `--momentum 0.9`. Also of lars, muon and rmsprop; others ignore it."""
    betas: Annotated[tuple[Beta, Beta], AsList] | None = None
    """Decay rates of the moments; null = timm's default for the optimiser: 0.9 and 0.999 of adamw (paper)."""
    eps: Annotated[float, Field(gt=0, le=1)] | None = None
    """Added to the denominator of a step; null = timm's default for the optimiser: 1e-8 of adamw (paper)."""
    clip_gradients: Positive | None = None
    """Largest norm of a step's gradient, to which a longer one is scaled; null = never clipped (paper). Trap: timm's
    lamb clips to 1.0 by itself."""
    train_mode: bool = True
    """False: the model stays in evaluation mode (no stochastic depth), as in the original fine-tunings, where batch
    norms of a convnet would keep their statistics, too."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the forward pass: `fp32`, or autocast to `bf16`, with weights and losses in fp32. The paper's fp16 gave NaN to
    many, and is not offered. On CPUs bf16 was never faster here."""
    skip_nonfinite_steps: Size = 0
    """Steps of a run that may be left out because their loss or gradient is not finite; one more stops the run."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay a step of an exponential moving average of the weights, which is then what is published and watched; 0 =
    none (the released code's --model-ema-decay: 0.99996)."""

    @field_validator("betas", "eps")
    @classmethod
    def taken(cls, value: Any, field: ValidationInfo) -> Any:
        """An option, where the optimiser takes it."""
        name = field.data.get("optimizer")
        if value is not None and name in OPTIMIZERS and field.field_name not in OPTIMIZERS[name]:
            said = {"said": f"{name} takes no such option", "remedy": "remove it, or set it to null."}
            raise PydanticCustomError("remedy", "{said}: {remedy}", said)
        return value


class Training(Stream, kind="train"):
    """One run."""

    model: Model
    objective: SerializeAsAny[Objective]
    seed: int
    """Seed of the initialisation, of stochastic depth and of dropout."""
    optimisation: Optimisation
    teacher_precision: Literal["fp32", "bf16"] | None = None
    """Of a student: in which its teacher computes; None = as the student."""

    @property
    def hears(self) -> str:
        """The precision in which the teacher computes."""
        return self.teacher_precision or self.optimisation.precision


class Pass(JobRecipe, kind="pass"):
    """Runs of one stream that are trained together, and the caches of their teachers that are filled meanwhile."""

    runs: Annotated[tuple[str, ...], AsList]
    """Digests."""
    caches: Annotated[tuple[str, ...], AsList] = ()
    """Digests."""
