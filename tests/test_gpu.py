"""What only a GPU can show: the loop, the cache, resuming, compiling and graphs on CUDA.

    pytest -m gpu                                            # on a machine with a GPU; elsewhere all are skipped
    GPU_TESTS_DEVICE=cpu pytest tests/test_gpu.py            # a rehearsal: shows that the tests run, nothing of GPUs

The runs are those of tiny_runs.py, so that all of it takes a minute or two.
"""

import copy
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_runs import KINDS, job_of, show_nan, steps_taken, trained, without_graph
from tiny_runs import (
    DEIT,
    DISTILLED,
    GROUP,
    PIXELS,
    REGNETY,
    STEPS,
    caching_of,
    run,
    same,
    stream_of,
    teacher_net,
    training_job,
)
from training_runs import ENVIRONMENT, NO_DROP, SGD, close, command, history, rows_of, spoil, stop_at, with_data

from deit.learn import training
from deit.learn.graph import WARM_UP
from deit.learn.teacher import cached_teacher
from deit.networks import models
from deit.networks.distributed import Place, set_up_torch
from deit.networks.recipes import Model
from deit.see.views import ViewStream
from deit.store import checkpoints
from deit.store.job import Execution
from deit.teach.recording import write_epochs
from deit.teach.teacher_logits import CachedTeacher, TeacherInTheLoop, logits_of

