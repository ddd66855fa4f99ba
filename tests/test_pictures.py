"""Pictures: of the very views of the stream, with what the teacher says of them; and of the images that differ."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import synthetic_study as study
import torch
from jobs.report_pictures import Images
from PIL import Image
from tiny_runs import REGNETY, images_of, teacher_net, training_job

from deit.commands import pictures
from deit.networks.recipes import Model
from deit.see.datasets import place_of
from deit.see.views import ViewStream
from deit.store import checkpoints
from deit.store.job import Job
from deit.store.results import Result, new_folder, read_result
from deit.tables.predictions import Inputs
from deit.tables.recipes import Cell
from deit.teach.teacher_logits import load_teacher, logits_of


def pixels(uri: str) -> np.ndarray:
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def trained(folder: Path, job: Job) -> Result:
    """A result with weights, as a training leaves it."""
    with new_folder(folder, job) as partial:
        checkpoints.save_weights(partial / checkpoints.WEIGHTS, teacher_net(job.recipe["model"]).state_dict())
    return read_result(folder)


@pytest.fixture
def runs(tmp_path) -> tuple[Result, Result]:
    """A student and its teacher."""
    jobs = training_job(tmp_path / "images", "token"), training_job(tmp_path / "images", model=REGNETY)
    return trained(tmp_path / "student", jobs[0]), trained(tmp_path / "teacher", jobs[1])


def test_the_views_are_those_of_the_stream_with_the_teachers_answers(runs):
    student, teacher = runs
    recipe, images = student.job.resolved(), images_of(student.job)
    shown = pictures.seen_views(student, teacher, images, 3)
    assert {view.mixed_by for view in shown} == {"mixup", "cutmix"} and len(shown) == 6
    stream = ViewStream(images, recipe.data, recipe.views, recipe.stream_seed)
    net = load_teacher(teacher, Model(**REGNETY), recipe.data, torch.device("cpu"), "fp32")
    keys = dict(pictures.groups_of_each_kind(stream))
    for view, (key, position) in zip(shown, [(key, i) for key in keys for i in range(3)], strict=True):
        views, targets = stream.finish(stream[key], torch.device("cpu"))
        says = logits_of(net, views, "fp32").softmax(1)[position]
        assert view.teacher[0] == (int(says.argmax()), pytest.approx(float(says.max())))
        seen = 255 * (views[position, 0] * recipe.data.std[0] + recipe.data.mean[0])
        assert np.abs(pixels(view.mixed) - seen.clamp(0, 255).numpy()).max() <= 0.51
        assert view.label[0] == (int(targets[position].argmax()), pytest.approx(float(targets[position].max())))
        number = int(stream.shown(0, stream.positions(*key[1:]))[position])
        assert (pixels(view.image) == np.asarray(images.image(number))).all()
        assert 1 <= len(view.label) <= 2 and sum(share for _, share in view.label) > 0.9


def test_classes_have_names_where_the_data_have_some(tmp_path):
    assert pictures.class_names(tmp_path, 2) == ["class 0", "class 1"]
    (tmp_path / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    assert pictures.class_names(tmp_path, 2) == ["cat", "dog"]
    assert pictures.class_names(tmp_path, 3) == ["class 0", "class 1", "class 2"]


class Squares:
    """Of a set: grey squares."""

    def __len__(self) -> int:
        return study.IMAGES

    def image(self, index: int) -> Image.Image:
        return Image.new("L", (400, 300), index % 256)

    def targets(self, index: int) -> tuple[int, ...]:
        return (index % 10,)

    def identity(self, index: int) -> str:
        return str(index)


def test_every_case_of_disagreement_is_counted_and_shown_with_each_answer(tmp_path):
    runs = {f"{name}/labels/16/seed0": {"class": accuracy} for name, accuracy in (("a", 80), ("b", 70), ("c", 75))}
    inputs = Inputs([study.sheet(tmp_path, "all", runs)])
    cells = [Cell(row=run, column="", runs=(run,), evaluation_set="test") for run in runs]
    cases = pictures.differing_images(inputs, cells, Squares(), 4)
    found = {case.right: case.count for case in cases}
    assert found == {
        (True, False, False): 50,
        (True, False, True): 50,
    }  # a worse one is right only where a better one is
    for case in cases:
        assert len(case.shown) == 4
        for image in case.shown:
            assert tuple(answer in image.truth for answer in image.answers) == case.right
            assert pixels(image.image).shape == (96, 128)


def test_images_that_a_run_did_not_learn_from_are_not_shown(tmp_path, runs, capsys):
    student = runs[0]
    split = images_of(student.job).fingerprint()
    shown = Images(str(tmp_path / "images"), [])
    for fingerprint, expected in ((split, True), (split | {"labels": "0" * 32}, False)):
        manifest = {"fingerprints": {place_of(student.job.resolved().data.split): fingerprint}}
        shown.manifests = {student.job.inputs["data"]: manifest}
        assert (shown.learnt(student) is not None) == expected
    assert "No pictures of these images" in capsys.readouterr().out
