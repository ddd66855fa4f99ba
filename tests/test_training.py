"""The loop: what it computes, that nothing but the recipe decides it, and that nothing computed is lost."""

import math
import os
import shutil
import signal
import subprocess
import time
from itertools import zip_longest

import pytest
import torch
from tiny_runs import BATCH, CPU, DEIT, IMAGES, PIXELS, REGNETY, STEPS, run, same, stream_of, training_job
from training_runs import (
    ENVIRONMENT,
    NO_DROP,
    SGD,
    close,
    command,
    history,
    recorded_states,
    rows_of,
    spoil,
    stop_at,
    with_data,
)

from deit.commands.train import planned_input, teacher_of
from deit.learn import training
from deit.learn.finite import all_finite, tensors_in
from deit.learn.schedules import learning_rate
from deit.networks import models
from deit.store import checkpoints
from deit.store.checkpoints import ResumeState
from deit.store.job import Job
from deit.store.results import new_folder


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_loop_is_plain_torch(tmp_path, root, optimizer):
    job = training_job(root, model=NO_DROP, optimisation={"optimizer": optimizer})
    recipe, stream = job.resolved(), stream_of(job)
    torch.manual_seed(recipe.seed)
    net = models.create(recipe.model)
    groups = models.parameter_groups(net, recipe.optimisation.weight_decay)
    if optimizer == "adamw":
        optimiser = torch.optim.AdamW(groups, eps=1e-8)
    else:
        optimiser = torch.optim.SGD(groups, momentum=0.9, nesterov=True, lr=1)
    for step in range(2 * STEPS):
        mixed = [stream[step // STEPS, step % STEPS, group] for group in range(stream.groups_per_batch)]
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe.optimisation, recipe.views.batch, step, STEPS)
        views, targets = map(torch.cat, zip(*(stream.finish(group, CPU.device) for group in mixed), strict=True))
        loss = torch.nn.functional.cross_entropy(net(views), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    trained = run(job, tmp_path / "run")
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(trained[name], tensor, rtol=1e-3, atol=1e-4)


def test_a_run_folder_tells_its_story(tmp_path, root, caplog):
    job = training_job(root)
    run(job, tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "recipe.json",
        "provenance.json",
        "weights.safetensors",
        "config.json",
        "history.csv",
        "log.txt",
    }
    rows = rows_of(tmp_path / "run")
    assert tuple(rows[0]) == training.HISTORY
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", str(STEPS)), ("1", str(2 * STEPS))]
    assert all(0 <= float(row["accuracy"]) <= 1 and float(row["loss"]) > 0 for row in rows)
    last_rate = learning_rate(job.resolved().optimisation, BATCH, 2 * STEPS - 1, STEPS)
    assert float(rows[1]["learning_rate"]) == last_rate


def test_the_log_has_a_line_an_epoch(tmp_path, root, caplog):
    caplog.set_level("INFO", "deit")
    run(training_job(root), tmp_path / "run")
    lines = [
        line for line in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8").splitlines() if " epoch " in line
    ]
    assert len(lines) == 2
    for part in ("epoch 2/2", "loss", "accuracy", "learning rate", "im/s", "0 h 0 min 0 s left"):
        assert part in lines[1]


def test_workers_and_repetition_change_no_bit(tmp_path, root):
    runs = [run(training_job(root, execution={"workers": n}), tmp_path / f"{i}") for i, n in enumerate((0, 0, 1, 2))]
    assert all(same(runs[0], other) for other in runs[1:])
    files = [(tmp_path / f"{i}" / "weights.safetensors").read_bytes() for i in range(4)]
    assert len(set(files)) == 1


def test_the_seed_decides_the_initialisation_and_the_stream_seed_does_not(root):
    def initial(**seeds) -> dict:
        job = training_job(root, **seeds)
        resume = ResumeState(root, job.digest)
        return training.set_up(job, stream_of(job), resume, CPU, None, None).net.state_dict()

    assert same(initial(seed=7, stream_seed=5), initial(seed=7, stream_seed=6))
    assert not same(initial(seed=7), initial(seed=8))


@pytest.mark.parametrize("model", [DEIT | NO_DROP, REGNETY], ids=["deit", "regnety"])
def test_accumulation_sees_the_same_views_and_learns_the_same(tmp_path, root, monkeypatch, model):
    seen = []
    inner = training.forward_passes

    def forward_passes(a_run, shown):
        passes = list(inner(a_run, shown))
        seen[-1].extend(views for views, *_ in passes)
        return passes

    monkeypatch.setattr(training, "forward_passes", forward_passes)
    weights = []
    for size in (0, 1, 3):
        seen.append([])
        job = training_job(root, execution={"groups_per_forward": size}, model=model, optimisation=SGD)
        weights.append(run(job, tmp_path / f"{size}"))
    for views, others in zip(seen, weights, strict=True):
        assert torch.equal(torch.cat(views), torch.cat(seen[0]))
        assert close(weights[0], others)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.long)])
