"""`python workflow new`: what it takes for images, what it refuses, and the study that it proposes."""

import csv
import hashlib
import io
import json
import os
import re
import shutil
import signal
import tarfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from call.images_here import count_problems, counted_images, image_problems, shared_images
from commands import _images, new
from commands._layouts import layout_of
from commands._survey import look_at
from commands._teacher import kind_of
from cost.speeds import Node, Speed
from PIL import Image
from plan.studies import plan_study
from smoke_study import ROOT
from snakemake.cli import parse_config
from study.params import load_study

from deit.tables.cells import paper

CLASSES = ("bird", "cat", "große Hunde")
EACH = 12


def picture(number: int, channels: int = 3) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (20, 24, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze())


def draw(folder: Path, images: int = EACH, classes: tuple[str, ...] = CLASSES, channels: int = 3) -> Path:
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(images):
            picture(images * place + number, channels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A folder with params/ and without studies, in which the command is given."""
    (tmp_path / "clone/params").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "clone")
    return tmp_path


def proposed(
    monkeypatch, capsys, images: object, speed: float = 1000.0, cards: int = 0, teacher="", name: str = "mine"
) -> str:
    """What the command prints, on a machine of a certain speed."""
    monkeypatch.setattr(new, "measured", lambda study: node(study.name, speed))
    monkeypatch.setattr(new, "cards", lambda: cards)
    monkeypatch.setattr(new, "cores", lambda: 2)
    words = ["new", name, "--images", str(images), *(["--teacher", teacher] if teacher else [])]
    monkeypatch.setattr("sys.argv", words)
    new.main()
    return capsys.readouterr().out


def node(name: str, speed: float) -> Node:
    study = load_study(name)
    key = (str(study.resolutions.pretraining), "card", study.students.precision, speed, "of it", "measured", "here")
    views = Speed("views", "", key[0], "", "", *key[3:])
    start = Speed("start", "", "", "", "", 3.0, *key[4:])
    networks = [Speed(what, model, *key) for what in ("train", "infer") for model in study.models]
    return Node([start, views, *networks])


def refused(monkeypatch, images: object, name: str = "mine", *options: str) -> str:
    monkeypatch.setattr("sys.argv", ["new", name, "--images", str(images), *options])
    with pytest.raises(SystemExit) as error:
        new.main()
    assert str(error.value).startswith("Nothing was written: ") and str(error.value).endswith((".", "?"))
    assert not Path("params/mine.yaml").exists()
    return str(error.value)


# What lies there ------------------------------------------------------------------------------------------------------


def tar_of(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        tar.add(folder, arcname=".")
    return path


def shard(path: Path, numbers: range) -> None:
    with tarfile.open(path, "w") as tar:
        for number in numbers:
            content = io.BytesIO()
            picture(number).save(content, "PNG")
            for kind, data in (("png", content.getvalue()), ("cls", str(number % 3).encode())):
                member = tarfile.TarInfo(f"{number:03d}.{kind}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def csv_of(folder: Path, path: Path, split: bool) -> Path:
    rows = [("path", "label", *(["split"] if split else []))]
    for name in CLASSES:
        for number in range(EACH):
            part = ["val" if number % 4 == 0 else "train"] if split else []
            rows.append((f"{folder.name}/{name}/{number}.png", name, *part))
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def lay(place: Path, kind: str) -> Path | str:
    """Images as people have them."""
    folder = draw(place / "pets")
    match kind:
        case "class folders":
            return folder
        case "train and val" | "train, val and test":
            for part in kind.replace(" and ", ", ").split(", "):
                shutil.copytree(folder, place / "split" / part)
            return place / "split"
        case "a tar":
            return tar_of(folder, place / "pets.tar")
        case "two tars":
            (place / "tars").mkdir()
            for part in ("train", "val"):
                tar_of(folder, place / f"tars/{part}.tar")
            return place / "tars"
        case "a CSV file":
            return csv_of(folder, place / "pets.csv", split=False)
        case "a CSV file with splits":
            return csv_of(folder, place / "pets.csv", split=True)
        case "two CSV files":
            for part in ("train", "val"):
                csv_of(draw(place / f"tables/{part}-photos"), place / f"tables/{part}.csv", split=False)
            return place / "tables"
        case "shards":
            (place / "shards").mkdir()
            for number in range(3):
                shard(place / f"shards/pets-train-{number:04d}.tar", range(12 * number, 12 * number + 12))
            shard(place / "shards/pets-val-0000.tar", range(36, 48))
            return f"wds/{place / 'shards'}"
    raise AssertionError(kind)


# kind -> reader, training images, held-out ones, evaluation set -> its images
KINDS = {
    "class folders": ("timm", 36, 7, {"held-out": 36}),
    "train and val": ("timm", 36, 0, {"val": 36}),
    "train, val and test": ("timm", 36, 0, {"val": 36, "test": 36}),
    "a tar": ("timm", 36, 7, {"held-out": 36}),
    "two tars": ("timm", 36, 0, {"val": 36}),
    "a CSV file": ("csv", 36, 7, {"held-out": 36}),
    "a CSV file with splits": ("csv", 27, 0, {"val": 9}),
    "two CSV files": ("csv", 36, 0, {"val": 36}),
    "shards": ("wds", 36, 0, {"val": 12}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_found_and_declared_as_they_lie_there(clone, monkeypatch, capsys, kind):
    reader, images, held_out, evaluation = KINDS[kind]
    said = proposed(monkeypatch, capsys, lay(clone, kind))
    assert said.startswith(f"{images} images of 3 classes") and "all looked at: 24 x 20 pixels, in colour" in said
    study = load_study("mine")
    assert (study.data.reader, study.data.training.images, study.data.held_out) == (reader, images, held_out)
    assert {name: one.split.images for name, one in study.data.evaluation.items()} == evaluation
    assert study.data.primary == list(evaluation)[-1]
    assert [*image_problems(study), *count_problems(study, counted_images(study))] == []
    assert plan_study("mine").jobs


@pytest.mark.parametrize("kind", ["two tars", "a CSV file", "two CSV files", "shards"])
def test_files_may_be_named_in_capitals(clone, monkeypatch, capsys, kind):
    images, reader = lay(clone, kind), KINDS[kind][0]
    for path in sorted(clone.rglob("*.*")):
        if path.suffix in (".csv", ".tar"):
            path.rename(path.with_name(path.name.upper()))
    proposed(monkeypatch, capsys, images.with_name(images.name.upper()) if kind == "a CSV file" else images)
    study = load_study("mine")
    assert (study.data.reader, list(study.data.evaluation)) == (reader, list(KINDS[kind][3]))
    assert [*image_problems(study)] == []


def test_a_split_without_a_partner_is_held_out_from(tmp_path):
    draw(tmp_path / "pets/train")
    layout = layout_of(str(tmp_path / "pets"))
    assert layout.training.folder == "train" and not layout.evaluation
    (tmp_path / "pets/bus").mkdir()  # a class called train
    shutil.rmtree(tmp_path / "pets/train/cat")
    for folder in ("bird", "große Hunde"):
        shutil.rmtree(tmp_path / "pets/train" / folder)
    assert layout_of(str(tmp_path / "pets")).training.folder == "pets"


def test_shards_are_told_by_their_content_and_numbers(tmp_path):
    lay(tmp_path, "shards")
    layout = layout_of(str(tmp_path / "shards"))
    assert layout == layout_of(f"wds/{tmp_path / 'shards'}") and layout.reader == "wds"
    assert layout.training.part == "pets-train-{0000..0002}.tar"
    assert layout.evaluation["val"].part == "pets-val-0000.tar"


# The study ------------------------------------------------------------------------------------------------------------


def test_the_study_fits_its_time_and_shows_no_number_of_the_papers(clone, monkeypatch, capsys):
    said = proposed(monkeypatch, capsys, draw(clone / "pets", 40), speed=400.0)
    assert "snakemake --profile local --config study=mine -- all_tables" in said
    plan, study = plan_study("mine"), load_study("mine")
    minutes = new.minutes_of("mine", node("mine", 400.0))
    assert minutes == pytest.approx(12, rel=0.1) and study.students.epochs < 300
    assert f"in about {round(minutes)} minutes" in said
    assert f"In about {round(minutes)} minutes" in Path("params/mine.yaml").read_text(encoding="utf-8")
    counts = Counter(job.kind for job in plan.jobs.values())
    assert counts["train"] == 2 * 4 * 3 + 1 and counts["table"] == 2
    for name in ("table_3", "table_5"):
        (table,) = [job.resolved() for job in plan.jobs.values() if job.name == f"tables/{name}"]
        known = {(row, column) for row in paper(name).index for column in paper(name).columns}
        assert not known & {(cell.row, cell.column) for cell in table.cells}


@pytest.mark.parametrize("cards", [0, 4])
def test_as_many_jobs_ask_the_teacher_as_the_machine_can_run(clone, monkeypatch, capsys, cards):
    """All that learn from it wait for it."""
    proposed(monkeypatch, capsys, draw(clone / "pets"), 4000.0, cards=cards)
    caches = [job.name for job in plan_study("mine").jobs.values() if job.kind == "cache"]
    epochs = [list(map(int, name.rpartition("-epochs")[2].split("-"))) for name in caches]
    lengths = [last - first + 1 for first, last in epochs]
    assert len(caches) == (cards or 2) and max(lengths) - min(lengths) < len(caches)


def test_a_faster_machine_trains_for_longer(clone, monkeypatch, capsys):
    folder, epochs = draw(clone / "pets", 40), []
    for speed in (100.0, 400.0, 2000.0):
        proposed(monkeypatch, capsys, folder, speed=speed)
        epochs.append(load_study("mine").students.epochs)
        if speed == 2000.0:  # more than the paper's epochs nobody needs
            assert new.minutes_of("mine", node("mine", speed)) < 12
        Path("params/mine.yaml").unlink()
    assert epochs[0] < epochs[1] < epochs[2] == 300


@pytest.mark.long
@pytest.mark.parametrize(("side", "pixels", "width"), [(28, 32, 96), (64, 64, 96), (300, 224, 192)])
def test_a_gpu_gets_larger_networks_by_the_images_size(clone, monkeypatch, capsys, side, pixels, width):
    folder = draw(clone / "pets", 80)
    for path in sorted(folder.rglob("*.png")):
        Image.open(path).resize((side + 10, side)).save(path)
    said = proposed(monkeypatch, capsys, folder, speed=20_000.0, cards=1)
    study = load_study("mine")
    assert "--resources gpu=1" in said and study.execution.default.gpus == 1 and study.execution.data.gpus == 0
    assert study.resolutions.pretraining == pixels and study.models["tiny"].arguments["embed_dim"] == width
    assert plan_study("mine").jobs


def test_grey_images_get_one_channel(clone, monkeypatch, capsys):
    said = proposed(monkeypatch, capsys, draw(clone / "pets", channels=1))
    assert "pixels, grey" in said and load_study("mine").data.channels == 1


def test_the_normalisation_is_that_of_the_images(clone, monkeypatch, capsys):
    folder = draw(clone / "pets")
    proposed(monkeypatch, capsys, folder)
    pixels = np.stack([np.asarray(Image.open(path)) for path in folder.rglob("*.png")]) / 255
    data = load_study("mine").data
    assert data.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-4)
    assert data.std == pytest.approx(pixels.std(axis=(0, 1, 2)), abs=1e-4)


def test_the_normalisation_of_large_images_is_no_rounding_error():
    """32 bits cannot add up the values of a photograph of 48 megapixels."""
    values = np.random.default_rng(0).integers(120, 250, 4096, dtype=np.uint8)
    pixels = np.tile(values, 4096 * 3).reshape(4096, 4096, 3)

    class Photographs:
        def place(self, index: int) -> str:
            return "photograph.bmp"

        def content(self, index: int) -> bytes:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "BMP")
            return file.getvalue()

    look = look_at(Photographs(), 0)
    exact = pixels.reshape(-1)[: 4096 * 3].astype(np.float64) / 255
    assert look.mean == pytest.approx([exact.mean()] * 3) and look.square == pytest.approx([(exact**2).mean()] * 3)


def test_what_a_person_should_know_is_told(clone, monkeypatch, capsys):
    said = proposed(monkeypatch, capsys, draw(clone / "pets", classes=("cat", "Cat")))
    assert "Classes that differ by small and capital letters alone are several: Cat, cat" in said
    assert "not read" not in said


def test_files_that_are_no_images_to_the_reader_are_counted(clone, monkeypatch, capsys):
    folder = lay(clone, "train and val")
    for place in ("train/bird/a.jp2", "train/cat/b.JP2", "val/cat/c.jfif", "val/cat/README"):
        (folder / place).touch()
    said = proposed(monkeypatch, capsys, folder)
    assert "Files with other endings than .bmp, .gif" in said
    assert ".webp are not read: 1 without one, 1 .jfif, 2 .jp2\n" in said


def test_lines_of_no_split_are_counted(clone, monkeypatch, capsys):
    path = lay(clone, "a CSV file with splits")
    text = path.read_text(encoding="utf-8").replace("/1.png,cat,train", "/1.png,cat,").replace("train", "extra", 2)
    path.write_text(text, encoding="utf-8")
    said = proposed(monkeypatch, capsys, path)
    assert "Lines of other splits than train, val are not read: 2 of 'extra', 1 of ''\n" in said


def test_an_image_that_is_to_be_learned_and_to_evaluate_is_refused_by_new_and_by_the_plan(clone, monkeypatch, capsys):
    path = lay(clone, "a CSV file with splits")
    proposed(monkeypatch, capsys, path)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    learned = [line for line in lines if line.endswith(",train\n")][:2]
    twice = [f"x/../{line}".replace(",train", ",val") for line in learned]
    path.write_text("".join(lines + twice), encoding="utf-8")
    (problem,) = shared_images(load_study("mine"))
    first = clone / learned[0].partition(",")[0]
    assert problem.key == "data.evaluation.val.split.folder"
    assert problem.text == f"2 of its images are images of data.training, too, as is {first}"
    assert problem.remedy == "leave each in one split, or name another primary set."
    Path("params/mine.yaml").unlink()
    (clone / "x").mkdir()
    said = refused(monkeypatch, path)
    assert (
        f"{clone}/x/../{learned[0].partition(',')[0]}: is there to learn from and to evaluate on, as are 1 more" in said
    )
    assert said.endswith("Leave each image in one split.")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_of_a_study_whose_measuring_is_ended(clone, monkeypatch, capsys, ending):
    def measured(study):
        assert Path("params/mine.yaml").exists()
        os.kill(os.getpid(), ending)
        time.sleep(10)

    monkeypatch.setattr(new, "measured", measured)
    monkeypatch.setattr("sys.argv", ["new", "mine", "--images", str(draw(clone / "pets"))])
    before = signal.signal(ending, signal.SIG_DFL)  # which nohup lets the tests ignore, and `new` with them
    with pytest.raises(SystemExit, match=str(128 + ending)):
        new.main()
    signal.signal(ending, before)
    assert not Path("params/mine.yaml").exists() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_odd_paths_and_names_survive(clone, monkeypatch, capsys):
    folder = draw(clone / "a b: #c 'd\" ü", classes=("yes", "1e3", "null"))
    proposed(monkeypatch, capsys, folder)
    study = load_study("mine")
    assert (study.data.root, study.data.training.folder) == (str(clone), folder.name)
    assert not list(image_problems(study))


@pytest.mark.parametrize("name", ["101", "0x10", "null", "true", "2024-01-01"])
def test_a_study_may_be_called_what_yaml_takes_for_something_else(clone, monkeypatch, capsys, name):
    proposed(monkeypatch, capsys, draw(clone / "pets"), name=name)
    study = load_study(name)
    assert (study.title, study.data.name) == (name, name)


@pytest.mark.long
def test_the_speed_is_that_of_this_machine(clone, monkeypatch):
    """Measured by the project's own loop, on the study's own images."""
    for name in ("benchmarks", "src", "workflow"):
        (Path.cwd() / name).symlink_to(ROOT / name)
    monkeypatch.setattr(new, "SECONDS", 0.0)
    study = new.Proposal("mine", new.looked_at(str(draw(clone / "pets"))), new.size_for(20, 0))
    Path("params/mine.yaml").write_text(study.text(1000), encoding="utf-8")
    found = new.measured(study)
    assert {(speed.what, speed.model) for speed in found.speeds} == {
        *(("start", ""), ("views", "")),
        *((what, model) for what in ("train", "infer") for model in ("tiny", "small", "convnet")),
    }
    assert new.minutes_of("mine", found) > new.minutes_of("mine", found, share=0) > 0


# A given teacher ------------------------------------------------------------------------------------------------------


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


# Refusals -------------------------------------------------------------------------------------------------------------


def spoil(folder: Path, how: str) -> Path:
    """Class folders with something wrong in them."""
    match how:
        case "no folder":
            return folder / "nowhere"
        case "an empty folder":
            (folder.parent / "empty").mkdir()
            return folder.parent / "empty"
        case "no image":
            for path in folder.rglob("*.png"):
                path.rename(path.with_suffix(".txt"))
        case "one class":
            for name in CLASSES[1:]:
                shutil.rmtree(folder / name)
        case "an empty class":
            (folder / "hamster").mkdir()
        case "one image of a class":
            draw(folder / "more", 1, ("hamster",)).joinpath("hamster").rename(folder / "hamster")
            (folder / "more").rmdir()
        case "few images":
            for path in folder.rglob("*.png"):
                if path.stem not in "12":
                    path.unlink()
        case "damaged images":
            (folder / "cat/3.png").write_bytes(b"")
            content = (folder / "cat/5.png").read_bytes()
            (folder / "cat/5.png").write_bytes(content[: len(content) // 2])
        case "images beside classes":
            shutil.copy(folder / "cat/3.png", folder / "cat.png")
        case "a nested folder":
            draw(folder / "cat", classes=("old",))
        case "a hidden folder":
            shutil.copytree(folder / "cat", folder / ".ipynb_checkpoints")
        case "a broken link":
            (folder / "cat/new.png").symlink_to("nowhere")
        case "an archive":
            return Path(shutil.make_archive(str(folder), "zip", folder))
    return folder


SPOILT = {
    "no folder": "nowhere: is missing. Name the folder or file of the images.",
    "an empty folder": "empty: is empty. Name the folder of the images.",
    "no image": "found none (other files: 36 .txt). Name a folder that holds a folder for each class.",
    "one class": "has one class, bird, and there is nothing to tell apart. Add another.",
    "an empty class": "pets: no image in the folder hamster. Add some, or remove it.",
    "one image of a class": "has fewer than two images of the class hamster. Add some, or remove it.",
    "few images": "has 6 images, and training needs at least 10. Add some.",
    "damaged images": "2 images cannot be read:",
    "images beside classes": "pets/cat.png: an image outside of the class folders. Move it.",
    "a nested folder": "pets/cat/old/0.png: an image in a folder within a class folder.",
    "a hidden folder": "pets: the hidden folder .ipynb_checkpoints holds images. Remove it, or rename it.",
    "a broken link": "cat/new.png: a link to a file that does not exist. Restore the file, or take this one away.",
    "an archive": "pets.zip: is no folder, .tar or .csv. Unpack it, and name the folder.",
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_cannot_be_learned_from_is_refused_by_its_path(clone, monkeypatch, how):
    message = refused(monkeypatch, spoil(draw(clone / "pets"), how))
    assert SPOILT[how] in message
    if how == "damaged images":
        assert all(f"{clone}/pets/cat/{number}.png: " in message for number in (3, 5))


def test_a_class_of_which_nothing_is_left_to_learn_is_refused(clone, monkeypatch):
    """A fifth is held out, of all images alike: of so many classes of two images one has both of its images there."""
    for name in range(40):
        for number in range(2):
            path = clone / f"few/{name:02}/{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)
    message = refused(monkeypatch, clone / "few")
    assert re.search(
        r"few: of the class \d\d every image would be among the 16 that are held out\. Add some, or", message
    )


def test_a_hidden_folder_without_images_is_no_class(clone, monkeypatch):
    folder = draw(clone / "pets")
    (folder / ".git/objects").mkdir(parents=True)
    monkeypatch.chdir(clone)
    assert new.looked_at(str(folder)).classes == new.looked_at(str(draw(clone / "others"))).classes


def test_splits_of_other_classes_are_refused(clone, monkeypatch):
    folder = lay(clone, "train and val")
    (folder / "val/cat").rename(folder / "val/puma")
    assert "split/val: has the class puma, and " in refused(monkeypatch, folder)
    shutil.rmtree(folder / "val/puma")
    assert "split/val: has no image of the class cat. Add some" in refused(monkeypatch, folder)


def test_a_table_without_a_class_is_refused(clone, monkeypatch):
    """Its classes are those that it shows; one that lacks some would be numbered otherwise."""
    folder = draw(clone / "tables/pets")
    rows = csv_of(folder, folder.parent / "train.csv", split=False).read_text(encoding="utf-8").splitlines()
    others = [row for row in rows if not row.endswith(",cat")]
    (folder.parent / "val.csv").write_text("\n".join(others) + "\n", encoding="utf-8")
    assert "val.csv: has no image of the class cat. Add some" in refused(monkeypatch, folder.parent)


def test_shards_of_one_split_under_two_names_are_refused(clone, monkeypatch):
    (clone / "shards").mkdir()
    for name in ("train-photos-0000.tar", "train-web-0000.tar", "val-0000.tar"):
        shard(clone / "shards" / name, range(6))
    said = refused(monkeypatch, clone / "shards")
    assert "has train-photos-0000.tar and train-web-0000.tar, which are both called train" in said


def test_a_path_that_is_no_utf_8_is_refused(clone, monkeypatch):
    folder = draw(clone / "pets").rename(os.fsdecode(os.fsencode(clone) + b"/b\xe9"))
    assert "b\\xe9: the path is no UTF-8. Rename it" in refused(monkeypatch, folder)


@pytest.mark.parametrize("name", ["a b", "../mine", "published", "study", ""])
def test_a_name_that_no_study_can_have_is_refused(clone, monkeypatch, name):
    assert "is no name of a study" in refused(monkeypatch, draw(clone / "pets"), name)
    assert not os.listdir("params")


@pytest.mark.parametrize(("name", "number"), [("1e3", "1000.0"), ("007", "7"), ("1_000", "1000"), ("nan", None)])
def test_a_name_that_snakemake_takes_for_another_number_is_refused(clone, monkeypatch, name, number):
    assert str(parse_config([f"study={name}"])["study"]) == (number or name)
    if number:
        said = refused(monkeypatch, draw(clone / "pets"), name)
        assert f"'{name}' is the number {number} to --config study={name}. Choose another name." in said
    else:
        assert new.number_in(name) == name


class Numbered:
    """Images that have no paths, as the hub's: each part numbers its own from 0."""

    path, classes, labels = "pets", ["cat", "dog"], np.arange(12) % 2
    found = SimpleNamespace(empty=[], others=Counter())

    def __len__(self) -> int:
        return len(self.labels)

    def place(self, index: int) -> str:
        return f"pets/{index:08d}"

    def content(self, index: int) -> bytes:
        file = io.BytesIO()
        picture(index).save(file, "PNG")
        return file.getvalue()


def test_parts_of_a_data_set_that_has_no_paths_are_not_compared(monkeypatch):
    train, test = SimpleNamespace(part="train"), SimpleNamespace(part="test")
    layout = SimpleNamespace(reader="hfds", training=train, evaluation={"test": test}, left=[])
    monkeypatch.setattr(_images, "layout_of", lambda images: layout)
    monkeypatch.setattr(_images, "read", lambda layout, name, split: Numbered())
    assert new.looked_at("hfds/pets").evaluation == {"test": 12}


def test_a_study_that_is_there_is_not_overwritten(clone, monkeypatch):
    Path("params/other.yaml").write_text("mine: all", encoding="utf-8")
    assert "params/other.yaml is there already. Choose another name" in refused(monkeypatch, clone, "other")
    assert Path("params/other.yaml").read_text(encoding="utf-8") == "mine: all"
