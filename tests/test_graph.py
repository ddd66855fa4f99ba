"""A step as a graph, without a GPU: what is recorded at one step and done again at the others is the step itself.

A tape takes the place of a CUDA graph. As that, it does the same operations on the same memory with the same numbers of
the host, whatever these are by then: a number that differs from step to step, and is not among a step's static inputs,
makes other weights.
"""

import logging
import os
import signal

import pytest
import torch
from graph_runs import KINDS, job_of, show_nan, steps_taken, trained, without_graph
from tiny_runs import REGNETY, STEPS, run, same, training_job
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training_runs import history, rows_of

from deit.learn import graph, training
from deit.learn.optimizers import capturable, optimizer_of
from deit.networks import models
from deit.networks.distributed import Place


class Tape(TorchDispatchMode):
    """Records operations while they are done, and does them again, each from and to the memory of the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert "local_scalar" not in str(func), "a graph cannot ask for a number"
        results = func(*args, **(kwargs or {}))
        memory = {one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)}
        new = [one for one in tensors_of(results) if one.untyped_storage()._cdata not in memory]
        self.done.append((func, args, kwargs or {}, results, bool(new)))
        return results

    @torch.no_grad()
    def again(self) -> None:
        for func, args, kwargs, results, new in self.done:
            repeated = func(*args, **kwargs)
            for place, tensor in zip(tensors_of(results), tensors_of(repeated), strict=True) if new else ():
                place.copy_(tensor)


def tensors_of(results) -> list[torch.Tensor]:
    return [one for one in tree_leaves(results) if isinstance(one, torch.Tensor)]


@pytest.fixture
def replays(monkeypatch) -> list[Tape]:
    """Lets tapes be a CPU's graphs; fills with the tape of each replay."""
    played: list[Tape] = []

    def captured(step, stream):
        tape = Tape()
        with tape:
            step()  # a CUDA graph would not do it yet: so the first replay does nothing

        def replay() -> None:
            if tape in played:
                tape.again()
            played.append(tape)

        return replay

    monkeypatch.setattr(graph, "captured", captured)
    monkeypatch.setattr(graph, "why_none", lambda *arguments: "")
    return played


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_is_replayed_is_the_step(tmp_path, root, replays, kind):
    eager = trained([job_of(root, kind)], tmp_path / "eager")
    assert not replays
    replayed = trained([job_of(root, kind, graph=True)], tmp_path / "graph")
    assert same(replayed[kind], eager[kind])
    assert len(replays) == 2 * STEPS - graph.WARM_UP and len(set(replays)) == 1


@pytest.mark.parametrize("forgotten", ["views", "targets", "teacher", "words", "rate"])
def test_all_that_differs_from_step_to_step_is_an_input(tmp_path, root, replays, monkeypatch, forgotten):
    """The tests of this file see a number that stays what it was when the step was captured."""
    eager = trained([job_of(root, "token")], tmp_path / "eager")
    hold = training.hold

    def forgetting(shown):
        hold((one, each._replace(**{forgotten: None}) if one.inputs else each) for one, each in shown)

    monkeypatch.setattr(training, "hold", forgetting)
    assert not same(trained([job_of(root, "token", graph=True)], tmp_path / "graph")["token"], eager["token"])


def test_runs_of_a_pass_are_replayed_and_share_what_they_are_shown(tmp_path, root, replays, monkeypatch):
    kinds = ["labels", "hard", "token", "convnet", "average"]
    alone = {kind: trained([job_of(root, kind)], tmp_path / kind)[kind] for kind in kinds}
    taken = steps_taken(monkeypatch)
    together = trained([job_of(root, kind, graph=True) for kind in kinds], tmp_path / "pass")
    assert all(same(together[kind], alone[kind]) for kind in kinds)
    assert len(set(replays)) == len(kinds)
    inputs = {one.name: one.graph.inputs for one in taken}
    assert len({id(each.views) for each in inputs.values()}) == len({id(each.targets) for each in inputs.values()}) == 1
    assert inputs["hard"].teacher is inputs["token"].teacher and inputs["labels"].teacher is None
    for own in ("words", "number", "rate"):
        assert len({id(getattr(each, own)) for each in inputs.values()}) == len(kinds)


