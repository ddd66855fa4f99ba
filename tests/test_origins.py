"""Results of images that were exchanged, under the names of those that are there now."""

from pathlib import Path

import pytest

from deit.store.job import Job
from deit.store.results import new_folder, read_result


def job(name: str, **folders: Path) -> Job:
    given = {flag.replace("_", "-"): [str(folder)] for flag, folder in folders.items()}
    return Job(kind="train", name=name, recipe={"of": name}, behaviour={}, execution={"folders": given})


def made(folder: Path, own: Job, **files: str) -> Path:
    with new_folder(folder, own) as partial:
        for name, text in files.items():
            (partial / f"{name}.json").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def data(tmp_path) -> Path:
    return made(tmp_path / "training", job("data"), manifest="of the first images")


@pytest.fixture
def views(tmp_path, data) -> Path:
    return made(tmp_path / "views", job("views", data=data), manifest="of views")


def exchange(data: Path) -> None:
    made(data, job("data"), manifest="of other images")


def test_a_result_tells_of_the_images_behind_it(tmp_path, data, views):
    student = made(tmp_path / "student", job("student", data=data, views=views))
    sheet = made(tmp_path / "sheet", job("sheet", runs=student))
    images = {data.name: read_result(data).sha256["manifest.json"]}
    assert [read_result(each).record["images"] for each in (views, student, sheet)] == [images] * 3
    assert "images" not in read_result(data).record


def test_what_was_made_from_other_images_is_refused_by_its_folder(tmp_path, data, views):
    old = made(tmp_path / "old", job("old", data=data, views=views))
    exchange(data)
    with pytest.raises(
        SystemExit, match=rf"^{views}: was made from other images than those of {data}\. .*rm -r {views},"
    ):
        made(tmp_path / "student", job("student", views=views, data=data))
    new = made(tmp_path / "new", job("new", data=data))
    with pytest.raises(SystemExit, match="was made from other images than those of"):
        made(tmp_path / "sheet", job("sheet", runs=old, others=new))


def test_images_that_are_listed_again_and_are_the_same_are_no_others(tmp_path, data, views):
    made(data, job("data"), manifest="of the first images", another="file")
    made(tmp_path / "student", job("student", views=views, data=data))


def test_what_is_half_made_is_not_gone_on_with_after_an_exchange(tmp_path, data):
    own, output = job("views", data=data), tmp_path / "views"
    with pytest.raises(KeyboardInterrupt), new_folder(output, own, keep=True) as partial:
        (partial / "pixels-0000.npy").write_bytes(b"half")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), new_folder(output, own, keep=True):
        raise KeyboardInterrupt
    exchange(data)
    with (
        pytest.raises(SystemExit, match=rf"^{output}\.partial: was begun with other images .*rm -r {output}\.partial,"),
        new_folder(output, own, keep=True),
    ):
        pass