DEVICE = os.environ.get("GPU_TESTS_DEVICE", "cuda")
GPUS = int(DEVICE == "cuda")
WEIGHTS = "a" * 64
ROOT = Path(__file__).resolve().parent.parent

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(GPUS and not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.fixture
def place():
    """The GPU, set up for each test as the commands do; what that changes in this process is taken back after it."""
    precision = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield Place(set_up_torch(Execution(gpus=GPUS)))
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.enable_cudnn_sdp(True)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = precision


def gpu_job(root: Path, loss: str = "labels", execution: dict | None = None, **changes):
    return training_job(root, loss, {"gpus": GPUS, **(execution or {})}, **changes)


MODELS = pytest.mark.parametrize("model", [DEIT, REGNETY], ids=["deit", "regnety"])


@pytest.mark.parametrize("turn", [1, 2])
def test_kernels_are_the_reproducible_ones_in_each_test(place, turn):
    """conftest.py takes torch's settings back after each."""
    assert torch.are_deterministic_algorithms_enabled()


# The loop -------------------------------------------------------------------------------------------------------------


@MODELS
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_repetition_and_workers_change_no_bit(tmp_path, root, place, model, precision):
    jobs = [
        gpu_job(root, execution={"workers": workers}, model=model, optimisation={"precision": precision})
        for workers in (0, 0, 2)
    ]
    first, *others = (run(job, tmp_path / f"{i}", place=place) for i, job in enumerate(jobs))
    assert all(same(first, other) for other in others)


@MODELS
def test_the_gpu_learns_what_the_cpu_does(tmp_path, root, place, model):
    changes = {"model": model, "optimisation": SGD}
    on_gpu = run(gpu_job(root, **changes), tmp_path / "gpu", place=place)
    on_cpu = run(training_job(root, **changes), tmp_path / "cpu")
    for name, tensor in on_cpu.items():
        torch.testing.assert_close(on_gpu[name], tensor, rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(history(tmp_path / "gpu"), history(tmp_path / "cpu"), strict=True):
        assert [float(x) for x in ours] == pytest.approx([float(x) for x in theirs], rel=1e-3)


@MODELS
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_no_step_waits_for_the_gpu_even_one_that_is_skipped(tmp_path, root, place, monkeypatch, model, ema_decay):
    """torch raises where the host waits, for views or a step; from the second epoch on, as the first loads kernels."""
    spoil(monkeypatch, STEPS + 1)
    watched = []
    take_step, finish, finish_epoch = training.take_step, ViewStream.finish_all, training.finish_epoch

    def watched_step(a_run, *arguments):
        watched.append(a_run.step)
        with waiting("error" if a_run.step >= STEPS else "default"):
            take_step(a_run, *arguments)

    def watched_finish(*arguments):
        with waiting("error" if len(watched) >= STEPS else "default"):
            return finish(*arguments)

    def end_of_epoch(*arguments):
        with waiting("default"):  # here, once an epoch, it may
            finish_epoch(*arguments)

    monkeypatch.setattr(training, "take_step", watched_step)
    monkeypatch.setattr(training, "finish_epoch", end_of_epoch)
    monkeypatch.setattr(ViewStream, "finish_all", watched_finish)
    job = gpu_job(root, model=model, optimisation={"epochs": 3, "skip_nonfinite_steps": 1, "ema_decay": ema_decay})
    trained = run(job, tmp_path / "run", place=place)
    assert watched == list(range(3 * STEPS))
    assert [row["skipped_steps"] for row in rows_of(tmp_path / "run")] == ["0", "1", "0"]
    assert all(tensor.isfinite().all() for tensor in trained.values())


@contextmanager
def waiting(mode: str):
    """What torch does where the host waits for the GPU: "error", or "default", nothing."""
    before = torch.cuda.get_sync_debug_mode() if GPUS else 0
    try:
        if GPUS:
            torch.cuda.set_sync_debug_mode(mode)
        yield
    finally:
        if GPUS:
            torch.cuda.set_sync_debug_mode(before)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_skipped_step_changes_nothing(tmp_path, root, place, monkeypatch, optimizer, ema_decay):
    """A run whose every step is skipped ends with the weights that it began with."""
    spoil(monkeypatch, *range(2 * STEPS))
    optimisation = {"optimizer": optimizer, "skip_nonfinite_steps": 2 * STEPS, "ema_decay": ema_decay}
    job = gpu_job(root, model=REGNETY, optimisation=optimisation)
    torch.manual_seed(job.resolved().seed)
    initial = models.create(job.resolved().model).state_dict()
    assert same(run(job, tmp_path / "run", place=place), initial)


def test_one_step_too_many_that_is_not_finite_ends_the_run(tmp_path, root, place, monkeypatch):
    spoil(monkeypatch, 1)
    with pytest.raises(SystemExit, match=r"step 1 .*not finite"):
        run(gpu_job(root), tmp_path / "run", place=place)
    assert not (tmp_path / "run").exists()


# As many tokens as at 224 and 384 pixels: what attention computes with depends on them -----------------------------


@pytest.fixture
def of_tokens(root):
    """A job whose student has heads of 64 and sees 197 or 577 tokens (with a distillation token one more)."""

    def job(patches: int, loss: str = "labels", execution: dict | None = None, precision: str = "bf16"):
        name = DISTILLED["timm"] if loss == "token" else DEIT["timm"]
        size = {"embed_dim": 128, "depth": 2, "num_heads": 2, "patch_size": 2}
        model = DEIT | {"timm": name, "arguments": size, "resolution": 2 * patches}
        views = {"resolution": 2 * patches, "batch": 16, "mix_group": 8}
        changes = {"optimisation": {"precision": precision}}
        return gpu_job(root, loss, execution, model=model, views=views, **changes)

    return job


TOKENS = pytest.mark.parametrize("patches", [14, 24], ids=["197 tokens", "577 tokens"])
PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "bf16"])


@TOKENS
@PRECISIONS
def test_attention_repeats_every_bit(tmp_path, place, of_tokens, patches, precision):
    job = of_tokens(patches, precision=precision)
    first, *others = (run(job, tmp_path / f"{number}", place=place) for number in range(3))
    assert all(same(first, other) for other in others)


