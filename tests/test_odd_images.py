"""Images that are odd but whole are prepared, augmented and evaluated; what is none is named before, by its path."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from deit.commands.prepare_data import prepare_data
from deit.see.datasets import training_images
from deit.see.recipes import EvaluationView, PreparingData, Split, TrainingData, Views
from deit.see.views import evaluation_transform, training_transform
from deit.store.job import Job

PIXELS = np.random.default_rng(0).integers(0, 256, (3000, 3, 3), dtype=np.uint8)
VIEWS = Views(
    resolution=16,
    batch=2,
    mix_group=2,
    repeats=1,
    scale=(0.08, 1),
    ratio=(0.75, 4 / 3),
    flip=0.5,
    randaugment="rand-m9-mstd0.5-inc1",
    erasing=0.25,
    mixup=0,
    cutmix=0,
    mix_probability=0,
    switch_probability=0,
    label_smoothing=0,
)


def rgb(height: int, width: int) -> Image.Image:
    return Image.fromarray(PIXELS[:height, :width]) if height >= width else rgb(width, height).transpose(2)


ODD = {
    "one pixel": ("1.png", rgb(1, 1)),
    "a pixel wide": ("1.png", rgb(3000, 1)),
    "a pixel high": ("1.png", rgb(1, 3000)),
    "elongated": ("1.png", rgb(1000, 3)),
    "CMYK in a JPEG": ("1.jpg", rgb(3, 3).convert("CMYK")),
    "grey in a JPEG": ("1.jpg", rgb(3, 3).convert("L")),
    "a palette in a BMP": ("1.bmp", rgb(3, 3).convert("P")),
    "alpha in a WebP": ("1.webp", rgb(3, 3).convert("RGBA")),
    "a name of spaces and umlauts": ("große  Füße.PNG", rgb(3, 3)),
}


@pytest.fixture
def job(tmp_path):
    """Class folders `Bär 1`, which holds the odd image, and `bar`; and the job that looks at the images."""
    for name in ("Bär 1", "bar"):
        (tmp_path / "train" / name).mkdir(parents=True)
    rgb(3, 3).save(tmp_path / "train/bar/1.png")
    plain = {"name": "x", "reader": "timm", "classes": 2, "channels": 3, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    recipe = PreparingData(training=TrainingData(split=Split(images=2, folder="train"), **plain), evaluation_sets={})
    execution = {"data_root": str(tmp_path), "threads": 1}
    return Job(kind="data", name="data", recipe=recipe.model_dump(), behaviour={}, execution=execution)


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_image_is_seen_as_torchvision_sees_it(tmp_path, job, odd):
    name, image = ODD[odd]
    image.save(tmp_path / "train/Bär 1" / name)
    prepare_data(job, tmp_path / "out")
    data = job.resolved().training
    images = training_images(data, tmp_path)
    assert images.classes == ["bar", "Bär 1"]  # as timm sorts; torchvision has capitals first
    expected, _ = ImageFolder(tmp_path / "train")[0]
    assert np.array_equal(np.asarray(images.image(1)), np.asarray(expected))
    training, evaluation = (
        training_transform(data, VIEWS),
        evaluation_transform(data, EvaluationView(resolution=16, crop=0.875)),
    )
    for seed in range(10):
        torch.manual_seed(seed)
        view = training(images.image(1))
        assert view.shape == (3, 16, 16) and view.isfinite().all()
    shown = evaluation(images.image(1))
    assert shown.shape == (3, 16, 16) and shown.isfinite().all()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.png", b""),
        ("._1.png", b"\0\5\26\7\0\2\0\0Mac OS X"),  # what macOS writes beside each file on a foreign disk
        ("page.jpg", b"<html>404</html>"),
    ],
)
def test_what_is_no_image_is_named_by_its_path(tmp_path, job, name, content):
    (tmp_path / "train/Bär 1" / name).write_bytes(content)
    with pytest.raises(SystemExit, match="1 of 2 images cannot be read") as refused:
        prepare_data(job, tmp_path / "out")
    assert f"{tmp_path}/train/Bär 1/{name}: cannot identify an image" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_class_without_images_is_named(tmp_path, job):
    rgb(3, 3).save(tmp_path / "train/bar/2.png")
    with pytest.raises(SystemExit, match=r"expected 2 classes, found 1 \(.*without images Bär 1\)"):
        prepare_data(job, tmp_path / "out")


def test_classes_that_differ_by_case_are_two(tmp_path, job):
    for name in ("cat", "Cat"):
        (tmp_path / "train" / name).mkdir()
        rgb(3, 3).save(tmp_path / "train" / name / "1.png")
    (tmp_path / "train/Bär 1").rmdir()
    split = Split(images=3, folder="train")
    data = job.resolved().training.model_copy(update={"split": split, "classes": 3})
    assert training_images(data, tmp_path).classes == ["bar", "Cat", "cat"]
