"""Every mistake in a params file ends in one message that names file, key and remedy."""

import shutil
from pathlib import Path

import pytest
import yaml
from study.params import ParamsError, chosen_study, load_study
from study.schema import schema

LEARNT = {"images": 60_000, "files": {"images": "train-images-idx3-ubyte.gz", "labels": "train-labels-idx1-ubyte.gz"}}
"""The training split of `fashion`; checksums beside it make it no other."""

TRANSFORMER = {"kind": "transformer"}

# dotted key -> new value (None takes the key away), the key that the message names, a part of what it says
MISTAKES = [
    ("students.learnig_rate", 1e-3, "students.learnig_rate", "did you mean 'learning_rate'?"),
    ("studnets", {}, "studnets", "did you mean 'students'?"),
    ("views.zzz", 1, "views.zzz", "known here: color_jitter"),
    ("students.epochs", "many", "students.epochs", "whole number, found 'many'"),
    ("students.epochs", 0, "students.epochs", "must be at least 1"),
    ("students.learning_rate", -1, "students.learning_rate", "more than 0"),
    ("students.precision", "fp16", "students.precision", "'fp32' or 'bf16'"),
    ("students.batch", 63, "students.batch", "not divisible by mix_group"),
    ("views.repeats", 3, "students.mix_group", "repeats of one image mix"),
    ("students.mix_group", 1, "students.mix_group", "must be even"),
    ("students.batch", 6_000_000, "students.batch", "larger than the 25000 views of an epoch"),
    ("students.epoch_views", 200_000, "students.epoch_views", "more than 60000 training images"),
    ("students.warmup_epochs", 99, "students.warmup_epochs", "longer than the training"),
    ("students.runs", {"deit-x": {}}, "students.runs.deit-x", "did you mean 'deit-"),
    ("students.runs", {"deit-ti/herd": {}}, "students.runs.deit-ti/herd", "did you mean 'hard'?"),
    ("students.runs", {"deit-ti": {"batch": 8}}, "students.runs.deit-ti.batch", "may change"),
    ("students.runs", {"deit-ti": {"epochs": -1}}, "students.runs.deit-ti.epochs", "must be at least 1"),
    ("models.deit-ti.arguments.num_heads", 3, "models.deit-ti.arguments.num_heads", "do not divide the width"),
    ("models.deit-ti.arguments.num_heads", None, "models.deit-ti.arguments", "together"),
    ("models.deit-ti.timm", None, "models.deit-ti.timm", "missing; add it"),
    ("models.deit-ti.timm_distilled", "", "models.deit-ti.timm_distilled", "needs a distillation token"),
    ("models.regnety-4gf.timm_distilled", "x", "models.regnety-4gf.timm_distilled", "no distillation token"),
    ("models.regnety-4gf.kind", "resnet", "models.regnety-4gf.kind", "'convnet' or 'transformer'"),
    ("models.other", TRANSFORMER | {"timm": "vit_small_patch14_dinov2"}, "models.other.timm", "choose 14 or 28, or"),
    ("teachers.runs", {"regnety-4gf/hard": {"epochs": 9}}, "teachers.runs.regnety-4gf/hard", "from 'labels' alone"),
    ("tables.table_5.longer", {"8-epochs": "token"}, "tables.table_5.longer.8-epochs", "with more epochs in students"),
    ("data.training.files.images", "/data/images.gz", "data.training.files.images", "set data.root to a folder"),
    ("resolutions.finetuning", 28, "resolutions.finetuning", "no multiple of"),
    ("data.mean", [0.5, 0.5], "data.mean", "one a channel"),
    ("data.std", [0.0], "data.std", "must be at least 0.0001"),
    ("data.primary", "tset", "data.primary", "did you mean 'test'?"),
    ("data.root", "nowhere", "data.root", "is missing; mount or restore it"),
    ("data.training.md5.labels", "0" * 32, "data.training.md5.labels", "has the MD5"),
    ("data.training.files.images", None, "data.training.files", "file names of 'images' and 'labels'"),
    ("data.held_out", 60000, "data.held_out", "less than the 60000"),
    (
        "data",
        {"held_out": 60, "evaluation": {"test": {"held_out": 60}}},
        "data.evaluation.test.split",
        "is not data.training, of which 60 images are held out",
    ),
    (
        "data.evaluation.test.held_out",
        60,
        "data.evaluation.test.held_out",
        "take the set away, data.evaluation.test: nu",
    ),
    ("data.evaluation.test.split", LEARNT | {"md5": None}, "data.evaluation.test.held_out", "which runs learn from"),
    ("tables.table_2.teachers", ["regnety-5gf"], "tables.table_2.teachers", "did you mean 'regnety-"),
    ("tables.table_2.student", "regnety-4gf", "tables.table_2.student", "is a convnet; name a transformer"),
    ("tables.table_2.supervision", "labels", "tables.table_2.supervision", "takes no teacher"),
    ("tables.table_3.rows.hard", "soft", "tables.table_3.rows.hard", "not hard"),
    (
        "tables.table_3.rows",
        {"soft_mean": "soft"},
        "tables.table_3.rows.soft_mean",
        "the reduction batchmean, not mean",
    ),
    ("tables.table_3.rows", {"soft": "soft-mean"}, "tables.table_3.rows.soft", "name a supervision of the reduction"),
    ("supervision.soft.reduction", "mean", "supervision.soft.reduction", "the reduction mean, not batchmean"),
    ("tables.table_3.rows.token", None, "tables.table_3.rows.token", "missing"),
    ("tables.table_3.finetuned", ["deit-x"], "tables.table_3.finetuned", "is not among"),
    ("tables.table_3", None, "tables.table_4", "add tables.table_3"),
    ("tables.table_7", {}, "tables.table_7", "did you mean 'table_"),
    ("seeds.default", [0, 0], "seeds.default", "has 0 twice"),
    ("seeds.models", {"deit-x": [0]}, "seeds.models.deit-x", "there is no model"),
    ("seeds.streams", "same", "seeds.streams", "'shared' or 'per-seed'"),
    ("execution.students", {"gpus": 3}, "execution.students.gpus", "cannot share"),
    ("execution.students", {"gpu": 1}, "execution.students.gpu", "did you mean 'gpus'?"),
    ("students.ema_decay", 1.0, "students.ema_decay", "must be less than 1"),
    ("views.randaugment", "original-m9", "views.randaugment", "by which timm configures RandAugment"),
    ("views.randaugment", "rand-x9", "views.randaugment", "found 'rand-x9'; correct the value."),
    ("views.randaugment", 9, "views.randaugment", "must be text"),
    (
        "supervision.hard.temperature",
        2.0,
        "supervision.hard.temperature",
        "of the loss soft and soft-token and standardised, and hard has none",
    ),
    ("supervision.soft.temprature", 2.0, "supervision.soft.temprature", "did you mean 'temperature'"),
    ("supervision.hard.loss", "hrad", "supervision.hard.loss", "must be 'hard' or 'labels'"),
    ("students.optimizer", "adamww", "students.optimizer", "did you mean 'adamw'"),
    ("students.optimizer", "fusedlamb", "students.optimizer", "'fusedlamb' is unknown; did you mean 'lamb'"),
    ("teachers.betas", [0.9, 0.99], "teachers.betas", "sgd takes no such option"),
    ("students.betas", [0.9, 1.0], "students.betas", "must be less than 1"),
    ("students.clip_gradients", 0, "students.clip_gradients", "must be more than 0"),
    ("supervision.soft.temperature", 0, "supervision.soft.temperature", "must be at least 0.01"),
]


