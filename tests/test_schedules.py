import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.scheduler import CosineLRScheduler

from deit.recipes import Optimisation
from deit.schedules import learning_rate


def recipe(**changes) -> Optimisation:
    """The paper's: 5e-4 x batch / 512, cosine to 1e-5, 5 warm-up epochs from 1e-6."""
    values = {
        "optimizer": "adamw",
        "epochs": 300,
        "learning_rate": 5e-4,
        "schedule": "cosine",
        "warmup_epochs": 5,
        "warmup_learning_rate": 1e-6,
        "final_learning_rate": 1e-5,
        "weight_decay": 0.05,
    }
    return Optimisation(**{**values, **changes})


def rates(optimisation: Optimisation, batch: int, steps_per_epoch: int) -> list[float]:
    steps = range(optimisation.epochs * steps_per_epoch)
    return [learning_rate(optimisation, batch, step, steps_per_epoch) for step in steps]


def test_the_papers_values():
    """ImageNet at batch 1024: 1251 steps an epoch, peak 1e-3."""
    steps = 1251
    at = lambda epoch: learning_rate(recipe(), 1024, round(epoch * steps), steps)  # noqa: E731
    assert at(0) == 1e-6
    assert at(2.5) == pytest.approx((1e-6 + 1e-3) / 2, rel=1e-3)
    assert at(5) == pytest.approx(1e-3)
    assert at(152.5) == pytest.approx((1e-3 + 1e-5) / 2, rel=1e-4)
    assert at(300) == pytest.approx(1e-5)


def test_fine_tuning_is_constant():
    """5e-6 at batch 512, 25 epochs."""
    constant = recipe(schedule="constant", learning_rate=5e-6, epochs=25, warmup_epochs=0)
    assert set(rates(constant, 512, 10)) == {5e-6}


@pytest.mark.parametrize("epochs, warmup, steps", [(10, 2, 7), (3, 0, 5), (4, 0.5, 6)])
def test_equals_timms(epochs, warmup, steps):
    optimisation = recipe(epochs=epochs, warmup_epochs=warmup)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-4 * 768 / 512)
    theirs = CosineLRScheduler(
        optimizer,
        t_initial=round((epochs - warmup) * steps),
        lr_min=1e-5,
        warmup_t=round(warmup * steps),
        warmup_lr_init=1e-6,
        warmup_prefix=True,
        t_in_epochs=False,
    )
    for step, ours in enumerate(rates(optimisation, 768, steps)):
        theirs.step_update(step)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), step


def test_equals_torchs():
    """Linear warm-up and cosine annealing, chained."""
    optimisation = recipe(epochs=8, warmup_epochs=2, warmup_learning_rate=5e-5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-4)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=10)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30, eta_min=1e-5)
    theirs = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[10])
    for step, ours in enumerate(rates(optimisation, 512, 5)):
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6), step
        optimizer.step()
        theirs.step()


@given(
    epochs=st.integers(1, 12),
    steps=st.integers(1, 9),
    batch=st.integers(64, 4096),
    warmup=st.floats(0, 12),
    schedule=st.sampled_from(["cosine", "constant"]),
)
def test_rises_then_never_rises_again(epochs, steps, batch, warmup, schedule):
    optimisation = recipe(epochs=epochs, warmup_epochs=warmup, schedule=schedule)
    curve = rates(optimisation, batch, steps)
    peak = 5e-4 * batch / 512
    top = min(round(warmup * steps), len(curve) - 1)
    assert curve[: top + 1] == sorted(curve[: top + 1])
    assert curve[top:] == sorted(curve[top:], reverse=True)
    assert all(1e-6 <= rate <= peak * (1 + 1e-12) for rate in curve)
    if warmup * steps <= len(curve) - 1:
        assert max(curve) == pytest.approx(peak)