def test_a_compiled_student_learns_the_same(tmp_path, root, monkeypatch, backend):
    """Dropping included. Inductor, which runs use, writes C++; tracing and the backward graph need none."""
    if backend == "inductor" and not shutil.which(os.environ.get("CXX", "g++")):
        pytest.skip("no C++ compiler here")
    compiled = []

    def compile_with_backend(net, options):
        compiled.append(net)
        return inner(net, backend=backend, options=options if backend == "inductor" else None)

    inner = torch.compile
    monkeypatch.setattr(torch, "compile", compile_with_backend)
    arguments = DEIT["arguments"] | {"depth": 1, "proj_drop_rate": 0.2}
    small = {"model": {"arguments": arguments}, "optimisation": SGD | {"epochs": 1}}
    plain = run(training_job(root, **small), tmp_path / "plain")
    assert not compiled
    assert close(plain, run(training_job(root, execution={"compile": True}, **small), tmp_path / "compiled"))
    assert len(compiled) == 1


def test_a_network_with_batch_statistics_is_not_compiled(tmp_path, root, monkeypatch):
    monkeypatch.setattr(torch, "compile", None)
    jobs = [training_job(root, model=REGNETY, execution={"compile": on}, optimisation=SGD) for on in (False, True)]
    assert same(*(run(job, tmp_path / f"{i}") for i, job in enumerate(jobs)))


def test_stochastic_depth_acts_in_train_mode_only(tmp_path, root):
    def trained(depth: float, train_mode: bool) -> dict:
        job = training_job(root, model={"stochastic_depth": depth}, optimisation={"train_mode": train_mode})
        return run(job, tmp_path / f"{depth}-{train_mode}")

    assert same(trained(0.5, False), trained(0.0, False))
    assert not same(trained(0.5, True), trained(0.0, True))


def test_fine_tuning_starts_from_the_resized_weights(tmp_path, root):
    run(training_job(root), tmp_path / "initial")
    larger = {"model": {"resolution": 2 * PIXELS}, "views": {"resolution": 2 * PIXELS}}
    still = {"learning_rate": 1e-30, "warmup_learning_rate": 0.0, "final_learning_rate": 0.0, "weight_decay": 0.0}
    job = training_job(root, optimisation=still | {"epochs": 1}, **larger)
    tuned = run(job, tmp_path / "tuned", initial=tmp_path / "initial/weights.safetensors")
    reference = models.create(job.resolved().model)
    models.load_weights(reference, checkpoints.read_weights(tmp_path / "initial" / "weights.safetensors"))
    assert tuned["pos_embed"].shape[1] == 1 + (2 * PIXELS // 7) ** 2
    assert same(tuned, reference.state_dict())


@pytest.mark.parametrize("step", range(1, 2 * STEPS))
def test_a_crash_at_any_step_changes_no_bit(tmp_path, root, monkeypatch, step):
    job = training_job(root, execution={"save_minutes": 1e-9})
    undisturbed = run(job, tmp_path / "undisturbed")

    def crash():
        raise MemoryError

    with monkeypatch.context() as patch:
        stop_at(patch, step, crash)
        with pytest.raises(MemoryError):
            run(job, tmp_path / "crashed")
    assert not (tmp_path / "crashed").exists()
    assert same(run(job, tmp_path / "crashed"), undisturbed)
    assert history(tmp_path / "crashed") == history(tmp_path / "undisturbed")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGUSR1])
def test_a_stop_signal_saves_the_state_at_the_next_step(tmp_path, root, monkeypatch, stop):
    job = training_job(root)
    with monkeypatch.context() as patch:
        stop_at(patch, 1, lambda: os.kill(os.getpid(), stop))
        with pytest.raises(SystemExit) as ended:
            run(job, tmp_path / "run")
    assert ended.value.code == 128 + stop
    state = ResumeState(tmp_path / "run.resume", job.digest).load()
    assert state["step"] == 2
    assert same(run(job, tmp_path / "run"), run(job, tmp_path / "undisturbed"))


