"""Folders and tars of images, read as torchvision reads them, and refused where they are not those of before."""

import hashlib
import json
import os
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from image_files import CLASSES, declared, folder_data, refusal, tar_of
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder

from deit.see.datasets import evaluation_images, manifest_of, training_images
from deit.see.recipes import EvaluationSet, PreparingData, TrainingData


class Reds(Dataset):
    def __init__(self, images):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> int:
        return self.images.image(index).getpixel((0, 0))[0]


def test_a_folder_reads_as_torchvision_reads_it(tmp_path):
    images = training_images(folder_data(tmp_path, ["n02", "n10", "n01"]), tmp_path)
    reference = ImageFolder(tmp_path / "train")
    assert images.classes == reference.classes == ["n01", "n02", "n10"]
    for index, (path, target) in enumerate(reference.samples):
        assert images.targets(index) == (target,)
        assert images.identity(index) == "/".join(Path(path).parts[-2:])
        assert np.array_equal(np.asarray(images.image(index)), np.asarray(reference[index][0]))


@pytest.mark.parametrize("in_tar", [False, True])
def test_folders_named_by_numbers_are_the_classes_of_these_numbers(tmp_path, in_tar):
    """ImageNet-V2's folders are 0 ... 999; sorted as text, class 10 would come before class 2."""
    data = folder_data(tmp_path, [str(number) for number in range(CLASSES)])
    if in_tar:
        data = declared(data, folder=tar_of(tmp_path / "train").name)
    images = training_images(data, tmp_path)
    assert images.classes == [str(number) for number in range(CLASSES)]
    assert all(images.targets(index) == (images.image(index).getpixel((0, 0))[0],) for index in range(len(images)))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_tar_is_the_same_set_as_its_folder_also_in_worker_processes(tmp_path):
    data = folder_data(tmp_path, [str(number) for number in range(CLASSES)])
    folder = training_images(data, tmp_path)
    tar = training_images(declared(data, folder=tar_of(tmp_path / "train").name), tmp_path)
    assert len(tar) == len(folder) and tar.listing() == folder.listing()
    for index in range(len(folder)):
        assert (tar.identity(index), tar.targets(index)) == (folder.identity(index), folder.targets(index))
    expected = [images.getpixel((0, 0))[0] for images in map(folder.image, range(len(folder)))]
    for workers in (0, 3):
        loader = DataLoader(Reds(tar), batch_size=None, num_workers=workers)
        assert [int(red) for red in loader] == expected


def test_a_grey_file_becomes_rgb(tmp_path):
    data = folder_data(tmp_path, ["a", "b"])
    Image.new("L", (8, 7), 9).save(tmp_path / "train" / "a" / "picture_000.png")
    assert training_images(data, tmp_path).image(0).getpixel((0, 0)) == (9, 9, 9)


def test_the_listing_is_that_of_its_definition_and_sees_a_changed_file(tmp_path):
    data = folder_data(tmp_path, ["b", "a"])
    paths = sorted(tmp_path.glob("train/*/*.png"))
    lines = "".join(f"{path.parent.name}/{path.name} {path.stat().st_size}\n" for path in paths)
    listing = hashlib.sha256(lines.encode()).hexdigest()
    assert training_images(data, tmp_path).listing() == listing
    manifest_of(PreparingData(training=declared(data, listing=listing), evaluation_sets={}), tmp_path)
    paths[0].write_bytes(paths[0].read_bytes() + b"\0")
    with pytest.raises(SystemExit, match=rf"expected the listing {listing}, found .*data\.training\.listing"):
        manifest_of(PreparingData(training=declared(data, listing=listing), evaluation_sets={}), tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": 7}, "expected 7 images, found 6. Restore"),
        ({"folder": "nowhere"}, "nowhere: missing. Restore"),
        ({"folder": "empty"}, "expected sub-folders with images, found none"),
        ({"folder": "empty.tar"}, "expected sub-folders with images, found none"),
    ],
)
def test_another_folder_is_refused(tmp_path, changes, words):
    data = folder_data(tmp_path, ["a", "b"])
    (tmp_path / "empty").mkdir()
    tar_of(tmp_path / "empty")
    assert words in refusal(declared(data, **changes), tmp_path)


def test_a_wrong_number_of_classes_is_refused(tmp_path):
    data = folder_data(tmp_path, ["a", "b"], classes=3)
    assert "expected 3 classes, found 2" in refusal(data, tmp_path)


def copied(root: Path, name: str) -> Path:
    """Another node's copy of the images below `root`."""
    return Path(shutil.copytree(root, root.with_name(name)))