def edited(tmp_path, key: str, value: object):
    """A study that extends `fashion` and differs in one key."""
    shutil.copy("params/fashion.yaml", tmp_path)
    layer: dict = {}
    place = layer
    *path, last = key.split(".")
    for part in path:
        place = place.setdefault(part, {})
    place[last] = value
    (tmp_path / "edited.yaml").write_text(yaml.safe_dump({"extends": "fashion"} | layer), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(("key", "value", "named", "text"), MISTAKES, ids=[f"{m[0]}={m[1]}"[:60] for m in MISTAKES])
def test_a_mistake_is_named(tmp_path, key, value, named, text):
    with pytest.raises(ParamsError) as caught:
        load_study("edited", edited(tmp_path, key, value))
    line = next((line for line in str(caught.value).splitlines() if f" {named}" in line), None)
    assert line, f"{named} is not named in: {caught.value}"
    assert text in line
    file, blamed, _ = line.split(": ", 2)
    assert file == str(tmp_path / "edited.yaml"), "the file that the user wrote, whatever it extends"
    assert key.startswith(blamed) or blamed.startswith(key), "and the key that it sets"


def test_the_studies_are_valid():
    for name in ("fashion", "smoke", "cifar10", "imagenet", "released"):
        load_study(name)


def test_what_was_chosen_on_held_out_images_is_reported_on_others(tmp_path):
    """As docs/own-data.md has it."""
    test = {"title": "test", "reader": "idx", "split": load_study("fashion").data.evaluation["test"].split.model_dump()}
    final = {"data": {"held_out": 0, "evaluation": {"held-out": None, "test": test}, "primary": "test"}}
    for name in ("fashion", "fashion-validation"):
        shutil.copy(f"params/{name}.yaml", tmp_path)
    (tmp_path / "final.yaml").write_text(yaml.safe_dump({"extends": "fashion-validation"} | final), encoding="utf-8")
    assert load_study("final", tmp_path).data.held_out == 0


@pytest.mark.parametrize("network", ["vit_small_patch8_224", "swin_tiny_patch4_window7_224", "levit_128s"])
def test_only_patches_that_are_known_have_to_fill_the_views(tmp_path, network):
    folder = edited(tmp_path, "models.other", TRANSFORMER | {"timm": network})
    with (folder / "edited.yaml").open("a", encoding="utf-8") as file:
        file.write("resolutions: {pretraining: 40, finetuning: 80}\n")
    assert load_study("edited", folder).models["other"].timm == network


def test_a_study_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ParamsError, match=r"there is no study 'fashoin'; did you mean 'fashion'.* released, smoke"):
        load_study("fashoin")


