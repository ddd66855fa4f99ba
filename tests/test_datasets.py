"""Readers against torchvision's and timm's own, labels and corruptions against closed forms, and every refusal."""

import gzip
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import FASHION, declared, folder_data, idx_data, packed_idx, refusal
from PIL import Image, ImageFilter
from timm.data import RealLabelsImagenet
from torchvision.datasets import FashionMNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from deit.commands.prepare_data import prepare_data
from deit.see.datasets import check_classes, corrupted, divided, evaluation_images, manifest_of, training_images
from deit.see.recipes import Corruption, EvaluationSet, PreparingData, Split, TrainingData
from deit.store.job import Job

FASHION_MD5 = dict(FashionMNIST.resources)


# IDX -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "t10k"])
def test_fashion_mnist_is_the_published_one_and_reads_as_torchvision_reads_it(split, tmp_path):
    files = {"images": f"{split}-images-idx3-ubyte.gz", "labels": f"{split}-labels-idx1-ubyte.gz"}
    md5 = {part: FASHION_MD5[name] for part, name in files.items()}
    count = {"train": 60000, "t10k": 10000}[split]
    data = idx_data(tmp_path, split=Split(images=count, files=files, md5=md5))
    images = training_images(data, FASHION)
    for part, name in files.items():
        (tmp_path / part).write_bytes(gzip.decompress((FASHION / name).read_bytes()))
    pixels, labels = read_image_file(str(tmp_path / "images")), read_label_file(str(tmp_path / "labels"))
    assert np.array_equal(images.pixels, pixels.numpy()) and np.array_equal(images.labels, labels.numpy())
    assert images.image(17).mode == "L" and np.array_equal(np.asarray(images.image(17)), pixels[17].numpy())
    assert images.targets(17) == (int(labels[17]),) and len(images) == count
    assert len({images.identity(index) for index in range(count)}) == count