def test_the_state_of_another_recipe_is_refused(tmp_path, root, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            run(training_job(root), tmp_path / "run")
    with pytest.raises(SystemExit, match=r"resume\.pt"):
        run(training_job(root, seed=8), tmp_path / "run")


def test_a_state_that_other_code_has_saved_is_refused(tmp_path, root):
    job = training_job(root)
    ResumeState(tmp_path / "run.resume", job.digest).save({"net": {}, "step": 3})
    with pytest.raises(SystemExit, match=r"resume\.pt: saved by other code .*delete"):
        run(job, tmp_path / "run")


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_a_step_that_is_not_finite_ends_the_run_there_and_spoils_nothing(tmp_path, root, monkeypatch, how):
    job = training_job(root, execution={"save_minutes": 1e-9})
    with monkeypatch.context() as patch:
        spoil(patch, STEPS + 1, how=how)
        words = rf"step {STEPS + 1} \(epoch 1\), learning rate 0\.\d+: .*not finite.*after {STEPS + 1} steps.*Lower"
        for _attempt in range(2):
            with pytest.raises(SystemExit, match=words):
                run(job, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert ResumeState(tmp_path / "run.resume", job.digest).load()["step"] == STEPS + 1
    assert same(run(job, tmp_path / "run"), run(job, tmp_path / "undisturbed"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_number_of_a_state_is_overlooked(bad):
    types = (torch.float32, torch.bfloat16, torch.float64)
    state = {
        "net": [torch.full((3, 2), -1.0, dtype=one) for one in types],
        "step": torch.tensor(3.0),
        "no": torch.empty(0),
    }
    state |= {"largest": torch.tensor(torch.finfo(torch.float32).max), "counts": torch.tensor([2**62])}
    assert all_finite(state)
    for tensor in (*state["net"], state["step"], state["largest"]):
        kept = tensor.view(-1)[-1].clone()
        tensor.view(-1)[-1] = bad
        assert not all_finite(state)
        tensor.view(-1)[-1] = kept
    assert all_finite(state)


def test_a_stop_signal_saves_no_state_that_is_not_finite(tmp_path, root, monkeypatch):
    spoil(monkeypatch, 1)
    stop_at(monkeypatch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit, match=r"step 1 .* no state is saved"):
        run(training_job(root), tmp_path / "run")
    assert not (tmp_path / "run.resume").exists()


def test_weights_that_overflow_at_a_finite_loss_are_not_saved(tmp_path, root, monkeypatch):
    monkeypatch.setattr(training, "learning_rate", lambda *_: 1e42)  # beyond what params may say
    job = training_job(root, optimisation={"warmup_epochs": 0, "epochs": 1}, views={"batch": 80})
    with pytest.raises(SystemExit, match=r"step 0 .*weights or the optimiser's state are not finite"):
        run(job, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", [DEIT, REGNETY], ids=["deit", "regnety"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lamb", "lion"])
def test_a_step_that_may_be_skipped_changes_nothing(tmp_path, root, monkeypatch, model, optimizer):
    """Neither weights nor batch statistics, moments or momentum; also where it is the first step of all."""
    optimisation = {"optimizer": optimizer, "skip_nonfinite_steps": 2}
    job = training_job(root, execution={"save_minutes": 1e-9}, model=model, optimisation=optimisation)
    states = recorded_states(monkeypatch)
    spoil(monkeypatch, 0, 4)
    run(job, tmp_path / "run")
    assert [state["step"] for state in states] == list(range(2 * STEPS))
    kept = [equal(states[step], states[step + 1]) for step in range(2 * STEPS - 1)]
    assert kept == [True, False, False, False, True]
    assert [row["skipped_steps"] for row in rows_of(tmp_path / "run")] == ["1", "1"]
    assert all(0 < float(row["loss"]) < 3 and 0 <= float(row["accuracy"]) <= 1 for row in rows_of(tmp_path / "run"))


def equal(left: dict, right: dict) -> bool:
    """Whether two saved states have the same weights, statistics and moments; AdamW's are absent or zero at first."""
    of_each = (tensors_in(state["optimizer"]["state"]) for state in (left, right))
    moments = zip_longest(*of_each, fillvalue=torch.zeros(()))
    return same(left["net"], right["net"]) and all(bool((one == other).all()) for one, other in moments)


def test_skipped_steps_are_counted_over_interruptions_and_logged(tmp_path, root, monkeypatch, caplog):
    caplog.set_level("INFO", "deit")
    spoil(monkeypatch, 1, STEPS + 1)
    allowing = {
        allowed: training_job(root, execution={"save_minutes": 1e-9}, optimisation={"skip_nonfinite_steps": allowed})
        for allowed in (1, 2)
    }
    for allowed, job in allowing.items():
        with monkeypatch.context() as patch:
            stop_at(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
            with pytest.raises(SystemExit, match="143"):
                run(job, tmp_path / f"{allowed}")
    with pytest.raises(SystemExit, match=rf"step {STEPS + 1} .* and 1 such steps were skipped before"):
        run(allowing[1], tmp_path / "1")
    weights = run(allowing[2], tmp_path / "2")
    assert same(weights, run(allowing[2], tmp_path / "undisturbed"))
    assert [
        line
        for line in (tmp_path / "2/log.txt").read_text(encoding="utf-8").splitlines()
        if "1 steps skipped: not finite" in line
    ]


def test_running_statistics_move_once_a_step_towards_the_mean_of_the_groups(tmp_path, root):
    optimisation = SGD | {"epochs": 1, "learning_rate": 1e-30, "warmup_learning_rate": 0.0}
    job = training_job(root, model=REGNETY, views={"batch": 80}, optimisation=optimisation)  # one step of ten groups
    trained, stream = run(job, tmp_path / "run"), stream_of(job)
    groups, stem = [stream[0, 0, group] for group in range(10)], trained["stem.conv.weight"]
    shown = [stream.finish(group, CPU.device)[0] for group in groups]
    outputs = [torch.nn.functional.conv2d(views, stem, stride=2, padding=1) for views in shown]
    mean = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    variance = torch.stack([output.transpose(0, 1).flatten(1).var(1) for output in outputs]).mean(0)
    torch.testing.assert_close(trained["stem.bn.running_mean"], 0.1 * mean)
    torch.testing.assert_close(trained["stem.bn.running_var"], 0.9 + 0.1 * variance)


@pytest.mark.long
def test_kill_9_and_the_same_command_again(tmp_path, root):
    execution = {"save_minutes": 1e-9, "workers": 1}
    job = with_data(training_job(root, execution=execution, optimisation={"epochs": 40}), tmp_path)
    line = command(job, tmp_path)
    process = subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not (tmp_path / "resume" / "resume.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
    again = subprocess.run(line, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=600)
    assert again.returncode == 0, again.stderr
    assert "resumed after" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert not (tmp_path / "resume").exists()
    assert same(checkpoints.read_weights(tmp_path / "run" / "weights.safetensors"), run(job, tmp_path / "undisturbed"))


def test_images_that_do_not_fill_a_batch_are_left_out(root):
    assert stream_of(training_job(root)).views_per_epoch == STEPS * BATCH < IMAGES


def test_what_the_run_was_not_planned_with_is_refused(tmp_path, root):
    job = with_data(training_job(root, "hard"), tmp_path)
    tuned = job.model_copy(update={"inputs": {**job.inputs, "initial": "i" * 10}})
    planned_input(tmp_path / "prepared", job, "data")
    planned_input(None, job, "teacher")
    with pytest.raises(SystemExit, match="planned without any --initial"):
        planned_input(tmp_path / "prepared", job, "initial")
    with pytest.raises(SystemExit, match="--initial iiiiiiiiii, which is not given"):
        planned_input(None, tuned, "initial")
    with pytest.raises(SystemExit, match="needs --teacher-logits or --teacher"):
        teacher_of(job, CPU, None, [])


def test_logits_of_another_teacher_run_are_refused(tmp_path, root):
    foreign = Job(kind="cache", name="cache", recipe={}, inputs={"teacher": "f" * 10}, behaviour={})
    with new_folder(tmp_path / "cache", foreign):
        pass
    with pytest.raises(SystemExit, match="teacher run ffffffffff, but hard learns from tttttttttt"):
        teacher_of(training_job(root, "hard"), CPU, None, [tmp_path / "cache"])