def test_a_key_that_stands_twice_is_an_error(tmp_path):
    (tmp_path / "twice.yaml").write_text("title: a\ntitle: b\n", encoding="utf-8")
    with pytest.raises(ParamsError, match="'title' stands twice"):
        load_study("twice", tmp_path)


def test_broken_yaml_names_the_file(tmp_path):
    (tmp_path / "broken.yaml").write_text("a: [1, 2\n", encoding="utf-8")
    with pytest.raises(ParamsError, match=r"broken.yaml: line 2: not valid YAML"):
        load_study("broken", tmp_path)


def test_a_missing_image_file_is_named(tmp_path):
    with pytest.raises(ParamsError, match="train-images-idx3-ubyte.gz is missing"):
        load_study("edited", edited(tmp_path, "data.root", str(tmp_path)))


def test_a_changed_image_file_is_named(tmp_path):
    root = tmp_path / "images"
    shutil.copytree("workflow/resources/fashion-mnist", root)
    labels = root / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-1] + b"?")
    with pytest.raises(ParamsError, match=r"data.training.md5.labels.*made anew"):
        load_study("edited", edited(tmp_path, "data.root", str(root)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"study\.yaml: cannot be read"),
        ("", r"study\.yaml: top level: expected keys"),
        ("study:\n", r"study\.yaml: study: must be the name of a study; there are fashion"),
        ("study: [a]\n", r"study\.yaml: study: must be the name of a study"),
        ("study: a\nstudy: b\n", r"study\.yaml: line 2: the key 'study' stands twice"),
    ],
)
def test_the_choice_of_the_study_is_checked(tmp_path, content, words):
    assert chosen_study() == "fashion"
    shutil.copy("params/fashion.yaml", tmp_path)
    if content is not None:
        (tmp_path / "study.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(ParamsError, match=words):
        chosen_study(tmp_path)


def test_the_editors_schema_is_up_to_date():
    assert Path("params/schema.json").read_text(encoding="utf-8") == schema(), "run: python workflow/study/schema.py"