def test_a_grey_image_is_shown_to_three_channels_as_rgb(tmp_path):
    data = idx_data(tmp_path, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    image, grey = training_images(data, tmp_path).image(0), training_images(idx_data(tmp_path), tmp_path).image(0)
    assert image.mode == "RGB" and np.array_equal(np.asarray(image)[..., 2], np.asarray(grey))


def test_another_file_is_refused_by_its_md5(tmp_path):
    data = idx_data(tmp_path)
    path = tmp_path / "images.gz"
    path.write_bytes(path.read_bytes() + b"\0")
    found = hashlib.md5(path.read_bytes()).hexdigest()
    message = refusal(data, tmp_path)
    for part in (str(path), data.split.md5["images"], found, "data.training.md5.images", "Restore"):
        assert part in message


def flipped(packed: bytes) -> bytes:
    """With a byte of the deflated data turned around."""
    middle = len(packed) // 2
    return packed[:middle] + bytes([packed[middle] ^ 0xFF]) + packed[middle + 1 :]


@pytest.mark.parametrize(
    ("part", "content", "words"),
    [
        ("images", None, "missing"),
        ("images", b"no gzip", "expected a gzip-compressed IDX file"),
        ("images", flipped(packed_idx(np.zeros((40, 6, 5)))), "expected a gzip-compressed IDX file"),
        ("images", packed_idx(np.zeros((40, 6, 5)))[:-20], "expected a gzip-compressed IDX file"),
        (
            "images",
            gzip.compress(b"\0\0\x0d\x01\0\0\0\x01\0", mtime=0),
            "an IDX file of unsigned bytes, found the first bytes",
        ),
        ("images", gzip.compress(b"", mtime=0), "an IDX file of unsigned bytes, found the first bytes"),
        ("images", gzip.compress(b"\0\0\x08\x01\0\0\0\x02\0", mtime=0), "expected (2,) values by its header, found 1"),
        ("images", packed_idx(np.zeros((39, 6, 5))), "expected 39 labels, found 40"),
        ("labels", packed_idx(np.full(40, 10)), "expected classes below 10, found class 10"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path, part, content, words):
    data = declared(idx_data(tmp_path), md5={})
    path = tmp_path / f"{part}.gz"
    path.unlink() if content is None else path.write_bytes(content)
    assert words in refusal(data, tmp_path)


def test_a_wrong_number_of_images_is_refused(tmp_path):
    message = refusal(declared(idx_data(tmp_path), images=41), tmp_path)
    assert "expected 41 images, found 40" in message and "data.training.images" in message


def test_an_idx_file_is_that_of_the_manifest_also_where_no_md5_is_declared(tmp_path):
    data = declared(idx_data(tmp_path), md5={})
    manifest = manifest_of(PreparingData(training=data, evaluation_sets={}), tmp_path)
    training_images(data, tmp_path, manifest)
    (tmp_path / "labels.gz").write_bytes(packed_idx(np.arange(40)[::-1] % 10))
    told = r"labels with the manifest's MD5 .*\(data\.training\.md5\.labels\).*rm -r results/<study>"
    with pytest.raises(SystemExit, match=told):
        training_images(data, tmp_path, manifest)
    anew = manifest_of(PreparingData(training=data, evaluation_sets={}), tmp_path)  # the images are right, it was not
    assert len(training_images(data, tmp_path, anew)) == 40


# Where the images lie ------------------------------------------------------------------------------------------------


def test_the_folder_of_the_images_is_found_on_the_node(tmp_path, monkeypatch):
    data = folder_data(tmp_path / "here", ["a", "b"])
    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    assert len(training_images(data, "${NODE_DISK}/here")) == 6
    monkeypatch.delenv("NODE_DISK")
    with pytest.raises(SystemExit, match=r"data\.root: \$\{NODE_DISK\}/here names an environment variable that is not"):
        training_images(data, "${NODE_DISK}/here")


# Held-out images -----------------------------------------------------------------------------------------------------


@given(images=st.integers(1, 300), data=st.data())
def test_held_out_and_training_images_share_none_and_miss_none(images, data):
    held_out = data.draw(st.integers(0, images - 1))
    kept, apart = divided(images, held_out)
    assert len(apart) == held_out and sorted([*kept, *apart]) == list(range(images))
    assert list(kept) == sorted(kept)


def test_training_and_evaluation_divide_alike(tmp_path):
    data = idx_data(tmp_path, held_out=12)
    everything = training_images(idx_data(tmp_path), tmp_path)
    learned = training_images(data, tmp_path)
    apart = evaluation_images(data, EvaluationSet(reader="idx", split=data.split, held_out=12), tmp_path)
    assert len(learned) == data.images == 28 and len(apart) == 12
    for images in (learned, apart):
        for index in range(len(images)):
            original = int(images.identity(index))
            assert np.array_equal(np.asarray(images.image(index)), np.asarray(everything.image(original)))
            assert images.targets(index) == everything.targets(original)
    names = [images.identity(index) for images in (learned, apart) for index in range(len(images))]
    assert sorted(names) == [everything.identity(index) for index in range(40)]


# Corruption ----------------------------------------------------------------------------------------------------------

PICTURE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 64), dtype=np.uint8))


def corruption(noise: float = 0, blur: float = 0, shift: int = 0, seed: int = 3) -> Corruption:
    return Corruption(noise=noise, blur=blur, shift=shift, seed=seed)


@pytest.mark.parametrize("picture", [PICTURE, Image.merge("RGB", [PICTURE] * 3)])
def test_each_part_of_a_corruption_alone(picture):
    pixels = np.asarray(picture)
    assert np.array_equal(np.asarray(corrupted(picture, corruption(), 5)), pixels)
    blurred = picture.filter(ImageFilter.GaussianBlur(1.5))
    assert np.array_equal(np.asarray(corrupted(picture, corruption(blur=1.5), 5)), np.asarray(blurred))
    grey = Image.new(picture.mode, picture.size, (128,) * len(picture.getbands()))
    noise = np.asarray(corrupted(grey, corruption(noise=0.1), 5), dtype=float) / 255 - 128 / 255
    assert abs(noise.std() - 0.1) < 0.005 and abs(noise.mean()) < 0.005


