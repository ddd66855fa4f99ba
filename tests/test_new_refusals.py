"""`python workflow new`: what it refuses, and by which words."""

import io
import os
import re
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commands import _images, new
from new_studies import CLASSES, csv_of, draw, lay, picture, refused, shard
from PIL import Image
from snakemake.cli import parse_config


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
