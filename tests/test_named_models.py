"""A run's folder is a model that timm loads by its path."""

import json
from pathlib import Path

import papermill
import pytest
import tiny_runs as tiny
import torch
from jobs.render import own_jupyter
from PIL import Image
from timm import create_model
from timm.data import resolve_data_config

from deit.networks import models
from deit.store.checkpoints import read_weights
from deit.store.results import read_result
from deit.teach.teacher_logits import TeacherInTheLoop

ROOT = Path(__file__).resolve().parent.parent
COLOUR = {"channels": 3, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
RESNET = {"timm": "resnet18", "arguments": {}, "stochastic_depth": 0.0}
KINDS = {
    "from labels": ("labels", {}),
    "distilled": ("token", {}),
    "with two class tokens": ("two-class-tokens", {}),
    "hard": ("hard", {}),
    "another width": ("token", {"model": {"arguments": tiny.DEIT["arguments"] | {"embed_dim": 24, "num_heads": 3}}}),
    "another resolution": ("token", {"model": {"resolution": 21}, "views": {"resolution": 21}}),
    "a RegNetY": ("labels", {"model": tiny.REGNETY}),
    "a ResNet": ("labels", {"model": RESNET}),
    "in colour": ("token", {"data": COLOUR, "model": {"channels": 3}}),
    "a tag in its name": ("labels", {"model": {"timm": "deit_tiny_patch16_224.fb_in1k"}}),
}


def trained(folder: Path, loss: str, **changes) -> Path:
    job = tiny.training_job(folder / "images", loss, optimisation={"epochs": 1, "warmup_epochs": 0}, **changes)
    teacher = None
    if job.resolved().objective.teacher_says:
        student = job.resolved().model.model_dump(include={"resolution", "channels"})
        net = tiny.teacher_net(tiny.REGNETY | student)
        teacher = TeacherInTheLoop(net, "fp32")
    tiny.run(job, folder / "run", teacher)
    return folder / "run"


@pytest.mark.parametrize("kind", KINDS)
def test_timm_loads_a_run_by_its_folder(tmp_path, kind):
    loss, changes = KINDS[kind]
    folder = trained(tmp_path, loss, **changes)
    result = read_result(folder)
    result.verify()
    assert "config.json" in result.sha256
    recipe = result.job.resolved()
    ours = models.create(recipe.model)
    models.load_weights(ours, read_weights(result.file("weights.safetensors")))
    theirs = create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert type(theirs) is type(ours) and tiny.same(theirs.state_dict(), ours.state_dict())
    size = recipe.model.resolution
    views = torch.randn(3, recipe.model.channels, size, size)
    heads = models.token_logits(ours.eval(), views)
    assert len(heads) == (2 if loss in ("token", "two-class-tokens") else 1)
    assert torch.equal(models.laid_out(theirs)(views), torch.stack(heads).mean(0))
    data = resolve_data_config({}, model=theirs)
    assert tuple(data["input_size"]) == (recipe.model.channels, size, size)
    assert (
        tuple(data["mean"]) == recipe.data.mean
        and tuple(data["std"]) == recipe.data.std
        and data["interpolation"] == "bicubic"
    )


def test_a_loaded_run_can_be_given_another_head_and_more_channels(tmp_path):
    """What timm's own published models can do."""
    net = create_model(f"local-dir:{trained(tmp_path, 'token')}", pretrained=True, num_classes=7, in_chans=3)
    assert net(torch.randn(1, 3, tiny.PIXELS, tiny.PIXELS)).shape == (1, 7)


def test_the_config_names_no_place_and_no_training(tmp_path):
    text = (trained(tmp_path, "token") / "config.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text and set(json.loads(text)) == {
        "architecture", "num_classes", "model_args", "pretrained_cfg",
    }  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("pictures", [False, True])
def test_the_notebook_shows_a_students_heads(tmp_path, monkeypatch, pictures):
    folder = trained(tmp_path, "token")
    parameters = {"run": str(folder), "count": 3}
    if pictures:
        Image.effect_noise((40, 30), 50).convert("RGB").save(tmp_path / "one.png")
        parameters["pictures"] = [str(tmp_path / "one.png")]
    monkeypatch.chdir(ROOT)
    with own_jupyter():
        shown = papermill.execute_notebook("docs/heads.ipynb", tmp_path / "shown.ipynb", parameters, progress_bar=False)
    outputs = [str(output) for cell in shown.cells for output in cell.get("outputs", [])]
    text = "\n".join(outputs)
    assert (
        "VisionTransformerDistilled" in text and "heads agree" in text and "after layer" in text and "image/png" in text
    )


def test_the_notebook_is_plain_timm():
    text = (ROOT / "docs/heads.ipynb").read_text(encoding="utf-8")
    assert "import deit" not in text and "from deit" not in text and len(json.loads(text)["cells"]) <= 12
