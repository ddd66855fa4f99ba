"""The average of a run's weights: what it is, that it is what is published, and that nothing else changes by it."""

import os
import signal

import pytest
import torch
from test_validation import rows_of, validation
from tiny_runs import CPU, DEIT, PIXELS, REGNETY, STEPS, images_of, run, same, stream_of, training_job
from training_runs import close, on_two_ranks, recorded_states, spoil, stop_at

from deit.learn import training
from deit.learn.recipes import Optimisation
from deit.learn.run_state import TrainingRun
from deit.networks import models
from deit.networks.evaluation import accuracy, predict
from deit.networks.recipes import Validation
from deit.see.views import evaluation_transform
from deit.store.checkpoints import ResumeState, read_weights

DECAY = 0.8
AVERAGED = {"ema_decay": DECAY}
OFTEN = {"save_minutes": 1e-9}


def last_run(monkeypatch) -> dict[str, TrainingRun]:
    """Fills with the run that takes the latest step, as `run`."""
    seen, inner = {}, training.take_step
    monkeypatch.setattr(training, "take_step", lambda one, *rest: (seen.update(run=one), inner(one, *rest)))
    return seen


@pytest.mark.parametrize("model", [DEIT, REGNETY], ids=["deit", "regnety"])
def test_what_is_published_is_the_average_of_the_weights(tmp_path, root, monkeypatch, model):
    """From the initial weights on, after each step; batch statistics are averaged too, as in the released code."""
    states, seen = recorded_states(monkeypatch), last_run(monkeypatch)
    published = run(training_job(root, execution=OFTEN, model=model, optimisation=AVERAGED), tmp_path / "run")
    after = [*(state["net"] for state in states[1:]), seen["run"].net.state_dict()]
    for name, average in states[0]["net"].items():
        for weights in after:
            moved = DECAY * average + (1 - DECAY) * weights[name]
            average = moved if average.is_floating_point() else weights[name]
        torch.testing.assert_close(published[name], average)
    assert not same(published, seen["run"].net.state_dict())


@pytest.mark.parametrize("model", [DEIT, REGNETY], ids=["deit", "regnety"])
def test_the_average_has_no_part_in_the_training(tmp_path, root, monkeypatch, model):
    seen = last_run(monkeypatch)
    plain = run(training_job(root, model=model), tmp_path / "plain")
    assert seen["run"].average is None and seen["run"].numbers().keys() == {"net", "optimizer", "sums"}
    run(training_job(root, model=model, optimisation=AVERAGED), tmp_path / "averaged")
    assert same(seen["run"].net.state_dict(), plain)


def test_there_is_none_unless_it_is_asked_for():
    assert Optimisation.model_fields["ema_decay"].default == 0


@pytest.mark.parametrize("step", [1, STEPS, STEPS + 1])
def test_an_interruption_changes_no_bit(tmp_path, root, monkeypatch, step):
    job = training_job(root, model=REGNETY, optimisation=AVERAGED)
    with monkeypatch.context() as patch:
        stop_at(patch, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit, match="143"):
            run(job, tmp_path / "run")
    state = ResumeState(tmp_path / "run.resume", job.digest).load()
    assert state["step"] == step + 1 and not same(state["net"], state["average"])
    assert same(run(job, tmp_path / "run"), run(job, tmp_path / "undisturbed"))


@pytest.mark.parametrize("model", [DEIT, REGNETY], ids=["deit", "regnety"])
def test_a_step_that_is_skipped_does_not_enter(tmp_path, root, monkeypatch, model):
    states = recorded_states(monkeypatch)
    spoil(monkeypatch, 0, 4)
    run(training_job(root, execution=OFTEN, model=model, optimisation=AVERAGED | {"skip_nonfinite_steps": 2}),
        tmp_path / "run")  # fmt: skip
    kept = [same(before["average"], after["average"]) for before, after in zip(states, states[1:], strict=False)]
    assert kept == [True, False, False, False, True]


