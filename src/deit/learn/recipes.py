"""What is said of a training: objective, optimisation, and the runs of a pass."""

from typing import Annotated, Literal

from pydantic import Field

from deit.bounds import AsList, Epochs, NonNegative, Probability, Rate, Recipe, Size, Temperature
from deit.networks.recipes import Model
from deit.see.recipes import Stream
from deit.store.job import JobRecipe


class Objective(Recipe):
    """A training objective (paper, section 4)."""

    loss: Literal["labels", "soft", "hard", "token", "two-class-tokens"]
    """`labels`: cross-entropy with the true labels, no teacher. `soft`: equation 2 of the paper, with the teacher's
    logits. `hard`: equation 3, one head learns half from the true labels and half from the teacher's decisions.
    `token`: each half has a token and a head of its own. `two-class-tokens` is the control of the token analysis: a
    second class token with the true label too, without a teacher. Trap: Table 3 of the paper prints that soft and hard
    have no true labels; they have (confirmed by the authors)."""
    weight: Probability = 0.1
    """soft: lambda, the weight of the distillation term; the paper's 0.1. Other losses ignore it, as hard and token
    weigh both halves alike; yet a change renames their runs."""
    temperature: Temperature = 3.0
    """soft: tau, by which the logits of both are divided; the paper's 3.0. Other losses ignore it."""
    reduction: Literal["batchmean", "mean"] = "batchmean"
    """soft: KL summed over classes (`batchmean`, the equation), or averaged over them too (`mean`, what the original
    runs did, which makes the teacher's weight some 1/1000 on ImageNet: it may be why the paper's usual distillation
    equals no distillation)."""

    @property
    def tokens(self) -> int:
        """Tokens with a head of their own that the student needs."""
        return 2 if self.loss in ("token", "two-class-tokens") else 1

    @property
    def teacher_says(self) -> Literal["", "labels", "logits"]:
        """What the objective asks of a teacher: nothing, its decision, or its logits."""
        if self.loss == "soft":
            return "logits"
        return "labels" if self.loss in ("hard", "token") else ""


class Optimisation(Recipe):
    """How the weights are learned."""

    optimizer: Literal["adamw", "sgd"]
    """`adamw`: betas 0.9 and 0.999, eps 1e-8 (paper; code: `--opt adamw`), for students. `sgd`: Nesterov momentum, for
    teachers (paper, section 5.1). Gradients are never clipped."""
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
    """SGD: Nesterov momentum; code: `--momentum 0.9`. AdamW ignores it."""
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


class Training(Stream, kind="train"):
    """One run."""

    model: Model
    objective: Objective
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