@pytest.mark.parametrize("step", [2, 4, 5])
def test_a_stopped_run_goes_on_and_one_that_is_behind_joins_it(tmp_path, root, replays, monkeypatch, step):
    """Stopped before it is captured, and after; what follows has its own warm-up, and its own graph."""
    longer = {"epochs": 4}
    jobs = [training_job(root, kind, {"graph": True}, optimisation=longer) for kind in ("labels", "hard")]
    alone = {job.name: trained([without_graph(job)], tmp_path / f"{job.name} alone")[job.name] for job in jobs}
    with monkeypatch.context() as patch:
        steps_taken(patch, lambda a_run: a_run.step == step and os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as ended:
            trained(jobs[:1], tmp_path / "pass")
        assert ended.value.code == 128 + signal.SIGTERM
    together = trained(jobs, tmp_path / "pass")
    assert all(same(together[job.name], alone[job.name]) for job in jobs)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_a_step_that_is_not_finite_is_skipped_in_a_replay(tmp_path, root, replays, monkeypatch, ema_decay):
    show_nan(monkeypatch, 4)
    optimisation = {"skip_nonfinite_steps": 1, "ema_decay": ema_decay}
    eager, replayed = (
        run(training_job(root, "labels", {"graph": on}, model=REGNETY, optimisation=optimisation), tmp_path / f"{on}")
        for on in (False, True)
    )
    assert replays and same(replayed, eager) and history(tmp_path / "True") == history(tmp_path / "False")
    assert [row["skipped_steps"] for row in rows_of(tmp_path / "True")] == ["0", "1"]


def test_one_step_too_many_that_is_not_finite_is_named(tmp_path, root, replays, monkeypatch):
    show_nan(monkeypatch, 4)
    with pytest.raises(SystemExit, match=r"step 4 .*not finite"):
        run(training_job(root, "labels", {"graph": True}), tmp_path / "run")
    assert replays


def test_a_run_whose_step_cannot_be_captured_goes_on_as_it_was(tmp_path, root, replays, monkeypatch, caplog):
    def captured(step, stream):
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    monkeypatch.setattr(graph, "captured", captured)
    eager = trained([job_of(root, "labels")], tmp_path / "eager")
    with caplog.at_level(logging.WARNING, "deit"):
        tried = trained([job_of(root, "labels", graph=True)], tmp_path / "tried")
    assert same(tried["labels"], eager["labels"])
    (line,) = [line for line in caplog.messages if "CUDA graph" in line]
    assert line.endswith("could be captured: operation not permitted when stream is capturing")


def test_a_cpu_takes_its_steps_as_ever_and_says_so(tmp_path, root, caplog):
    with caplog.at_level(logging.WARNING, "deit"):
        asked = run(training_job(root, "labels", {"graph": True}), tmp_path / "asked")
    assert same(asked, run(training_job(root), tmp_path / "eager"))
    assert "not as one CUDA graph: it runs on cpu" in caplog.text
    assert "not as one CUDA graph" in (tmp_path / "asked/log.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("optimizer", "world", "reason"),
    [
        ("adam", 1, ""),
        ("adamw", 1, ""),
        ("sgd", 1, ""),
        ("lamb", 1, "Lamb asks the host whether a step counts"),
        ("adamw", 2, "2 processes sum their gradients in between"),
    ],
)
def test_what_can_be_a_graph(root, optimizer, world, reason):
    job = training_job(root, optimisation={"optimizer": optimizer})
    made = optimizer_of(models.create(job.resolved().model), job.resolved().optimisation)
    assert graph.why_none(made, Place(torch.device("cuda"), world=world)) == reason


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_resume_states_do_not_tell_of_a_capture(root, optimizer):
    job = training_job(root, optimisation={"optimizer": optimizer})
    made = optimizer_of(models.create(job.resolved().model), job.resolved().optimisation)
    before = made.state_dict()["param_groups"]
    with pytest.raises(RuntimeError), capturable(made):
        assert all(group["capturable"] for group in made.param_groups)
        raise RuntimeError
    assert made.state_dict()["param_groups"] == before