def test_a_fine_tuning_averages_from_its_initial_weights_on(tmp_path, root):
    run(training_job(root), tmp_path / "initial")
    larger = {"model": {"resolution": 2 * PIXELS}, "views": {"resolution": 2 * PIXELS}}
    job = training_job(root, optimisation={"ema_decay": 1 - 2**-53, "epochs": 1}, **larger)
    tuned = run(job, tmp_path / "tuned", initial=tmp_path / "initial/weights.safetensors")
    reference = models.create(job.resolved().model)
    models.load_weights(reference, read_weights(tmp_path / "initial/weights.safetensors"))
    for name, initial in reference.state_dict().items():
        torch.testing.assert_close(tuned[name], initial, rtol=0, atol=1e-15)


@pytest.mark.parametrize("model", [DEIT, REGNETY], ids=["deit", "regnety"])
def test_the_accuracy_that_is_watched_is_that_of_the_average(tmp_path, root, model):
    changes = {"model": model, "optimisation": AVERAGED}
    job = training_job(root, execution=validation(root), **changes)
    weights = run(job, tmp_path / "watched")
    net = models.create(job.resolved().model)
    models.load_weights(net, weights)
    transform = evaluation_transform(job.resolved().data, Validation.model_validate(job.execution.validation).view)
    said = predict({"run": net}, images_of(job), transform, precision="fp32", device=CPU.device)["run"]
    assert float(rows_of(tmp_path / "watched/validation.csv")[-1]["class"]) == accuracy(said, "class")
    assert same(weights, run(training_job(root, **changes), tmp_path / "alone"))


def test_two_ranks_have_the_same_average_before_and_after_an_interruption(tmp_path, root, monkeypatch):
    optimisation = AVERAGED | {"optimizer": "sgd", "learning_rate": 0.05}
    job = training_job(root, execution=OFTEN, model=REGNETY, optimisation=optimisation)
    alone = run(job, tmp_path / "alone")

    def twice(place):
        with monkeypatch.context() as patch:
            stop_at(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
            with pytest.raises(SystemExit):
                run(job, tmp_path / "run", place=place)
        run(job, tmp_path / "run", place=place)

    assert on_two_ranks(tmp_path, twice) == ["", ""]
    assert on_two_ranks(tmp_path, lambda place: run(job, tmp_path / "undisturbed", place=place)) == ["", ""]
    together = read_weights(tmp_path / "run/weights.safetensors")
    assert same(together, read_weights(tmp_path / "undisturbed/weights.safetensors"))
    assert close(together, alone)


def test_ranks_that_go_on_from_different_averages_are_refused(tmp_path, root, monkeypatch):
    job = training_job(root, execution=OFTEN, optimisation=AVERAGED)
    with monkeypatch.context() as patch:
        stop_at(patch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            run(job, tmp_path / "run")
    inner = TrainingRun.restore

    def restore(a_run, state):
        inner(a_run, state)
        a_run.average.module.head.bias.data.add_(1e-6 * a_run.place.rank)

    monkeypatch.setattr(TrainingRun, "restore", restore)
    first, second = on_two_ranks(tmp_path, lambda place: run(job, tmp_path / "run", place=place))
    assert "from steps [2, 2] and different weights" in first and second == "1"


def test_a_state_without_the_average_is_refused(tmp_path, root, monkeypatch):
    job = training_job(root, execution=OFTEN, optimisation=AVERAGED)
    with monkeypatch.context() as patch:
        stop_at(patch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            run(job, tmp_path / "run")
    resume = ResumeState(tmp_path / "run.resume", job.digest)
    resume.save({key: value for key, value in resume.load().items() if key != "average"})
    with pytest.raises(SystemExit, match=r"resume\.pt: saved by other code .*'average'.*delete"):
        run(job, tmp_path / "run")


def test_a_run_that_resumes_draws_what_it_would_have_drawn(tmp_path, root):
    """Setting up the average draws from no global generator."""
    jobs = [training_job(root, optimisation={"ema_decay": decay}) for decay in (0.0, DECAY)]
    drawn = []
    for job in jobs:
        training.set_up(job, stream_of(job), ResumeState(tmp_path, job.digest), CPU, None, None)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
