"""What TensorBoard is given of a study's curves."""

import os

import pytest
from commands import event_files

HISTORY = "epoch,step,loss,accuracy,learning_rate,images_per_second,seconds,skipped_steps\n"
EPOCHS = "0,5,2.5,0.1,1e-3,99.0,60.0,0\n1,10,2.0,0.2,2e-3,98.0,40,0\n"
VALIDATION = "epoch,step,images,class,distillation,fusion,seconds\n"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two students, one finished and one under way, and one that has not begun."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "results/tiny"
    rows = [f"students,train,{name}/224/seed0,{name * 10},results/tiny/students/{name}-{name * 10}" for name in "abc"]
    rows.append("predictions,predict,p,dddddddddd,results/tiny/predictions/p-dddddddddd")
    for folder in ("students/a-aaaaaaaaaa", "students/b-bbbbbbbbbb.partial"):
        (root / folder).mkdir(parents=True)
        (root / folder / "history.csv").write_text(HISTORY + EPOCHS, encoding="utf-8")
        os.utime(root / folder / "history.csv", (1000, 1000))
    (root / "students/a-aaaaaaaaaa/provenance.json").touch()
    (root / "students/a-aaaaaaaaaa/validation.csv").write_text(f"{VALIDATION}1,10,100,0.7,,,3.0\n", encoding="utf-8")
    (root / "plan.csv").write_text("phase,kind,name,digest,folder\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return root


def test_a_run_has_its_curves_over_steps_and_time(study):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for _again in range(2):
        folders = event_files.write_events(study)
    base = study / "tensorboard/students"
    assert folders == [base / "a/224/seed0-aaaaaaaaaa", base / "b/224/seed0-bbbbbbbbbb"]
    assert [len(list(folder.iterdir())) for folder in folders] == [1, 1]
    read = accumulator.EventAccumulator(str(folders[0]))
    read.Reload()
    losses = [(event.wall_time, event.step, event.value) for event in read.Scalars("training/loss")]
    assert losses == [(960, 5, 2.5), (1000, 10, 2.0)]
    assert [event.step for event in read.Scalars("validation/class")] == [10]
    assert "validation/fusion" not in read.Tags()["scalars"]


def test_a_run_under_way_has_its_curves_although_snakemake_made_its_folder(study):
    pytest.importorskip("tensorboard")
    (study / "students/b-bbbbbbbbbb").mkdir()  # before a job starts, Snakemake makes the folders of what it is to make
    assert study / "tensorboard/students/b/224/seed0-bbbbbbbbbb" in event_files.write_events(study)


def test_a_study_that_was_never_started_is_named(tmp_path):
    with pytest.raises(SystemExit, match=r"plan\.csv is missing"):
        event_files.write_events(tmp_path / "none")
