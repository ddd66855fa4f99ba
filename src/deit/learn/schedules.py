"""The learning rate, as a closed form of the optimiser step."""

from math import cos, pi

from deit.learn.recipes import Optimisation

REFERENCE_BATCH = 512


def learning_rate(optimisation: Optimisation, batch: int, step: int, steps_per_epoch: int) -> float:
    """Learning rate of optimiser step `step` (0 = the first), for a batch of `batch` views over all GPUs.

    A linear warm-up from `warmup_learning_rate`, which would reach the peak with the first step after it; then the
    peak throughout ("constant"), or a cosine from the peak at step 0 to `final_learning_rate` at the step after the
    last. As timm's (and so the released code's), the cosine is not shifted by the warm-up, which hides its beginning.
    Only the peak is scaled by the batch.
    """
    peak = optimisation.learning_rate * batch / REFERENCE_BATCH
    warmup_steps = round(optimisation.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        start = optimisation.warmup_learning_rate
        return start + (peak - start) * step / warmup_steps
    if optimisation.schedule == "constant":
        return peak
    final = optimisation.final_learning_rate
    progress = step / (optimisation.epochs * steps_per_epoch)
    return final + (peak - final) * (1 + cos(pi * progress)) / 2