def test_a_shift_is_a_translation_of_at_most_so_many_pixels_and_each_occurs():
    pixels, seen = np.asarray(PICTURE), set()
    for index in range(200):
        moved = np.asarray(corrupted(PICTURE, corruption(shift=2), index))
        inner = moved[2:-2, 2:-2]
        places = [(y, x) for y in range(5) for x in range(5) if np.array_equal(inner, pixels[y : y + 56, x : x + 60])]
        assert len(places) == 1
        seen.update(places)
    assert len(seen) == 25


def test_a_corrupted_image_depends_on_seed_and_index_alone(tmp_path):
    data = idx_data(tmp_path)

    def shown(order, seed: int = 3) -> dict[int, bytes]:
        spoiled = corruption(0.2, 0.5, 1, seed)
        evaluation_set = EvaluationSet(reader="idx", split=data.split, corruption=spoiled)
        images = evaluation_images(data, evaluation_set, tmp_path)
        return {index: images.image(index).tobytes() for index in order}

    once = shown(range(40))
    np.random.seed(99)
    assert shown(reversed(range(40))) == once
    assert len(set(once.values())) == 40
    assert not set(shown(range(40), seed=4).values()) & set(once.values())


# ReaL ----------------------------------------------------------------------------------------------------------------


def test_real_labels_follow_file_names_as_timm_reads_them(tmp_path):
    """The classes' folders put the validation images into another order than their numbers."""
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 13)]
    for number, name in enumerate(names):
        folder = tmp_path / "val" / f"n{number * 7 % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)
    lists = [[number * 7 % 4, (number + 1) % 4][: number % 3] for number in range(12)]
    (tmp_path / "real.json").write_text(json.dumps(lists), encoding="utf-8")
    split = Split(images=12, folder="val")
    data = TrainingData(name="v", reader="timm", classes=4, channels=3, mean=(0.5,) * 3, std=(1,) * 3, split=split)
    images = evaluation_images(data, EvaluationSet(reader="timm", split=split, labels="real.json"), tmp_path)
    reference = RealLabelsImagenet(names, real_json=str(tmp_path / "real.json")).real_labels
    found = {images.identity(index).split("/")[1]: list(images.targets(index)) for index in range(len(images))}
    assert found == {name: labels for name, labels in reference.items() if labels}
    assert all(images.image(index).size == (4, 4) for index in range(len(images))) and len(images) == 8


def test_real_labels_of_images_that_are_named_otherwise_are_refused(tmp_path):
    """As text 10.JPEG stands before 2.JPEG."""
    for number in range(1, 13):
        folder = tmp_path / "val" / f"n{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / f"{number}.JPEG")
    (tmp_path / "real.json").write_text(json.dumps([[number % 4] for number in range(1, 13)]), encoding="utf-8")
    split = Split(images=12, folder="val")
    data = TrainingData(name="v", reader="timm", classes=4, channels=3, mean=(0.5,) * 3, std=(1,) * 3, split=split)
    with pytest.raises(
        SystemExit, match=r"most of its labels are not those of .* 1\.JPEG first.*evaluation\.real\.labels"
    ):
        evaluation_images(data, EvaluationSet(reader="timm", split=split, labels="real.json"), tmp_path, "real")


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ([[1]] * 39, "found 39"),
        ([1] * 40, "expected a JSON list of lists of classes"),
        ("[[1], [", "expected a JSON list of lists of classes"),
        ([[1]] * 39 + [[10]], r"expected classes 0 to 9, found \[10\]"),
        (None, "missing"),
    ],
)
def test_other_labels_that_do_not_fit_are_refused(tmp_path, lists, words):
    data = idx_data(tmp_path)
    if lists is not None:
        text = lists if isinstance(lists, str) else json.dumps(lists)
        (tmp_path / "real.json").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match=words):
        evaluation_images(data, EvaluationSet(reader="idx", split=data.split, labels="real.json"), tmp_path, "real")


