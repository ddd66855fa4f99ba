"""CIFAR's binary version: the bytes that its authors describe; the official files where CIFAR10_BINARY names them."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from cifar_files import FOLDER, declaration, write_cifar
from plan.studies import plan_study

from deit.see.datasets import evaluation_images, manifest_of, training_images
from deit.see.recipes import PreparingData, Split, TrainingData

ROOT = Path(__file__).resolve().parent.parent
NAMES = [f"data_batch_{number}.bin" for number in range(1, 6)]
IMAGES = 24


def record(labels: list[int], pixels: np.ndarray) -> bytes:
    """One image (32, 32, 3), byte by byte: labels, then red, green and blue, each row by row."""
    content = list(labels)
    for colour in range(3):
        for row in range(32):
            content += [int(pixels[row, column, colour]) for column in range(32)]
    return bytes(content)


@pytest.fixture
def root(tmp_path) -> Path:
    """Small batches: the same images in both versions."""
    pixels, labels = write_cifar(tmp_path, IMAGES)
    for number, name in enumerate(NAMES):
        part = range(number * IMAGES, (number + 1) * IMAGES)
        (tmp_path / FOLDER / name).write_bytes(b"".join(record([labels[index]], pixels[index]) for index in part))
    return tmp_path


def declared(root: Path, reader: str = "cifar_binary", names: list[str] = NAMES, **changes) -> TrainingData:
    split = Split(images=IMAGES * len(names), **declaration(root, names))
    plain = {"name": "cifar", "reader": reader, "classes": 10, "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    return TrainingData(**plain | {"split": split} | changes)


def refusal(data: TrainingData, root: Path) -> str:
    with pytest.raises(SystemExit) as error:
        training_images(data, root)
    return str(error.value)


def test_it_holds_the_images_of_the_python_version(root):
    binary = training_images(declared(root), root)
    python = training_images(declared(root, "cifar", [name.removesuffix(".bin") for name in NAMES]), root)
    assert len(binary) == len(python) == 5 * IMAGES
    assert np.array_equal(binary.pixels, python.pixels) and np.array_equal(binary.labels, python.labels)
    assert binary.image(7).mode == "RGB" and np.array_equal(np.asarray(binary.image(7)), binary.pixels[7])


def test_the_second_label_of_cifar_100_is_the_class_of_a_hundred(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "train.bin").write_bytes(record([19, 99], pixels[0]) + record([0, 3], pixels[1]))
    split = Split(images=2, files={"batch_1": "train.bin"})
    plain = {"name": "cifar-100", "classes": 100, "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    data = TrainingData(reader="cifar_binary", split=split, **plain)
    images = training_images(data, tmp_path)
    assert np.array_equal(images.pixels, pixels) and images.labels.tolist() == [99, 3]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "missing. Restore"),
        (b"", "0 bytes, which are no records of 3073, as 10 classes have"),
        (bytes(3074), "expected a batch of CIFAR's binary version, found none (3074 bytes"),
        (b"\x0a" + bytes(3072), "expected classes below 10, found class 10"),
    ],
)
def test_what_is_no_batch_is_refused_by_its_path(root, content, words):
    data, path = declared(root), root / FOLDER / NAMES[3]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    data = data.model_copy(update={"split": data.split.model_copy(update={"md5": {}})})
    message = refusal(data, root)
    assert words in message and str(path) in message


def test_another_file_is_refused_by_its_md5_and_the_manifest_has_it_of_each(root):
    data = declared(root)
    manifest = manifest_of(PreparingData(training=data, evaluation_sets={}), root)
    assert manifest["splits"]["training"]["md5"] == data.split.md5
    assert manifest["splits"]["training"]["images_per_class"] == [12] * 10
    path = root / FOLDER / NAMES[1]
    path.write_bytes(path.read_bytes()[::-1])
    message = refusal(data, root)
    assert f"{path}: expected the MD5" in message and "(data.training.md5.batch_2)" in message


@pytest.mark.skipif("CIFAR10_BINARY" not in os.environ, reason="CIFAR10_BINARY does not name a folder")
def test_the_official_files_are_those_of_the_params(monkeypatch):
    """Their folder is cifar-10-batches-bin. Means and deviations are those that params/cifar10.yaml has from others."""
    root = Path(os.environ["CIFAR10_BINARY"])
    monkeypatch.setenv("CIFAR10", str(root))
    plan = plan_study("cifar10-binary", ROOT / "params")
    data, test = plan.settings.training_data(""), plan.settings.evaluation_sets("")["test"]
    images, tested = training_images(data, root), evaluation_images(data, test, root)
    assert np.bincount(images.labels).tolist() == [5000] * 10 and np.bincount(tested.labels).tolist() == [1000] * 10
    pixels = images.pixels.reshape(-1, 3)
    assert pixels.mean(0) / 255 == pytest.approx(data.mean, abs=1e-4)
    assert pixels.std(0) / 255 == pytest.approx(data.std, abs=1e-4)
    assert hashlib.md5((root / test.split.files["batch_1"]).read_bytes()).hexdigest() == test.split.md5["batch_1"]