@TOKENS
@PRECISIONS
def test_attention_goes_on_with_every_bit(tmp_path, place, of_tokens, monkeypatch, patches, precision):
    job = of_tokens(patches, execution={"save_minutes": 1e-9}, precision=precision)

    def crash():
        raise MemoryError

    with monkeypatch.context() as patch:
        stop_at(patch, 3, crash)
        with pytest.raises(MemoryError):
            run(job, tmp_path / "crashed", place=place)
    assert same(run(job, tmp_path / "crashed", place=place), run(job, tmp_path / "undisturbed", place=place))


@TOKENS
@PRECISIONS
def test_a_transformer_s_cache_is_what_it_says_in_the_loop(tmp_path, place, of_tokens, patches, precision):
    job = of_tokens(patches, "token", precision=precision)
    teacher = of_tokens(patches).resolved().model
    net = teacher_net(teacher.model_dump()).to(place.device)
    in_the_loop = run(job, tmp_path / "loop", TeacherInTheLoop(net, precision), place=place)
    caching = caching_of(job, "labels").model_copy(update={"model": teacher})
    (tmp_path / "cache").mkdir()
    write_epochs(tmp_path / "cache", caching, net, WEIGHTS, stream_of(job), Execution(gpus=GPUS))
    cache = cached_teacher([tmp_path / "cache"], job.resolved(), WEIGHTS)
    assert same(run(job, tmp_path / "cached", cache, place=place), in_the_loop)


# Teachers -------------------------------------------------------------------------------------------------------------


def cached(job, folder: Path, keep: str, place: Place) -> CachedTeacher:
    folder.mkdir()
    net = teacher_net(REGNETY).to(place.device)
    write_epochs(folder, caching_of(job, keep), net, WEIGHTS, stream_of(job), Execution(gpus=GPUS))
    return cached_teacher([folder], job.resolved(), WEIGHTS)


