"""Mistakes of somebody with 180 images of three classes, who writes params for them: file, key, remedy each time."""

import ast
import os
import shutil
from pathlib import Path

import pytest
from call.begin import look_ahead
from call.images_here import count_problems, counted_images, image_problems
from PIL import Image
from plan.studies import plan_study
from ruamel.yaml import YAML
from study.params import load_study, read_layers
from study.problem import ParamsError, Problem, refusal

from deit.see.datasets import manifest_of

ROOT = Path(__file__).resolve().parent.parent
IMAGES = {"train": 40, "val": 20}
MINE = """
extends: smoke
data:
  name: pets
  root: IMAGES
  reader: timm
  classes: 3
  channels: 3
  mean: [0.5, 0.5, 0.5]
  std: [0.2, 0.2, 0.2]
  training: {images: 120, folder: train, files: null, md5: null}
  evaluation:
    test: {reader: timm, split: {images: 60, folder: val, files: null, md5: null}}
    corrupted: null
students: {epoch_views: 0}
teachers: {epoch_views: 0}
adaptation: {epoch_views: 0}
finetuning: {epoch_views: 0}
"""
# edit of mine.yaml -> key that the message begins with, what it says, what it ends with
MISTAKES = {
    "students: {epoch_views: 600}": (
        "students.epoch_views",
        "600 is more than 120 training images x 2 repeats",
        "to 240 or less",
    ),
    "students: {epoch_views: null, batch: 600, mix_group: 300}": (
        "students.batch",
        "600 is larger than the 120 views",
        "",
    ),
    "data: {training: {images: 20}}": (
        "data.training.images",
        "does not fit students.batch: 60 is larger than the 20 views of an epoch",
        "set students.batch to 20 or less.",
    ),
    "students: {mix_group: 32}": ("students.mix_group", "60 is not divisible by mix_group 32", "change one of them."),
    "resolutions: {pretraining: 16, finetuning: 25}": (
        "resolutions.pretraining",
        "16 pixels are no multiple of the patch size 5 of deit-ti, deit-s, deit-b",
        "choose 15 or 20, or another patch_size.",
    ),
    "data: {classes: 10}": (
        "data.classes",
        "10 is not the number of folders with images in",
        "there are bird, cat, dog.",
    ),
    "data: {training: {images: 119}}": (
        "data.training.images",
        "119 is not the number of images in train, 120",
        "correct it, or the folder.",
    ),
    "data: {root: nowhere}": ("data.root", "/nowhere, is missing", "or correct data.root."),
    "data: {training: {folder: trian}}": ("data.training.folder", "trian is missing", "correct the name or data.root."),
    "data: {training: {folder: null}}": (
        "data.training.folder",
        "missing, as the timm reader",
        "name a folder or .tar of data.root.",
    ),
    "data: {training: {files: {images: a}}}": (
        "data.training.files",
        "is for the readers cifar, cifar_binary, idx, and the reader is timm",
        "set it to null.",
    ),
    "data: {mean: [0.5]}": ("data.mean", "has 1 numbers and data.channels is 3", "give one a channel."),
    "data: {mean: [127.5, 127.5, 127.5]}": ("data.mean.0", "must be at most 1, found 127.5", "correct the value."),
    "data: {channels: 1}": ("data.mean", "has 3 numbers and data.channels is 1", "give one a channel."),
    "data: {evaluation: {val: {title: V}}}": ("data.evaluation.val.reader", "missing", "describes every key)."),
    "data: {primary: val}": ("data.primary", "there is no evaluation set 'val'", "defined are test."),
    "models: {deit-b: null}": ("models.deit-b", "there is no model 'deit-b'", "did you mean 'deit-"),
    "seeds: {default: 0}": ("seeds.default", "must be a list, [one, another], found 0", "correct the value."),
    "seeds: {default: []}": ("seeds.default", "must have at least one entry, found []", "correct the value."),
    "students: null": ("students", "missing", "docs/params.md describes every key)."),
    "students: 3": ("students", "must be keys and values, found 3", "correct the value."),
    "students: {eps: 1.0e-6, runs: {deit-ti: {optimizer: lion}}}": (
        "students.eps",
        "does not fit students.runs.deit-ti.eps: lion takes no such option",
        "remove students.eps, or choose another optimizer.",
    ),
    "students: {runs: {deit-ti: {optimizer: lion, eps: 1.0e-6}}}": (
        "students.runs.deit-ti.eps",
        "lion takes no such option",
        "remove it, or set it to null.",
    ),
    "tables: {table_3: null}": ("tables.table_3", "does not fit tables.table_4: reads the runs of table_3", "to null."),
    "execution: {default: {gpus: 7}}": (
        "execution.default.gpus",
        "7 GPUs (or CPU nodes) cannot share 2 mix groups",
        "",
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with params/ and the images."""
    folder = tmp_path_factory.mktemp("pets")
    (folder / "params").mkdir()
    for name in ("fashion", "smoke"):
        (folder / f"params/{name}.yaml").write_bytes((ROOT / f"params/{name}.yaml").read_bytes())
    for split, images in IMAGES.items():
        for kind in ("bird", "cat", "dog"):
            (folder / "images" / split / kind).mkdir(parents=True)
            for number in range(images):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "images" / split / kind / f"{number}.png")
    return folder


def said(place: Path, edit: str = "{}") -> list[str]:
    """The lines that a user of this machine is told of mine.yaml with an edit."""
    yaml = YAML(typ="safe", pure=True)
    content = yaml.load(MINE.replace("IMAGES", str(place / "images")))
    with (place / "params/mine.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(laid(content, yaml.load(edit)), file)
    try:
        study = load_study("mine", place / "params")
    except ParamsError as error:
        return str(error).split("\n")
    missing = list(image_problems(study)) or list(count_problems(study, counted_images(study)))
    return str(refusal(missing, read_layers("mine", place / "params"))).split("\n") if missing else []


def laid(base: dict, edit: dict) -> dict:
    """An edit of a file: null stays in it."""
    both = {
        key: laid(base[key], edit[key])
        for key in edit
        if isinstance(base.get(key), dict) and isinstance(edit[key], dict)
    }
    return base | edit | both


def test_without_a_mistake_it_is_planned(place):
    assert said(place) == []


@pytest.mark.parametrize("edit", MISTAKES)
def test_a_mistake_names_the_users_file_the_key_in_it_and_a_remedy(place, edit):
    key, text, remedy = MISTAKES[edit]
    lines = said(place, edit)
    assert {line.split(": ")[0] for line in lines} == {str(place / "params/mine.yaml")}, lines
    (line,) = [line for line in lines if line.split(": ")[1] == key and text in line][:1] or [f"none of {lines}"]
    assert remedy in line and line.endswith((".", "?")), line


def test_a_missing_class_is_named(place):
    (place / "images/val/dog").rename(place / "images/val/hound")
    lines = said(place)
    (place / "images/val/hound").rename(place / "images/val/dog")
    assert [line.split(": ")[1] for line in lines] == 2 * ["data.evaluation.test.split.folder"]
    assert "images/val has no images of the class dog, and " in lines[0] and "images in a folder hound" in lines[1]


def test_a_folder_without_images_is_no_class_to_the_plan_as_it_is_none_to_the_job(place):
    notes = place / "images/train/notes"
    (notes / "drafts").mkdir(parents=True)
    (notes / "drafts/readme.txt").touch()
    (four,) = said(place, "data: {classes: 4}")
    remedy = "correct it, or the folders; there are bird, cat, dog, and without images notes."
    assert four.endswith(f"4 is not the number of folders with images in {place}/images/train, 3; {remedy}")
    assert said(place) == []
    preparing = [job for job in plan_study("mine", place / "params").jobs.values() if job.kind == "data"]
    assert all(manifest_of(job.resolved(), place / "images") for job in preparing) and preparing
    (notes / "drafts/1.png").touch()
    assert said(place)[-1].endswith("train, 4; correct it, or the folders; there are bird, cat, dog, notes.")
    shutil.rmtree(notes)


def test_a_plan_refuses_another_number_of_images_where_its_jobs_run(place, monkeypatch, capsys):
    """Where jobs run elsewhere, their images may be others than those here."""
    said(place)
    monkeypatch.chdir(place)
    look_ahead(plan_study("mine"), elsewhere=False)
    extra = place / "images/val/cat/one more.PNG"
    extra.touch()
    expected = "params/mine.yaml: data.evaluation.test.split.images: 60 is not the number of images in val, 61"
    with pytest.raises(ParamsError, match=expected):
        look_ahead(plan_study("mine"), elsewhere=False)
    look_ahead(plan_study("mine"), elsewhere=True)
    assert expected in capsys.readouterr().err
    monkeypatch.setattr("call.begin.counted_images", lambda study: counted_images(study, seconds=-1))
    look_ahead(plan_study("mine"), elsewhere=False)
    told = "The images of data.training, data.evaluation.test.split were not counted: prepare_data does"
    assert told in capsys.readouterr().err
    extra.unlink()


def test_a_folder_that_several_sets_read_is_counted_once(place, monkeypatch):
    said(place, "data: {evaluation: {again: {title: A, reader: timm, split: {images: 60, folder: val}}}}")
    study, listed = load_study("mine", place / "params"), []
    monkeypatch.setattr("call.images_here.os.listdir", lambda path, real=os.listdir: listed.append(path) or real(path))
    counts = counted_images(study)
    assert sorted(counts.values()) == [60, 60, 120] and len(listed) == len(set(listed)) == 6


# All messages of the rules --------------------------------------------------------------------------------------------

WRONG = {"Problem", "Mistake"}
"""What says of params that something is wrong, in the workflow, a table and a reader: key, text, remedy."""


def problems_made(path: Path) -> list[ast.Call]:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    made = [node for node in calls if ast.unparse(node.func) in WRONG]
    return [node for node in made if not isinstance(node.args[0], ast.Starred)]


RULES = [path for part in ("workflow/study", "src/deit") for path in sorted((ROOT / part).rglob("*.py"))]
RULES = [path for path in RULES if problems_made(path)]


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_every_rule_has_a_remedy(path):
    """Each problem is made with key, text and remedy; where these are written out, the remedy is a sentence."""
    for call in problems_made(path):
        _, text, remedy = call.args[:3]
        if isinstance(text, ast.Constant):
            assert text.value and not text.value.endswith("."), ast.unparse(call)
        if isinstance(remedy, ast.Constant):
            assert remedy.value.endswith((".", "?")), ast.unparse(call)
        if isinstance(remedy, ast.JoinedStr) and isinstance(remedy.values[-1], ast.Constant):
            assert remedy.values[-1].value.endswith("."), ast.unparse(call)


def test_the_latest_file_that_has_a_part_in_it_is_blamed():
    layers = [(Path("a.yaml"), {"x": {"y": 1}, "z": 1}), (Path("b.yaml"), {"z": 2}), (Path("c.yaml"), {"w": None})]
    problem = Problem("x.y", "is wrong", "mend it.", ("z",))
    assert problem.line(layers) == "b.yaml: z: does not fit x.y: is wrong; mend it."
    assert Problem("x.y", "is wrong", "mend it.").line(layers) == "a.yaml: x.y: is wrong; mend it."
    assert Problem("x.y", "is wrong", "mend it.", ("w.v",)).line(layers).startswith("c.yaml: w.v: does not fit x.y")
