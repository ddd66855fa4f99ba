"""params/deit3.yaml and deit3-small.yaml: the recipe of DeiT III as planned, and trained in miniature."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cifar_files import declaration, write_cifar
from in_process import working_in
from plan.plan import Plan
from plan.studies import plan_study
from smoke_study import run_command
from study.params import ParamsError, load_study
from torch.nn import BCEWithLogitsLoss

from deit.learn.objectives import Objective, objective_loss
from deit.store.checkpoints import WEIGHTS, read_weights
from deit.store.frames import read_frame
from deit.tables.cells import KEYS

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 24
TINY = {"embed_dim": 16, "num_heads": 1, "depth": 2, "patch_size": 4}
SMALL = {
    "extends": "deit3",
    "resolutions": {"pretraining": 16, "finetuning": 32},
    "models": {"vit-b": {"arguments": TINY}},
    "students": {"batch": 24, "mix_group": 8, "epoch_views": 48, "epochs": 2, "warmup_epochs": 1},
    "finetuning": {"batch": 24, "mix_group": 8, "epoch_views": 24, "epochs": 1, "warmup_epochs": 0},
    "teachers": {"batch": 24, "mix_group": 8, "epoch_views": 24},
    "adaptation": {"batch": 24, "mix_group": 8, "epoch_views": 24},
    "variants": {"epochs-400": {"students": {"epochs": 1}}},
    "tables": {"table_1": None, "deit3": {"models": ["vit-b"], "finetuned": ["vit-b"]}},
    "execution": {
        phase: {"gpus": 0, "workers": 0, "mem_mb": 2000}
        for phase in ("default", "data", "teachers", "students", "adaptation", "finetuning", "teacher_logits")
    },
}
"""The study itself, but for its numbers of views, the size of its networks and the place of the jobs."""


def data_of(root: Path) -> dict:
    """The section `data`, of the small copy of CIFAR-10 below `root`."""
    training = declaration(root, [f"data_batch_{number}" for number in range(1, 6)])
    test = {"title": "test", "reader": "cifar", "split": {"images": IMAGES} | declaration(root, ["test_batch"])}
    return {
        "name": "small",
        "root": str(root),
        "reader": "cifar",
        "classes": 10,
        "training": {"images": 5 * IMAGES, "folder": None} | training,
        "evaluation": {"imagenet": None, "real": None, "v2": None, "test": test},
        "primary": "test",
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deit3")
    write_cifar(folder / "images", IMAGES)
    shutil.copytree(ROOT / "params", folder / "params")
    for name in ("workflow", "src"):
        (folder / name).symlink_to(ROOT / name)
    content = yaml.safe_dump(SMALL | {"data": data_of(folder / "images")})
    (folder / "params/small.yaml").write_text(content, encoding="utf-8")
    with working_in(folder):
        yield folder


# As planned -----------------------------------------------------------------------------------------------------------


def trainings(plan: Plan) -> dict[str, dict]:
    return {job.name: job.recipe for job in plan.jobs.values() if job.kind == "train"}


def test_all_sizes_and_lengths_are_planned_without_a_teacher():
    large, small = (plan_study(name, ROOT / "params") for name in ("deit3", "deit3-small"))
    lengths = ("labels", "labels+epochs-400")
    assert trainings(large).keys() == {
        f"{section}/{model}/{length}/{pixels}/seed0"
        for section, pixels in (("students", 192), ("finetuned", 224))
        for model in ("vit-b", "vit-l")
        for length in lengths
    }
    assert trainings(small).keys() == {
        f"{section}/vit-s/{length}/{pixels}/seed0"
        for section, pixels in (("students", 224), ("finetuned", 384))
        for length in lengths
    }
    assert not [job for plan in (large, small) for job in plan.jobs.values() if job.kind == "cache"]


@pytest.mark.parametrize(
    ("study", "name", "rate", "epochs"),
    [
        ("deit3", "vit-b/labels/192", 3e-3, 800),
        ("deit3", "vit-l/labels+epochs-400/192", 3e-3, 400),
        ("deit3-small", "vit-s/labels/224", 4e-3, 800),
    ],
)
def test_the_training_is_that_of_the_released_command(study, name, rate, epochs):
    recipe = trainings(plan_study(study, ROOT / "params"))[f"students/{name}/seed0"]
    assert recipe["model"]["arguments"] == {"init_values": 1e-4} and recipe["model"]["uniform_stochastic_depth"]
    optimisation, views = recipe["optimisation"], recipe["views"]
    assert optimisation["learning_rate"] * views["batch"] / 512 == pytest.approx(rate) and views["batch"] == 2048
    assert (optimisation["epochs"], optimisation["optimizer"]) == (epochs, "lamb")
    assert recipe["objective"] == {"loss": "labels", "binary": True} and views["label_smoothing"] == 0
    assert (views["randaugment"], views["color_jitter"], views["erasing"], views["repeats"]) == ("3a", 0.3, 0, 3)


def test_the_fine_tuning_has_views_and_a_loss_of_its_own():
    recipe = trainings(plan_study("deit3", ROOT / "params"))["finetuned/vit-b/labels/224/seed0"]
    views = recipe["views"]
    assert recipe["objective"] == {"loss": "labels", "binary": None}
    assert (views["randaugment"], views["color_jitter"], views["repeats"]) == ("rand-m9-mstd0.5-inc1", None, 1)
    assert (views["label_smoothing"], views["mixup"], views["scale"]) == (0.1, 0.8, [0.08, 1.0])


# In miniature ---------------------------------------------------------------------------------------------------------


def test_a_miniature_is_trained_fine_tuned_and_shown(place):
    plan = plan_study("small")
    plan.write({})
    for job in plan.jobs.values():
        if job.kind != "report":
            run_command(plan, job)
    weights = {
        name: read_weights(Path(job.execution.output) / WEIGHTS)
        for job in plan.jobs.values()
        if job.kind == "train" and "+" not in (name := job.name)
    }
    trained, tuned = (
        weights[f"{section}/vit-b/labels/{size}/seed0"] for section, size in (("students", 16), ("finetuned", 32))
    )
    assert trained["blocks.1.ls1.gamma"].shape == (16,) and trained["pos_embed"].shape[1] == 16
    assert tuned["pos_embed"].shape[1] == 64
    assert all(bool(tensor.isfinite().all()) for of_run in weights.values() for tensor in of_run.values())
    (table,) = [job for job in plan.jobs.values() if job.name == "tables/deit3"]
    frame = read_frame(Path(table.execution.output) / "deit3.csv", text=KEYS)
    assert set(frame["row"]) == {"vit-b", "vit-b-finetuned", "vit-b-1-epochs", "vit-b-finetuned-1-epochs"}
    assert frame["ours"].between(0, 100).all()


# Its loss -------------------------------------------------------------------------------------------------------------


def test_binary_cross_entropy_counts_each_class_of_a_mixed_target_as_there():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(5, 7, generator=generator)
    targets = torch.zeros(5, 7)
    targets[range(5), [0, 1, 2, 3, 4]], targets[range(5), [6, 6, 2, 5, 5]] = 0.7, 0.3
    loss = objective_loss(Objective.model_validate({"loss": "labels", "binary": True}), (logits,), targets, None)
    torch.testing.assert_close(loss, BCEWithLogitsLoss()(logits, (targets > 0).float()))
    log_sigmoid = -np.logaddexp(0, -logits.double().numpy())
    log_other = -np.logaddexp(0, logits.double().numpy())
    expected = -np.where(targets.numpy() > 0, log_sigmoid, log_other).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


# Mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"views": {"label_smoothing": 0.1}}, "supervision.labels.binary: counts every class"),
        ({"finetuning": {"supervision": {"labels": "labels"}}}, "in finetuning smoothing gives all a share"),
        ({"finetuning": {"supervision": {"labels": "token"}}}, "'token' is for 2 token(s), and 'labels' for 1"),
        ({"finetuning": {"supervision": {"labels": "hard"}}}, "'hard' needs a teacher, and runs of 'labels' have none"),
        (
            {"finetuning": {"supervision": {"labels": "smoth"}}},
            "finetuning.supervision.labels: there is no supervision",
        ),
        ({"finetuning": {"views": {"mixupp": 0.1}}}, "finetuning.views.mixupp: there is no key of views 'mixupp'"),
        ({"finetuning": {"views": {"mixup": -1.0}}}, "finetuning.views.mixup: must be at least 0"),
        ({"finetuning": {"views": {"scale": [1.0, 0.5]}}}, "finetuning.views.scale: runs from 1.0 to 0.5"),
        ({"views": {"color_jitter": 0.0}}, "views.color_jitter: must be more than 0"),
        ({"views": {"randaugment": "v0"}}, "does not fit views.color_jitter: is left out by timm beside the policy v0"),
        ({"views": {"crop": "centre"}}, "views.crop: must be 'simple'"),
        (
            {"views": {"interpolation": "lanczos"}},
            "views.interpolation: must be 'bicubic' or 'bilinear'",
        ),
        ({"tables": {"deit3": {"variants": ["epochs-4000"]}}}, "tables.deit3.variants: there is no variant"),
        ({"tables": {"deit3": {"models": ["regnety-16gf"]}}}, "tables.deit3.models: 'regnety-16gf' is a convnet"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(place, change, words):
    (place / "params/mistaken.yaml").write_text(yaml.safe_dump({"extends": "small"} | change), encoding="utf-8")
    with pytest.raises(ParamsError) as error:
        load_study("mistaken")
    assert words in str(error.value)
