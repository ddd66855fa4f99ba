"""The rows of the paper's ablation of the training recipe: each trains, by its field or timm's argument alone."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import timm
import torch
from plan.studies import plan_study
from tiny_runs import (
    BATCH,
    CPU,
    DEIT,
    DISTILLED,
    PIXELS,
    REGNETY,
    STEPS,
    run,
    same,
    stream_of,
    teacher_net,
    training_job,
)
from training_runs import stop_at

from deit.learn import training
from deit.networks import models
from deit.networks.recipes import Model
from deit.store.checkpoints import ResumeState, read_weights
from deit.teach.teacher_logits import TeacherInTheLoop

ROOT = Path(__file__).parents[1]
DROPOUT = {"proj_drop_rate": 0.1, "pos_drop_rate": 0.1, "drop_rate": 0.1}
ROWS = {
    "the recipe": {},
    "SGD": {"optimisation": {"optimizer": "sgd"}},
    "no RandAugment": {"views": {"randaugment": ""}},
    "AutoAugment": {"views": {"randaugment": "original-mstd0.5"}},
    "AutoAugment, v0": {"views": {"randaugment": "v0"}},
    "no mixup": {"views": {"mixup": 0.0}},
    "no cutmix": {"views": {"cutmix": 0.0}},
    "neither": {"views": {"mixup": 0.0, "cutmix": 0.0}},
    "no erasing": {"views": {"erasing": 0.0}},
    "no stochastic depth": {"model": {"stochastic_depth": 0.0}},
    "no repeats": {"views": {"repeats": 1}},
    "dropout": {"model": {"arguments": DEIT["arguments"] | DROPOUT}},
    "EMA": {"optimisation": {"ema_decay": 0.99996}},
}


def with_arguments(model: dict, arguments: dict) -> dict:
    return model | {"arguments": model["arguments"] | arguments}


def fine_tuned(job_changes: dict, root: Path, folder: Path) -> tuple:
    """A job at twice the resolution, and the weights that it ended with, from those of a first training."""
    run(training_job(root), folder / "initial")
    views = {"resolution": 2 * PIXELS} | job_changes.get("views", {})
    model = {"resolution": 2 * PIXELS} | job_changes.get("model", {})
    job = training_job(root, **job_changes | {"views": views, "model": model})
    return job, run(job, folder / "tuned", initial=folder / "initial/weights.safetensors")


@pytest.mark.parametrize("row", ROWS)
def test_each_row_trains_and_differs_from_the_recipe(tmp_path, root, row):
    trained = run(training_job(root, **ROWS[row]), tmp_path / "run")
    assert all(bool(tensor.isfinite().all()) for tensor in trained.values())
    torch.manual_seed(7)
    assert not same(trained, models.create(Model.model_validate(DEIT)).state_dict())
    if row != "the recipe":
        assert not same(trained, run(training_job(root), tmp_path / "recipe"))


@pytest.mark.parametrize("row", ROWS)
def test_each_row_fine_tunes(tmp_path, root, row):
    _job, tuned = fine_tuned(ROWS[row], root, tmp_path)
    assert all(bool(tensor.isfinite().all()) for tensor in tuned.values())


@pytest.mark.parametrize("model", [DEIT, DISTILLED], ids=["deit", "distilled"])
def test_sgd_fine_tunes_a_transformer_by_the_learning_rate_for_a_batch_of_512(tmp_path, root, model):
    """Against plain torch: the rate is that of the field times batch / 512, nothing else scales it."""
    loss = "token" if model is DISTILLED else "labels"
    teacher = TeacherInTheLoop(teacher_net(REGNETY), "fp32") if loss == "token" else None
    constant = {"schedule": "constant", "warmup_epochs": 0, "weight_decay": 1e-4, "learning_rate": 0.4, "epochs": 1}
    still = {"model": {"stochastic_depth": 0.0}}
    run(training_job(root, loss, **still), tmp_path / "initial", teacher)
    initial = tmp_path / "initial/weights.safetensors"
    job = training_job(root, loss, optimisation=constant | {"optimizer": "sgd"}, **still)
    tuned = run(job, tmp_path / "tuned", teacher, initial)
    net, stream = models.create(job.resolved().model), stream_of(job)
    models.load_weights(net, read_weights(initial))
    rate = 0.4 * BATCH / 512
    sgd = torch.optim.SGD(models.parameter_groups(net, 1e-4), lr=rate, momentum=0.9, nesterov=True)
    for step in range(STEPS):
        groups = [stream[0, step, group] for group in range(stream.groups_per_batch)]
        views, targets = map(torch.cat, zip(*(stream.finish(group, CPU.device) for group in groups), strict=True))
        logits = models.token_logits(net, views)
        losses = [torch.nn.functional.cross_entropy(logits[0], targets)]
        if teacher:
            said = torch.cat([teacher.says(0, group.positions, stream.finish(group, CPU.device)[0]).labels
                              for group in groups])  # fmt: skip
            losses.append(torch.nn.functional.cross_entropy(logits[1], said))
        sgd.zero_grad()
        torch.stack(losses).mean().backward()
        sgd.step()
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tuned[name], tensor, rtol=1e-4, atol=1e-5)


# Dropout and initialisation, by timm's arguments ----------------------------------------------------------------------


@pytest.mark.parametrize("model", [DEIT, DISTILLED], ids=["deit", "distilled"])
@pytest.mark.parametrize("workers", [0, 1])
def test_dropout_is_drawn_again_alike_after_an_interruption(tmp_path, root, monkeypatch, model, workers):
    loss = "two-class-tokens" if model is DISTILLED else "labels"
    arguments = DROPOUT | {"attn_drop_rate": 0.1}
    job = training_job(root, loss, execution={"workers": workers, "groups_per_forward": 3},
                       model=with_arguments(model, arguments))  # fmt: skip
    with monkeypatch.context() as patch:
        stop_at(patch, STEPS, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit, match="143"):
            run(job, tmp_path / "run")
    assert ResumeState(tmp_path / "run.resume", job.digest).load()["step"] == STEPS + 1
    assert same(run(job, tmp_path / "run"), run(job, tmp_path / "undisturbed"))


@pytest.mark.parametrize("argument", [*DROPOUT, "attn_drop_rate"])
def test_each_dropout_acts_in_training_and_in_train_mode_only(tmp_path, root, argument):
    def trained(rate: float, train_mode: bool) -> dict:
        model = with_arguments(DEIT, {argument: rate}) | {"stochastic_depth": 0.0}
        job = training_job(root, model=model, optimisation={"train_mode": train_mode, "epochs": 1})
        return run(job, tmp_path / f"{rate}-{train_mode}")

    assert same(trained(0.1, False), trained(0.0, False))
    assert not same(trained(0.1, True), trained(0.0, True))


def initial_net(root: Path, model: dict) -> torch.nn.Module:
    job = training_job(root, model=model)
    return training.set_up(job, stream_of(job), ResumeState(root, job.digest), CPU, None, None).net


@pytest.mark.parametrize("model", [DEIT, DISTILLED], ids=["deit", "distilled"])
def test_weight_init_changes_the_initialisation_and_nothing_else(root, model):
    plain, jax = (initial_net(root, with_arguments(model, how)) for how in ({}, {"weight_init": "jax"}))
    assert {name: tensor.shape for name, tensor in plain.state_dict().items()} == {
        name: tensor.shape for name, tensor in jax.state_dict().items()
    }
    assert [type(module) for module in plain.modules()] == [type(module) for module in jax.modules()]
    heads = jax.get_classifier() if model is DISTILLED else [jax.head]
    assert all(bool((head.weight == 0).all()) for head in heads), "JAX's heads begin at zero"
    assert not torch.equal(plain.blocks[0].mlp.fc1.weight, jax.blocks[0].mlp.fc1.weight)
    assert jax.cls_token.std() > 0.01, "drawn as the paper's all the same"
    jax.load_state_dict(plain.state_dict())
    views = torch.randn(4, 1, PIXELS, PIXELS)
    for net in (plain, jax):
        net.eval()
    assert all(map(torch.equal, models.token_logits(plain, views), models.token_logits(jax, views)))


def test_a_network_that_was_initialised_as_in_jax_learns_and_fine_tunes(tmp_path, root):
    jax = {"model": {"arguments": DEIT["arguments"] | {"weight_init": "jax"}}}
    trained = run(training_job(root, **jax), tmp_path / "run")
    assert float(trained["head.weight"].abs().max()) > 0
    _job, tuned = fine_tuned(jax, root, tmp_path)
    assert same(tuned, fine_tuned({}, root, tmp_path / "plain")[1]), "its own initialisation is overwritten"


ARGUMENTS = [DROPOUT, DROPOUT | {"attn_drop_rate": 0.1, "weight_init": "jax"}]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=["dropout", "all"])
@pytest.mark.parametrize("model", [DEIT, DISTILLED], ids=["deit", "distilled"])
def test_a_run_with_these_arguments_is_read_by_timm_and_as_published_weights(tmp_path, root, model, arguments):
    loss = "two-class-tokens" if model is DISTILLED else "labels"
    job = training_job(root, loss, model=with_arguments(model, arguments))
    weights = run(job, tmp_path / "run")
    by_timm = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True)
    published = models.create_given(job.resolved().model, weights)
    assert same(by_timm.state_dict(), weights) and same(published.state_dict(), weights)
    assert by_timm.pos_drop.p == published.pos_drop.p == by_timm.head_drop.p == by_timm.blocks[0].mlp.drop1.p == 0.1
    views = torch.randn(4, 1, PIXELS, PIXELS)
    read = [models.token_logits(net.eval(), views) for net in (by_timm, published)]
    assert all(map(torch.equal, *read))


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"proj_drop_rate": 2}, "between 0 and 1"),
        ({"pos_drop_rate": "much"}, "timm cannot build"),
        ({"weight_init": "jaxx"}, "timm cannot build"),
        ({"drop": 0.1}, "'drop'"),
    ],
)
@pytest.mark.parametrize("model", [DEIT, DISTILLED], ids=["deit", "distilled"])
def test_an_argument_that_timm_does_not_take_is_named(model, argument, words):
    with pytest.raises(ValueError, match=words):
        models.create(Model.model_validate(with_arguments(model, argument)))


# In a params file -----------------------------------------------------------------------------------------------------


def test_a_params_file_may_ask_for_every_row(tmp_path, monkeypatch):
    """Of single runs (optimiser, EMA), of a model (dropout, initialisation, stochastic depth) and of all views."""
    monkeypatch.chdir(ROOT)
    shutil.copy("params/fashion.yaml", tmp_path)
    (tmp_path / "ablation.yaml").write_text(PARAMS, encoding="utf-8")
    plan = plan_study("ablation", tmp_path)
    recipes = {job.name: job.resolved() for job in plan.jobs.values() if job.kind == "train"}
    averaged = {name for name, recipe in recipes.items() if recipe.optimisation.ema_decay}
    assert averaged == {name for name in recipes if "/deit-ti/labels/" in name} and len(averaged) > 1
    assert {recipes[name].optimisation.ema_decay for name in averaged} == {0.99996}
    descended = {name for name, recipe in recipes.items() if recipe.optimisation.optimizer == "sgd"}
    assert descended >= {name for name in recipes if "/deit-s/" in name} and not averaged & descended
    arguments = [recipe.model.arguments for name, recipe in recipes.items() if "/deit-ti/" in name]
    assert arguments and all(each.items() >= (DROPOUT | {"weight_init": "jax"}).items() for each in arguments)
    assert all(recipe.model.stochastic_depth == 0 for name, recipe in recipes.items() if "/deit-ti/" in name)
    bare = [(recipe.views.randaugment, recipe.views.erasing, recipe.views.repeats) for recipe in recipes.values()]
    assert set(bare) == {("original-mstd0.5", 0.0, 1)}


PARAMS = """
extends: fashion
models:
  deit-ti:
    stochastic_depth: 0
    arguments: {proj_drop_rate: 0.1, pos_drop_rate: 0.1, drop_rate: 0.1, weight_init: jax}
views: {randaugment: original-mstd0.5, erasing: 0, repeats: 1, mixup: 0, cutmix: 0}
students: {runs: {deit-ti/labels: {ema_decay: 0.99996}, deit-s: {optimizer: sgd, weight_decay: 0}}}
finetuning: {runs: {deit-ti/labels: {ema_decay: 0.99996}, deit-s: {optimizer: sgd, weight_decay: 0}}}
"""
