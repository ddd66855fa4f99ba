"""Images that a CSV file names, against timm's reader of the same images in folders, and what is refused of it."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data.readers import create_reader

from deit.see.datasets import evaluation_images, image_files, manifest_of, training_images
from deit.see.reader import split_mistakes
from deit.see.recipes import EvaluationSet, PreparingData, Split, TrainingData

CLASSES = ["2", "10", "Bär, groß"]
EACH = 3


@pytest.fixture
def place(tmp_path) -> Path:
    """Nine images in class folders, and two files that name them in another order: all, and by split."""
    rows = []
    for number, name in enumerate(CLASSES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for image in range(EACH):
            pixels = np.random.default_rng(EACH * number + image).integers(0, 256, (6, 5, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"images/{name}/{image}.png")
            rows.append((f"images/{name}/{image}.png", name, "val" if image == 2 else "train", "note"))
    rows.append(rows.pop(1))
    with (tmp_path / "pets.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("Path", "label", "split", "remark"), *rows])
    return tmp_path


def split_of(part: str = "", images: int = 9) -> Split:
    return Split(images=images, folder="pets.csv", part=part)


def data_of(split: Split) -> TrainingData:
    return TrainingData(name="pets", reader="csv", classes=3, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, split=split)


def refusal(data: TrainingData, root: Path) -> str:
    with pytest.raises(SystemExit) as error:
        manifest_of(PreparingData(training=data, evaluation_sets={}), root)
    return str(error.value)


def test_images_and_classes_are_those_that_timm_reads_from_the_folders(place):
    images, theirs = training_images(data_of(split_of()), place), create_reader("", str(place / "images"))
    known = {theirs.filename(index, absolute=True): index for index in range(len(theirs))}
    assert images.classes == list(theirs.class_to_idx) == CLASSES and len(images) == len(theirs) == 9
    for index in range(9):
        file, label = theirs[known[images.place(index)]]
        assert images.targets(index) == (label,)
        assert np.array_equal(np.asarray(images.image(index)), np.asarray(Image.open(file)))


def test_a_split_numbers_classes_as_the_whole_file_does(place):
    text = (place / "pets.csv").read_text(encoding="utf-8")
    (place / "pets.csv").write_text(text.replace("2/2.png,2,val", "2/2.png,2,test"), encoding="utf-8")
    data = data_of(split_of("train", 6))
    val = EvaluationSet(reader="csv", split=split_of("val", 2))
    assert len(training_images(data, place)) == 6
    images = evaluation_images(data, val, place)
    assert [images.identity(index) for index in range(2)] == ["10/images/10/2.png", "Bär, groß/images/Bär, groß/2.png"]
    assert [images.targets(index) for index in range(2)] == [(1,), (2,)]
    recipe = PreparingData(training=data, evaluation_sets={"val": val})
    manifest = json.loads(json.dumps(manifest_of(recipe, place)))
    assert manifest["fingerprints"].keys() == {"pets.csv/train", "pets.csv/val"}
    assert [len(each) for each in image_files(recipe, place, manifest)] == [2]
    assert len(training_images(data, place, manifest)) == 6
    shutil.copy(place / "images/10/0.png", place / "images/2/0.png")
    with pytest.raises(SystemExit, match="as in the manifest"):
        training_images(data, place, manifest)


def test_missing_images_are_named_together(place):
    for name in ("2/0.png", "10/1.png"):
        (place / "images" / name).unlink()
    told, *named = refusal(data_of(split_of()), place).splitlines()
    assert told.startswith(f"{place}/pets.csv: 2 of 9 images are missing.") and told.endswith("(data.training.folder).")
    assert sorted(named) == [f"{place}/images/10/1.png", f"{place}/images/2/0.png"]


WRONG = {
    "other names": ("file,label\na,b\n", "its first line, 'file,label', names no column path. Let it begin with"),
    "semicolons": ("path;label\na;b\n", "its first line, 'path;label', names no column path"),
    "a name twice": ("path,label,label\na,b,c\n", "names two columns label"),
    "empty": ("", "its first line, '', names no column path"),
    "no line": ("path,label\n", "has no line below its first"),
    "no label": ("path,label\na.png,\n", "pets.csv, line 2: has no label. Complete it"),
    "a short line": ("path,label\n\na.png\n", "pets.csv, line 3: has no label"),
    "no path": ("path,label\n,cat\n", "pets.csv, line 2: has no path"),
    "an image twice": ("path,label\na.png,cat\na.png,dog\n", "names a.png twice"),
    "an image in two spellings": ("path,label\na.png,cat\n./a.png,dog\n", "names a.png twice"),
    "a comma without quotes": (
        "path,label\na.png,Smith, J.\nb.png,Smith, K.\n",
        "line 2: has 3 values for 2 columns. Put quotes around what holds a comma",
    ),
    "a path of one machine": ("path,label\n/home/a.png,cat\n", "line 2: /home/a.png is a path of one machine alone"),
    "a path of Windows": ("path,label\nC:\\a.png,cat\n", "is a path of one machine alone"),
    "an open quotation mark": ('path,label\n"a.png,cat\n', "is no CSV"),
    "not UTF-8": (b"path,label\nB\xe4r.png,cat\n", "is not UTF-8. Save it as UTF-8"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_such_file_is_refused(place, wrong):
    content, words = WRONG[wrong]
    (place / "pets.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    message = refusal(data_of(split_of()), place)
    assert words in message and message.endswith("(data.training.folder).")


def test_a_split_needs_its_column_and_lines(place):
    assert "has no line of the split 'test'" in refusal(data_of(split_of("test")), place)
    (place / "pets.csv").write_text("path,label\na.png,cat\n", encoding="utf-8")
    assert "names no column split" in refusal(data_of(split_of("train")), place)


@pytest.mark.parametrize(("split", "key"), [({}, "folder"), ({"folder": "images"}, "folder")])
def test_a_declaration_without_a_file_is_told(split, key):
    assert [mistake.key for mistake in split_mistakes("csv", Split(images=1, **split))] == [key]
