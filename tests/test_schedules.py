from math import cos, pi

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.scheduler import CosineLRScheduler

from deit.learn.recipes import Optimisation
from deit.learn.schedules import learning_rate


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
    assert at(5 - 1 / steps) == pytest.approx(1e-3, rel=1e-3)
    assert at(5) == pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 + cos(pi * 5 / 300)) / 2)  # not shifted by the warm-up
    assert at(150) == pytest.approx((1e-3 + 1e-5) / 2)
    assert at(300) == pytest.approx(1e-5)


def test_fine_tuning_is_constant():
    """5e-6 at batch 512, 25 epochs."""
    constant = recipe(schedule="constant", learning_rate=5e-6, epochs=25, warmup_epochs=0)
    assert set(rates(constant, 512, 10)) == {5e-6}


@pytest.mark.parametrize("epochs, warmup, steps", [(10, 2, 7), (3, 0, 5), (4, 0.5, 6)])
def test_equals_timms(epochs, warmup, steps):
    """As the released code builds it, where its epochs are our steps."""
    optimisation = recipe(epochs=epochs, warmup_epochs=warmup)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-4 * 768 / 512)
    theirs = CosineLRScheduler(
        optimizer,
        t_initial=epochs * steps,
        lr_min=1e-5,
        warmup_t=round(warmup * steps),
        warmup_lr_init=1e-6,
        t_in_epochs=False,
    )
    for step, ours in enumerate(rates(optimisation, 768, steps)):
        theirs.step_update(step)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), step


@pytest.mark.parametrize("warmup", [0, 5])
def test_an_epochs_first_step_has_the_released_codes_rate(warmup):
    """timm's scheduler asked once an epoch, as the released code does."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    theirs = CosineLRScheduler(optimizer, t_initial=300, lr_min=1e-5, warmup_t=warmup, warmup_lr_init=1e-6)
    for epoch in range(300):
        theirs.step(epoch)
        ours = learning_rate(recipe(warmup_epochs=warmup), 1024, 1251 * epoch, 1251)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), epoch


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
    top = round(warmup * steps)  # the first step after the warm-up
    assert curve[:top] == sorted(curve[:top])
    assert curve[top:] == sorted(curve[top:], reverse=True)
    assert all(1e-6 <= rate <= peak * (1 + 1e-12) for rate in curve)
    if top == 0 or schedule == "constant" and top < len(curve):
        assert curve[top] == pytest.approx(peak)