# Manifest ------------------------------------------------------------------------------------------------------------


def test_prepare_data_writes_what_the_data_are(tmp_path):
    data = idx_data(tmp_path, held_out=4)
    (tmp_path / "real.json").write_text(json.dumps([[*range(10)]] * 30 + [[]] * 10), encoding="utf-8")
    sets = {
        "test": EvaluationSet(reader="idx", split=data.split),
        "real": EvaluationSet(reader="idx", split=data.split, labels="real.json"),
    }
    recipe = PreparingData(training=data, evaluation_sets=sets)
    execution = {"data_root": str(tmp_path)}
    job = Job(kind="data", name="data", recipe=recipe.model_dump(), behaviour={}, execution=execution)
    prepare_data(job, tmp_path / "out")
    text = (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")
    splits, fingerprints = json.loads(text)["splits"], json.loads(text)["fingerprints"]
    assert list(splits) == ["training", "test", "real"] and str(tmp_path) not in text
    assert splits["training"]["images"] == 40 and splits["training"]["held_out"] == 4
    assert splits["test"]["images_per_class"] == [4] * 10 and splits["test"]["md5"] == data.split.md5
    assert splits["test"]["evaluated"] == 40 and splits["real"]["evaluated"] == 30
    assert fingerprints["real.json"] == hashlib.sha256((tmp_path / "real.json").read_bytes()).hexdigest()


def test_a_failed_check_leaves_no_folder(tmp_path):
    data = declared(folder_data(tmp_path, ["a", "b"]), images=5)
    recipe = PreparingData(training=data, evaluation_sets={}).model_dump()
    execution = {"data_root": str(tmp_path)}
    job = Job(kind="data", name="data", recipe=recipe, behaviour={}, execution=execution)
    with pytest.raises(SystemExit, match=r"expected 5 images, found 6\..*data\.training\.images"):
        prepare_data(job, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_evaluation_classes_are_the_training_classes_or_their_numbers(tmp_path):
    data = folder_data(tmp_path, ["cat", "dog"])
    named = {name: folder_data(tmp_path, classes, folder=name) for name, classes in SETS.items()}
    for name, other in named.items():
        sets = {name: EvaluationSet(reader="timm", split=other.split)}
        recipe = PreparingData(training=data, evaluation_sets=sets)
        if name != "foreign":
            assert manifest_of(recipe, tmp_path)["splits"][name]["classes"] == SETS[name]
            continue
        with pytest.raises(SystemExit, match=r"class 'dog' of the training images, found 'fox'.*evaluation\.foreign"):
            manifest_of(recipe, tmp_path)


def test_the_same_classes_in_another_order_are_refused(tmp_path):
    """As where a library sorts the names of one set as text, and another one by their numbers."""
    data = folder_data(tmp_path, ["0", "1", "2"])
    training, other = training_images(data, tmp_path), training_images(data, tmp_path)
    training.classes = ["0", "2", "1"]
    for images, first in ((other, training), (training, other)):
        with pytest.raises(SystemExit, match=r"in another order .* with one \(data\.evaluation\.val\.reader\)"):
            check_classes(images, first, "data.evaluation.val.split")
    check_classes(other, other, "data.evaluation.val.split")


SETS = {"alike": ["cat", "dog"], "numbered": ["0", "1"], "foreign": ["cat", "fox"]}


def test_an_image_that_is_not_one_is_no_silent_zero(tmp_path):
    data = folder_data(tmp_path, ["a", "b"])
    (tmp_path / "train" / "a" / "picture_000.png").write_bytes(b"broken")
    with pytest.raises(OSError, match="cannot identify"):
        training_images(data, tmp_path).image(0)
