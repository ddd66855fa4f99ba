"""Optimisers: those of timm, by name, with one guard against what is not finite."""

import copy
import os
import signal

import pytest
import torch
from timm.optim import create_optimizer_v2, get_optimizer_info
from tiny_runs import DEIT, OPTIMISATION, run, same, training_job
from training_runs import stop_at

from deit.learn.finite import tensors_in
from deit.learn.optimizers import optimizer_of, step_if
from deit.learn.recipes import OPTIMIZERS, Optimisation
from deit.networks.models import create, parameter_groups
from deit.networks.recipes import Model

GOOD, BAD = torch.tensor(True), torch.tensor(False)


def optimisation(optimizer: str, **changes) -> Optimisation:
    return Optimisation.model_validate(OPTIMISATION | {"optimizer": optimizer} | changes)


def net_with_gradients(seed: int = 0, size: float = 1.0) -> torch.nn.Module:
    torch.manual_seed(0)
    net = create(Model.model_validate(DEIT))
    give_gradients(net, seed, size)
    return net


def give_gradients(net: torch.nn.Module, seed: int, size: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.grad = size * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_is_timms_and_takes_what_planning_says(name):
    info = get_optimizer_info(name)
    has = {"betas": info.has_betas and info.num_betas == 2, "eps": info.has_eps}
    assert set(OPTIMIZERS[name]) == {option for option, taken in has.items() if taken}
    ours, theirs = net_with_gradients(), net_with_gradients()
    reference = create_optimizer_v2(parameter_groups(theirs, 0.05), name, lr=0.01, momentum=0.9)
    optimizer = optimizer_of(ours, optimisation(name))
    for seed in range(3):
        give_gradients(ours, seed)
        give_gradients(theirs, seed)
        step_if(GOOD, optimizer, 0.01, None)
        reference.step()
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_step_of_infinite_gradients_leaves_weights_and_state(name, steps_before):
    net = net_with_gradients()
    optimizer = optimizer_of(net, optimisation(name))
    for seed in range(steps_before):
        give_gradients(net, seed)
        step_if(GOOD, optimizer, 0.01, None)
    weights, state = copy.deepcopy(net.state_dict()), copy.deepcopy(optimizer.state_dict())
    give_gradients(net, 9, float("inf"))
    step_if(BAD, optimizer, 0.01, 1.0)
    assert same(net.state_dict(), weights)
    before, after = list(tensors_in(state)), list(tensors_in(optimizer.state_dict()))
    if before:
        assert len(before) == len(after) and all(map(torch.equal, before, after))
    assert before or not any(tensor.any() for tensor in after), "made at the first step, as zeros"


def test_options_reach_timm():
    optimizer = optimizer_of(net_with_gradients(), optimisation("lamb", betas=[0.8, 0.99], eps=1e-3))
    assert all(group["betas"] == (0.8, 0.99) and group["eps"] == 1e-3 for group in optimizer.param_groups)


@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_a_long_gradient_is_scaled_to_the_norm_and_a_short_one_stays(size):
    ours, theirs = net_with_gradients(size=size), net_with_gradients(size=size)
    torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
    torch.optim.SGD(parameter_groups(theirs, 0.05), lr=0.1, momentum=0.9, nesterov=True).step()
    step_if(GOOD, optimizer_of(ours, optimisation("sgd")), 0.1, 0.5)
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("name", ["lamb", "lion"])
def test_an_interruption_changes_no_bit(tmp_path, monkeypatch, name):
    changes = {"optimizer": name, "clip_gradients": 1.0, "learning_rate": 0.005}
    job = training_job(tmp_path / "data", execution={"save_minutes": 1e-9}, optimisation=changes)
    with monkeypatch.context() as patch:
        stop_at(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            run(job, tmp_path / "run")
    assert same(run(job, tmp_path / "run"), run(job, tmp_path / "undisturbed"))