@pytest.fixture(params=["train", "train.tar"], ids=["folder", "tar"])
def placed(request, tmp_path) -> tuple[TrainingData, Path, dict]:
    """Images in a folder or a tar, the folder above them, and their manifest; no listing is declared."""
    root = tmp_path / "images"
    data = folder_data(root, ["1", "2", "3"], images=40, held_out=30)
    tar_of(root / "train")
    data = declared(data, folder=request.param)
    return data, root, json.loads(json.dumps(manifest_of(PreparingData(training=data, evaluation_sets={}), root)))


def exchange(folder: Path) -> None:
    """Two images of different classes under each other's names."""
    one, other = folder / "1/picture_003.png", folder / "2/picture_004.png"
    one.rename(folder / "aside")
    other.rename(one)
    (folder / "aside").rename(other)


CHANGES = {
    "another size": lambda folder: (folder / "2/picture_007.png").write_bytes(bytes(1000)),
    "renamed": lambda folder: (folder / "2/picture_007.png").rename(folder / "2/picture_7000.png"),
    "another order": lambda folder: (folder / "2/picture_007.png").rename(folder / "2/a.png"),
    "under other names": exchange,
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_copy_of_the_images_is_refused_where_no_listing_is_declared(placed, change):
    data, root, manifest = placed
    other = copied(root, "copy")
    assert len(training_images(data, other, manifest)) == 90
    CHANGES[change](other / "train")
    tar_of(other / "train")
    with pytest.raises(SystemExit) as refused:
        training_images(data, other, manifest)
    assert str(refused.value).startswith(f"{other / data.split.folder}: expected image ")
    assert "Restore" in str(refused.value) and "(data.training.listing)" in str(refused.value)


def test_a_renamed_image_outside_the_sample_is_found_too(placed, monkeypatch):
    data, root, _ = placed
    monkeypatch.setattr("deit.see.image_files.SAMPLED", 3)
    monkeypatch.setattr("deit.see.image_files.HASHED", 3)
    manifest = manifest_of(PreparingData(training=data, evaluation_sets={}), root)
    assert len(manifest["fingerprints"][data.split.folder]["sample"]) == 3
    (root / "train/1/picture_011.png").rename(root / "train/1/picture_0011.png")
    tar_of(root / "train")
    with pytest.raises(SystemExit, match="expected label and class/name of all images in the manifest's order"):
        training_images(data, root, manifest)


def test_held_out_images_are_compared_too(placed):
    data, root, _ = placed
    held = {"held": EvaluationSet(reader="timm", split=data.split, held_out=30)}
    manifest = manifest_of(PreparingData(training=data, evaluation_sets=held), root)
    assert len(evaluation_images(data, held["held"], root, "held", manifest)) == 30
    CHANGES["renamed"](root / "train")
    tar_of(root / "train")
    with pytest.raises(SystemExit, match=r"data\.evaluation\.held\.split\.listing"):
        evaluation_images(data, held["held"], root, "held", manifest)


# Tars ----------------------------------------------------------------------------------------------------------------


def test_a_tar_of_tars_reads_as_its_folders(tmp_path):
    data = folder_data(tmp_path, ["n1", "n2", "n10"])
    with tarfile.open(tmp_path / "nested.tar", "w") as outer:
        for name in data_classes(tmp_path):
            with tarfile.open(tmp_path / f"{name}.tar", "w") as inner:
                for file in sorted((tmp_path / "train" / name).iterdir()):
                    inner.add(file, arcname=file.name)
            outer.add(tmp_path / f"{name}.tar", arcname=f"{name}.tar")
    folder, tar = training_images(data, tmp_path), training_images(declared(data, folder="nested.tar"), tmp_path)
    assert tar.listing() == folder.listing() and tar.classes == folder.classes
    one, other = ({images.identity(index): images.content(index) for index in range(9)} for images in (tar, folder))
    assert one == other and len(one) == 9


def data_classes(root: Path) -> list[str]:
    return sorted(folder.name for folder in (root / "train").iterdir())


def test_a_tar_that_was_cut_short_is_refused(tmp_path):
    data = folder_data(tmp_path, ["a", "b"])
    tar = tar_of(tmp_path / "train")
    tar.write_bytes(tar.read_bytes()[:3300])
    assert "expected sub-folders with images, found none" in refusal(declared(data, folder=tar.name), tmp_path)


def test_a_tar_is_opened_once_a_process(tmp_path, monkeypatch):
    data = folder_data(tmp_path, ["a", "b"], images=20)
    tar = training_images(declared(data, folder=tar_of(tmp_path / "train").name), tmp_path)
    opened = []
    monkeypatch.setattr(os, "open", lambda *of, real=os.open: opened.append(of) or real(*of))
    for index in range(len(tar)):
        tar.image(index)
    assert len(opened) == 1 and str(opened[0][0]).endswith("train.tar")
    assert pickle.loads(pickle.dumps(tar)).content(3) == tar.content(3)
