"""`python workflow new --teacher`: networks that are given and not trained."""

import hashlib
import json
from pathlib import Path

import pytest
import timm
import torch
from commands._teacher import kind_of
from new_studies import draw, proposed, refused
from plan.studies import plan_study
from study.params import load_study


@pytest.fixture
def weights(tmp_path) -> Path:
    """A file of a small network's weights, of three classes."""
    path = tmp_path / "teacher.pth"
    torch.save(timm.create_model("resnet10t", num_classes=3).state_dict(), path)
    return path


def test_a_teacher_in_a_file_is_given_and_not_trained(clone, monkeypatch, capsys, weights):
    said = proposed(monkeypatch, capsys, draw(clone / "pets"), teacher=f"resnet10t={weights}")
    study, plan = load_study("mine"), plan_study("mine")
    assert "classes apart" not in said
    given = study.models["resnet10t"].weights
    assert (given.file, given.timm) == (str(weights), None)
    assert hashlib.sha256(weights.read_bytes()).hexdigest().startswith(given.sha256)
    assert study.models["resnet10t"].kind == "convnet" and study.tables.table_3.teacher == "resnet10t"
    trained = {job.name.split("/")[1] for job in plan.jobs.values() if job.kind == "train"}
    assert trained == {"tiny", "small"} and [job.kind for job in plan.jobs.values()].count("import") == 1
    usual = timm.get_pretrained_cfg("resnet10t")
    assert (given.resolution, given.mean, given.std) == (usual.input_size[-1], usual.mean, usual.std)
    assert f"at what size the teacher sees, and {usual.input_size[-1]} pixels are timm's usual: if it was" in said
    assert "is timm's usual for resnet10t: correct what differs" in Path("params/mine.yaml").read_text(encoding="utf-8")


def test_a_file_beside_its_config_is_seen_and_built_as_that_says(clone, monkeypatch, capsys, tmp_path):
    """As `publish` and the hub write it; the path has letters that JSON would write in two halves."""
    folder = tmp_path / "🦉"
    folder.mkdir()
    arguments = {"layers": [1, 1, 1, 1]}
    torch.save(timm.create_model("resnet10t", num_classes=3, **arguments).state_dict(), folder / "teacher.pth")
    told = {"input_size": [3, 48, 48], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = {"architecture": "resnet10t", "model_args": arguments, "pretrained_cfg": told}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    said = proposed(monkeypatch, capsys, draw(clone / "pets"), teacher=f"resnet10t={folder / 'teacher.pth'}")
    assert "Nothing tells" not in said
    model = load_study("mine").models["resnet10t"]
    assert (model.weights.resolution, model.weights.mean, model.weights.std) == (48, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert model.arguments == {"layers": (1, 1, 1, 1)} and model.weights.file == str(folder / "teacher.pth")
    assert "timm's usual" not in Path("params/mine.yaml").read_text(encoding="utf-8")


def test_a_teacher_that_was_trained_in_another_order_is_asked_about(clone, monkeypatch, capsys, weights):
    """Flowers-102 in folders 1 to 102: torchvision sorts them as text."""
    said = proposed(monkeypatch, capsys, draw(clone / "pets", classes=("1", "2", "10")), teacher=f"resnet10t={weights}")
    assert "The teacher has to number the classes in their order here" in said
    assert "`classes: [[0], [2], [1]]`" in Path("params/mine.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("network", ["repvgg_a2", "ese_vovnet19b_dw", "eca_resnet33ts", "skresnet18", "regnety_002"])
def test_a_convnet_that_weighs_its_channels_is_none_that_attends(network):
    assert kind_of(network) == "convnet"


@pytest.mark.parametrize("network", ["swin_tiny_patch4_window7_224", "cait_xxs24_224", "xcit_nano_12_p16_224"])
def test_a_network_that_attends_is_a_transformer(network):
    assert kind_of(network) == "transformer"


def test_a_teacher_of_other_classes_is_told_to_need_a_map(clone, monkeypatch, capsys):
    said = proposed(monkeypatch, capsys, draw(clone / "pets"), teacher="regnety_160.deit_in1k")
    assert "The teacher tells 1000 classes apart, and these are 3: write in that file, at its `weights:`" in said
    study = load_study("mine")
    assert study.models["regnety-160"].weights.timm == "regnety_160.deit_in1k"
    assert "`classes: [[281, 282], [151], …]`" in Path("params/mine.yaml").read_text(encoding="utf-8")
    assert plan_study("mine").jobs


def test_a_transformer_teaches_as_one(clone, monkeypatch, capsys):
    proposed(monkeypatch, capsys, draw(clone / "pets"), teacher="deit_tiny_patch16_224.fb_in1k")
    study = load_study("mine")
    assert study.models["deit-tiny-patch16-224"].kind == "transformer" and study.tables.table_5.convnets == []
    evaluated = {name for job in plan_study("mine").of_section("tables") for name in job.inputs}
    (table,) = (job for job in plan_study("mine").of_section("tables") if job.name == "tables/scratch")
    assert evaluated and any("deit-tiny" in run for cell in table.recipe["cells"] for run in cell["runs"])


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("regnety_160.deit_in1", "the tag of its weights. Did you mean regnety_160.deit_in1k"),
        ("vit_small_patch16_224.dino", "has no classifier. Name weights that were trained on labels"),
        ("nothing", "is no file, and no network of timm's with the tag"),
        ("FILE", "of which network are these weights? Write --teacher resnet18="),
        ("resnet10=FILE", "resnet10 is no network of timm's. Did you mean resnet10t"),
        ("resnet10t=nowhere.pth", "nowhere.pth: is missing. Put the file there"),
    ],
)
def test_a_teacher_that_is_none_is_refused(clone, monkeypatch, weights, teacher, words):
    images = draw(clone / "pets")
    assert words in refused(monkeypatch, images, "mine", "--teacher", teacher.replace("FILE", str(weights)))