@pytest.mark.parametrize(("loss", "keep"), [("hard", "labels"), ("token", "labels"), ("soft", "dense")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_student_of_the_cache_is_the_student_of_the_teacher(tmp_path, root, place, loss, keep, precision):
    """Bit for bit, though promised on the CPU only: the teacher forwards the same mix groups in both."""
    job = gpu_job(root, loss, optimisation={"precision": precision})
    asked = TeacherInTheLoop(teacher_net(REGNETY).to(place.device), precision)
    in_the_loop = run(job, tmp_path / "loop", asked, place=place)
    assert same(run(job, tmp_path / "cached", cached(job, tmp_path / "cache", keep, place), place=place), in_the_loop)


def test_a_dense_cache_in_bf16_says_what_the_teacher_does(tmp_path, root, place):
    job = gpu_job(root, "soft", optimisation={"precision": "bf16"})
    stream, cache = stream_of(job), cached(job, tmp_path / "cache", "dense", place)
    asked = TeacherInTheLoop(teacher_net(REGNETY).to(place.device), "bf16")
    for epoch, step, number in np.ndindex(2, STEPS, stream.groups_per_batch):
        group = stream[epoch, step, number]
        views, _ = stream.finish(group, place.device)
        said, kept = (teacher.says(epoch, group.positions, views) for teacher in (asked, cache))
        assert torch.equal(kept.logits, said.logits.cpu()) and torch.equal(kept.labels, said.labels.cpu())


# Interruption and ranks -----------------------------------------------------------------------------------------------


def test_kill_9_and_the_same_command_again(tmp_path, root, place):
    execution = {"save_minutes": 1e-9, "workers": 1}
    job = with_data(gpu_job(root, execution=execution, optimisation={"epochs": 40}), tmp_path)
    line = command(job, tmp_path)
    process = subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not (tmp_path / "resume" / "resume.pt").exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "the run ended before it was killed"
    again = subprocess.run(line, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=300)
    assert again.returncode == 0, again.stderr
    assert "resumed after" in (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    undisturbed = run(job, tmp_path / "undisturbed", place=place)
    assert same(checkpoints.read_weights(tmp_path / "run" / "weights.safetensors"), undisturbed)


@MODELS
def test_as_many_ranks_as_there_are_gpus_learn_what_one_does(tmp_path, root, place, model):
    """Two, joined by nccl, where there are two GPUs; else torchrun with one, which has to change no bit."""
    ranks = 2 if torch.cuda.device_count() > 1 or not GPUS else 1
    changes = {"model": model | NO_DROP, "optimisation": SGD}
    job = with_data(gpu_job(root, execution={"gpus": ranks * GPUS}, **changes), tmp_path)
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}")
    line = command(job, tmp_path, torchrun)
    ended = subprocess.run(line, env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=300)
    assert ended.returncode == 0, ended.stderr
    together = checkpoints.read_weights(tmp_path / "run" / "weights.safetensors")
    alone = run(job, tmp_path / "alone", place=place)
    assert same(together, alone) if ranks == 1 else close(together, alone)


# Other ways to compute ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_student_learns_about_the_same(tmp_path, root, place, precision):
    arguments = DEIT["arguments"] | {"proj_drop_rate": 0.2}  # what is dropped follows from a hash of 64 bits
    changes = {"model": {"arguments": arguments}, "optimisation": SGD | {"precision": precision}}
    plain, compiled = (
        run(gpu_job(root, execution={"compile": on}, **changes), tmp_path / f"{on}", place=place)
        for on in (False, True)
    )
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if precision == "fp32" else {"rtol": 0.05, "atol": 0.01}
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, **tolerance)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_convnet_with_channels_last_computes_about_the_same_as_with_channels_first(place, precision):
    """Logits and gradients. The project's convnets have channels last."""
    last = teacher_net(REGNETY).to(place.device).requires_grad_()
    net = copy.deepcopy(last).to(memory_format=torch.contiguous_format)
    assert all_last(last) and not all_last(net)
    views = torch.randn(GROUP, Model(**REGNETY).channels, PIXELS, PIXELS, device=place.device)
    views_last = views.to(memory_format=torch.channels_last)
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if precision == "fp32" else {"rtol": 0.05, "atol": 0.05}
    said = logits_of(net, views, precision)
    torch.testing.assert_close(logits_of(last, views_last, precision), said, **tolerance)
    if precision == "fp32":
        # Single numbers of a gradient are sums that cancel: fp32 misses some by a percent in either layout. So each
        # tensor is compared with what float64 says, by the norm.
        exact = gradients(copy.deepcopy(net).double(), views.double())
        for one, seen in ((net, views), (last, views_last)):
            for ours, true in zip(gradients(one, seen), exact, strict=True):
                assert (ours.double() - true).norm() <= 1e-5 * true.norm()


def all_last(net: torch.nn.Module) -> bool:
    """Of a weight with one input channel both layouts are the same memory, so one weight tells nothing."""
    weights = [parameter for parameter in net.parameters() if parameter.ndim == 4]
    return all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def gradients(net: torch.nn.Module, views: torch.Tensor) -> list[torch.Tensor]:
    net(views).square().mean().backward()
    return [parameter.grad for parameter in net.parameters()]


# A step as one graph --------------------------------------------------------------------------------------------------


@pytest.fixture
def captured(caplog):
    """How many steps were captured so far; none on a CPU."""
    caplog.set_level("INFO", "deit")
    return lambda: sum("a step is one CUDA graph" in line for line in caplog.messages)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_is_replayed_is_the_step(tmp_path, root, place, captured, kind):
    eager, replayed = (
        trained([job_of(root, kind, gpus=GPUS, graph=on)], tmp_path / f"{on}", place)[kind] for on in (False, True)
    )
    assert same(replayed, eager) and captured() == GPUS


@TOKENS
@pytest.mark.parametrize("loss", ["labels", "token"])
def test_attention_is_replayed_with_every_bit(tmp_path, place, of_tokens, captured, patches, loss):
    eager, replayed = (
        run(of_tokens(patches, loss, {"graph": on}), tmp_path / f"{on}", taught_by_a_convnet(place), place=place)
        for on in (False, True)
    )
    assert same(replayed, eager) and captured() == GPUS


def taught_by_a_convnet(place: Place) -> TeacherInTheLoop:
    return TeacherInTheLoop(teacher_net(REGNETY).to(place.device), "bf16")


@pytest.mark.skipif(not GPUS, reason="compiling for a CPU takes a minute, and captures nothing")
@pytest.mark.parametrize("kind", ["token", "average", "bf16"])
def test_a_compiled_step_is_replayed(tmp_path, root, place, captured, kind):
    eager, replayed = (
        trained([job_of(root, kind, gpus=GPUS, graph=on, compile=True)], tmp_path / f"{on}", place)[kind]
        for on in (False, True)
    )
    assert same(replayed, eager) and captured() == 1


def test_runs_of_a_pass_are_replayed_beside_each_other(tmp_path, root, place, captured):
    kinds = ["labels", "hard", "token", "convnet", "average", "sgd, clipped"]
    together = trained([job_of(root, kind, gpus=GPUS, graph=True) for kind in kinds], tmp_path / "pass", place)
    assert captured() == len(kinds) * GPUS
    alone = {kind: trained([job_of(root, kind, gpus=GPUS)], tmp_path / kind, place)[kind] for kind in kinds}
    assert all(same(together[kind], alone[kind]) for kind in kinds)


@pytest.mark.parametrize("step", [2, WARM_UP + 2])
def test_a_stopped_run_goes_on_with_a_graph(tmp_path, root, place, monkeypatch, step):
    job = gpu_job(root, execution={"graph": True}, model=REGNETY, optimisation={"epochs": 4, "ema_decay": 0.9})
    with monkeypatch.context() as patch:
        steps_taken(patch, lambda a_run: a_run.step == step and os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as ended:
            run(job, tmp_path / "run", place=place)
        assert ended.value.code == 128 + signal.SIGTERM
    resumed = run(job, tmp_path / "run", place=place)
    assert same(resumed, run(without_graph(job), tmp_path / "eager", place=place))


@MODELS
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_no_replay_waits_for_the_gpu_even_of_a_step_that_is_skipped(
    tmp_path, root, place, monkeypatch, model, ema_decay
):
    show_nan(monkeypatch, STEPS + 1)
    take_steps, finish_epoch = training.take_steps, training.finish_epoch

    def watched_steps(runs, *arguments):
        with waiting("error" if runs[0].step > WARM_UP else "default"):
            take_steps(runs, *arguments)

    def end_of_epoch(*arguments):
        with waiting("default"):
            finish_epoch(*arguments)

    optimisation = {"epochs": 3, "skip_nonfinite_steps": 1, "ema_decay": ema_decay}
    job = gpu_job(root, execution={"graph": True}, model=model, optimisation=optimisation)
    eager = run(without_graph(job), tmp_path / "eager", place=place)
    monkeypatch.setattr(training, "take_steps", watched_steps)
    monkeypatch.setattr(training, "finish_epoch", end_of_epoch)
    assert same(run(job, tmp_path / "run", place=place), eager)
    assert [row["skipped_steps"] for row in rows_of(tmp_path / "run")] == ["0", "1", "0"]


# A capture that fails ends the last test of this file: what it leaves behind cannot disturb another one --------------


def test_a_step_that_asks_the_gpu_cannot_be_captured_and_goes_on(tmp_path, root, place, captured, monkeypatch):
    inner = training.objective_loss

    def asking(*arguments):
        loss = inner(*arguments)
        return loss if float(loss.detach()) < 1e9 else loss * 0

    monkeypatch.setattr(training, "objective_loss", asking)
    eager, tried = (
        trained([job_of(root, "token", gpus=GPUS, graph=on)], tmp_path / f"{on}", place) for on in (False, True)
    )
    assert same(tried["token"], eager["token"]) and captured() == 0
