"""Trainings that one can watch: rows as they are made, and the accuracy on other images, which changes no bit."""

import csv
import os
import signal
from pathlib import Path

import pytest
import torch
from plan.studies import plan_study
from tiny_runs import CPU, IMAGES, PIXELS, REGNETY, STEPS, run, same, stream_of, teacher_net, training_job
from training_runs import on_two_ranks

from deit.learn import training
from deit.networks.evaluation import accuracy, predict
from deit.networks.models import create, load_weights
from deit.networks.recipes import Validation
from deit.see.views import evaluation_transform
from deit.store.checkpoints import ResumeState, read_weights
from deit.teach.teacher_logits import TeacherInTheLoop

ROOT = Path(__file__).parents[1]


def validation(root, images: int = IMAGES) -> dict:
    """Resources that look at the images of a training, as if they were others."""
    data = training_job(root).resolved().data
    return {
        "validate_epochs": 1,
        "validation": {
            "name": "test",
            "evaluation_set": {"reader": "idx", "split": data.split.model_dump()},
            "view": {"resolution": PIXELS, "crop": 0.9},
            "images": images,
        },
    }


def rows_of(path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", ["token", "convnet"])
def test_watching_changes_no_bit_and_no_name(tmp_path, root, kind, workers):
    """With stochastic depth, and with batch statistics that only a network in training mode moves."""
    changes = {"model": REGNETY, "optimisation": {"optimizer": "sgd"}} if kind == "convnet" else {}
    loss = "labels" if kind == "convnet" else "token"
    teacher = TeacherInTheLoop(teacher_net(REGNETY), "fp32") if loss == "token" else None
    alone = training_job(root, loss, **changes)
    watched = training_job(root, loss, execution={"workers": workers, **validation(root)}, **changes)
    assert watched.digest == alone.digest
    assert same(run(watched, tmp_path / "watched", teacher), run(alone, tmp_path / "alone", teacher))
    assert not (tmp_path / "alone/validation.csv").exists()


def test_two_processes_are_watched_by_the_first_and_end_as_unwatched(tmp_path, root):
    # Made before the two are forked: a job's images are written with it, and one would read what the other writes.
    jobs = {name: training_job(root, execution=execution) for name, execution in
            {"watched": validation(root), "alone": {}}.items()}  # fmt: skip

    def work(place):
        for name, job in jobs.items():
            run(job, tmp_path / name, place=place)

    assert on_two_ranks(tmp_path, work) == ["", ""]
    assert len(rows_of(tmp_path / "watched/validation.csv")) == 2
    weights = [read_weights(tmp_path / name / "weights.safetensors") for name in ("watched", "alone")]
    assert same(*weights)


def test_the_last_row_is_the_accuracy_that_predictions_have(tmp_path, root):
    teacher = TeacherInTheLoop(teacher_net(REGNETY), "fp32")
    job = training_job(root, "token", execution=validation(root))
    run(job, tmp_path / "run", teacher)
    first, last = rows_of(tmp_path / "run/validation.csv")
    assert (first["epoch"], last["epoch"], last["step"], last["images"]) == ("0", "1", str(2 * STEPS), str(IMAGES))
    recipe = job.resolved()
    net = create(recipe.model)
    load_weights(net, read_weights(tmp_path / "run/weights.safetensors"))
    transform = evaluation_transform(recipe.data, Validation.model_validate(job.execution.validation).view)
    images = stream_of(job).images
    said = predict({"run": net}, images, transform, precision="fp32", device=torch.device("cpu"))["run"]
    for how in ("class", "distillation", "fusion"):
        assert float(last[how]) == accuracy(said, how)


def test_a_look_draws_nothing_and_leaves_the_mode(root, tmp_path):
    job = training_job(root, execution=validation(root, images=7))
    one = training.set_up(job, stream_of(job), ResumeState(tmp_path, job.digest), CPU, None, None)
    before = torch.random.get_rng_state()
    assert one.validator.accuracies(one.net)["images"] == 7
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(module.training for module in one.net.modules())


def test_rows_are_there_while_a_run_is_trained_and_after_it_was_resumed(tmp_path, root, monkeypatch, caplog):
    caplog.set_level("INFO", "deit")
    job = training_job(root, execution=validation(root))
    inner, seen = training.take_steps, []

    def take_steps(*arguments):
        inner(*arguments)
        folder = tmp_path / "run.partial"
        names = [name for name in ("history.csv", "validation.csv") if (folder / name).exists()]
        seen.append({name: len(rows_of(folder / name)) for name in names})
        if len(seen) == STEPS + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(training, "take_steps", take_steps)
    with pytest.raises(SystemExit):
        run(job, tmp_path / "run")
    assert seen[STEPS - 2] == {"history.csv": 0}
    assert seen[STEPS - 1] == seen[STEPS] == {"history.csv": 1, "validation.csv": 1}
    run(job, tmp_path / "run")
    assert seen[STEPS + 1] == {"history.csv": 1, "validation.csv": 1}
    for name in ("history.csv", "validation.csv"):
        assert [row["epoch"] for row in rows_of(tmp_path / "run" / name)] == ["0", "1"]
    assert "validation accuracy class" in (tmp_path / "run/log.txt").read_text(encoding="utf-8")


def test_missing_images_are_named_before_the_first_step(tmp_path, root):
    execution = validation(root)
    execution["validation"]["evaluation_set"]["split"]["files"] = {"images": "none.gz", "labels": "none.gz"}
    with pytest.raises(SystemExit, match=r"none\.gz: missing.*data\.evaluation\.test"):
        run(training_job(root, execution=execution), tmp_path / "run")


@pytest.mark.parametrize(("study", "name"), [("fashion", "test"), ("fashion-validation", "held_out")])
def test_a_study_watches_held_out_images_or_the_primary_set(tmp_path, monkeypatch, study, name):
    monkeypatch.chdir(ROOT)
    (tmp_path / "watched.yaml").write_text(
        f"extends: {study}\nexecution: {{students: {{validate_epochs: 2}}}}\n", encoding="utf-8"
    )
    for file in ("fashion.yaml", "fashion-validation.yaml"):
        (tmp_path / file).write_text((ROOT / "params" / file).read_text(encoding="utf-8"), encoding="utf-8")
    plan = plan_study("watched", tmp_path)
    watched = [job for job in plan.of_section("students") if job.execution.validation]
    assert watched and all(job.execution.validation["name"] == name for job in watched)
    assert all(job.execution.validation["view"]["resolution"] == job.recipe["views"]["resolution"] for job in watched)
    assert not any(job.execution.validation for job in plan.of_section("adapted", "finetuned"))
    trained = [job.digest for job in plan_study(study, tmp_path).jobs.values() if job.kind == "train"]
    assert [job.digest for job in plan.jobs.values() if job.kind == "train"] == trained
