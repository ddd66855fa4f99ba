"""A run becomes a folder for a hub, which timm loads, and whose card says what was measured."""

import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import pytest
import tiny_runs as tiny
import torch
import yaml
from commands import publish as command
from in_process import refusal_of
from timm import create_model
from timm.data import resolve_model_data_config

from deit.commands.import_weights import import_weights
from deit.commands.predict import predict_sheet
from deit.networks.recipes import Importing, PredictedRun, Predicting
from deit.see.recipes import EvaluationSet, EvaluationView
from deit.store.checkpoints import read_weights, save_weights
from deit.store.job import Execution, Job
from deit.store.results import read_result
from deit.tables.predictions import Inputs
from deit.teach.teacher_logits import TeacherInTheLoop

ROOT = Path(__file__).resolve().parent.parent
CROP = 0.9


def trained(root: Path, loss: str, **inputs: str) -> Path:
    """A run in a study's folder, evaluated on its own training images; `inputs` are further ones, role -> digest."""
    job = tiny.training_job(root / "images", loss)
    teacher = {"token": "regnety", "labels": ""}[loss]
    name = f"deit-ti/{loss}{'-from-' * bool(teacher)}{teacher}/{tiny.PIXELS}/seed7"
    job = job.model_copy(update={"name": f"students/{name}", "inputs": job.inputs | inputs})
    (root / "recipes").mkdir(exist_ok=True)
    folder = root / f"{job.name}-{job.digest}"
    tiny.run(job, folder, teacher and TeacherInTheLoop(tiny.teacher_net(tiny.REGNETY), "fp32"))
    recipe = job.resolved()
    predicting = Predicting(
        data=recipe.data,
        runs=(PredictedRun(run=name, model=recipe.model),),
        view=EvaluationView(resolution=tiny.PIXELS, crop=CROP),
        evaluation_sets={"test": EvaluationSet(reader="idx", split=recipe.data.split)},
        precision="fp32",
    ).model_dump(mode="json")
    sheet = Job(kind="predict", name="predictions/deit-ti", recipe=predicting, inputs={name: job.digest}, behaviour={},
                execution=Execution(data_root=str(root / "images")))  # fmt: skip
    predict_sheet(sheet, [folder], root / f"predictions/deit-ti-{sheet.digest}")
    return folder


def publish(folder: Path, output: Path) -> str:
    return refusal_of(command.main, ROOT, folder, "--output", output)


@pytest.mark.parametrize("loss", ["labels", "token"])
def test_a_run_becomes_a_folder_for_a_hub(tmp_path, loss):
    folder, output = trained(tmp_path / "study", loss), tmp_path / "hub"
    assert not publish(folder, output)
    expected = {"model.safetensors", "config.json", "README.md", "recipe.json", "metrics.json", "provenance.json"}
    assert {path.name for path in output.iterdir()} == expected | {"history.csv"}
    net = create_model(f"local-dir:{output}", pretrained=True).eval()
    assert tiny.same(net.state_dict(), read_weights(folder / "weights.safetensors"))
    assert resolve_model_data_config(net)["crop_pct"] == CROP
    text = (output / "README.md").read_text(encoding="utf-8")
    front, body = text.split("---\n")[1:3]
    assert yaml.safe_load(front)["library_name"] == "timm" and yaml.safe_load(front)["datasets"] == ["random"]
    readings = ("class", "distillation", "fusion", "fusion_logits") if loss == "token" else ("class",)
    metrics = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
    assert [row["reading"] for row in metrics] == list(readings)
    (sheet,) = (tmp_path / "study/predictions").iterdir()
    run = read_result(folder).job.name.partition("/")[2]
    for row in metrics:
        correct = Inputs([sheet]).correct(run, "test", row["reading"])
        assert row["top1"] == pytest.approx(100 * np.mean(correct), abs=1e-3) and row["images"] == tiny.IMAGES
        assert f"| {row['top1']:.2f} | 100 |" in body
    assert ("head_dist" in body) == (loss == "token")
    for path in output.glob("*.*"):
        if path.suffix != ".safetensors":
            assert str(tmp_path) not in path.read_text(
                encoding="utf-8"
            ) and f'"{platform.node()}"' not in path.read_text(encoding="utf-8"), path


def test_the_cards_lines_read_both_heads(tmp_path):
    folder = trained(tmp_path / "study", "token")
    publish(folder, tmp_path / "hub")
    code = (tmp_path / "hub/README.md").read_text(encoding="utf-8").split("```python\n")[1:]
    names = {"views": torch.randn(3, 1, tiny.PIXELS, tiny.PIXELS)}
    for block in code:
        exec(block.partition("```")[0].replace("local-dir:.", f"local-dir:{tmp_path / 'hub'}"), names)
    assert torch.equal((names["one"] + names["other"]) / 2, names["net"](names["views"]))
    assert names["transform"] and torch.allclose(names["prediction"].sum(1), torch.tensor(2.0))


def test_the_card_tells_of_weights_that_were_given(tmp_path):
    save_weights(tmp_path / "mine.safetensors", tiny.teacher_net(tiny.DEIT).state_dict())
    about = {"model": tiny.DEIT, "mean": [0.5], "std": [0.5], "source": {"file": "mine.safetensors"}, "starts": True}
    recipe = Importing.model_validate(about).model_dump(mode="json")
    place = Execution(data_root=str(tmp_path))
    given = Job(kind="import", name="given/deit-ti/initial", recipe=recipe, behaviour={}, execution=place)
    import_weights(given, tmp_path / f"study/given/deit-ti/initial-{given.digest}")
    publish(trained(tmp_path / "study", "labels", initial=given.digest), tmp_path / "hub")
    sha256 = hashlib.sha256((tmp_path / "mine.safetensors").read_bytes()).hexdigest()
    card = (tmp_path / "hub/README.md").read_text(encoding="utf-8")
    assert f"| deit-ti/initial | mine.safetensors | `{sha256}` | nothing |" in card
    noted = json.loads((tmp_path / "hub/provenance.json").read_text(encoding="utf-8"))["given"]
    assert [each["sha256"] for each in noted] == [sha256]


def refused(folder: Path, output: Path) -> str:
    said = publish(folder, output)
    assert said and not (output / "README.md").exists()
    return said


def test_what_cannot_be_published_is_refused(tmp_path):
    folder, output = trained(tmp_path / "study", "labels"), tmp_path / "hub"
    (sheet,) = (tmp_path / "study/predictions").iterdir()
    assert "was not trained here" in refused(sheet, output)
    sheet.rename(tmp_path / "elsewhere")
    assert "there are no predictions of it" in refused(folder, output)
    (tmp_path / "elsewhere").rename(sheet)
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(content[:-1] + b"?")
    assert "damaged" in refused(folder, output)
    output.mkdir()
    assert "is there already" in refused(folder, output)
