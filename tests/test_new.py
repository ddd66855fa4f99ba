"""`python workflow new`: what it takes for images, and the study that it proposes."""

import io
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from call.images_here import count_problems, counted_images, image_problems, shared_images
from commands import new
from commands._layouts import layout_of
from commands._survey import look_at
from new_studies import draw, lay, node, proposed, refused
from PIL import Image
from plan.studies import plan_study
from smoke_study import ROOT
from study.params import load_study

from deit.tables.cells import paper

# What lies there ------------------------------------------------------------------------------------------------------

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
