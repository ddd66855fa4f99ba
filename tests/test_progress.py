"""What `python workflow progress` says of a study, by its files."""

import pytest
from commands import progress
from jobs import run_lock

from deit.store.history import epoch_line, validation_line

HEADER = "phase,kind,name,digest,folder\n"
EPOCH = "epoch 3/30  loss 2.1  accuracy on mixed views 9.00 %  learning rate 1e-2  99 im/s  1 h 2 min 3 s left\n"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Four students: finished, training here, failed, and not started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "slurm_jobs", dict)
    root = tmp_path / "results/tiny"
    rows = [("students", "train", name, name * 10, f"results/tiny/students/{name}-{name * 10}") for name in "abcd"]
    (root / "logs/students").mkdir(parents=True)
    (root / "plan.csv").write_text(HEADER + "\n".join(",".join(row) for row in rows), encoding="utf-8")
    (root / "students/a-aaaaaaaaaa").mkdir(parents=True)
    (root / "students/a-aaaaaaaaaa/provenance.json").touch()
    (root / "logs/students/b-bbbbbbbbbb.log").write_text(EPOCH, encoding="utf-8")
    assert run_lock.take(root / "locks/bbbbbbbbbb")
    (root / "logs/students/c-cccccccccc.log").write_text("FloatingPointError: epoch 2\n", encoding="utf-8")
    return root


def test_running_failed_and_waiting_are_told_apart(study):
    head, failed, *_, running = "\n".join(progress.report("tiny")).split("\n")
    assert head == "tiny: 4 jobs, 1 finished, 1 failed, 1 running, 1 waiting"
    assert "failed  students/c" in failed and "FloatingPointError" in "\n".join(progress.report("tiny"))
    assert "running  students/b" in running
    assert "epoch 3/30, loss 2.1, accuracy on mixed views 9.00 %, 1 h 2 min 3 s left" in running


def test_the_log_of_a_run_that_a_pass_trains_is_in_its_own_folder(study):
    partial = study / "students/d-dddddddddd.partial"
    partial.mkdir()
    look = "epoch 3/30  validation accuracy class 71.20 %, fusion 72.00 %  on 5000 images\n"
    (partial / "log.txt").write_text(f"2030-01-01 00:00:00 {EPOCH}2030-01-01 00:00:09 {look}", encoding="utf-8")
    assert run_lock.take(study / "locks/dddddddddd")
    told = next(line for line in progress.report("tiny") if "students/d" in line)
    assert "  running  students/d" in told
    assert ", validation accuracy class 71.20 %, fusion 72.00 %, 1 h 2 min 3 s left" in told


def test_a_report_that_is_being_written_is_running(study):
    """All reports of a study have one lock."""
    with (study / "plan.csv").open("a", encoding="utf-8") as file:
        file.write("\nreport,report,report,eeeeeeeeee,results/tiny/report-eeeeeeeeee")
    (study / "logs/report-eeeeeeeeee.log").write_text("half of it\n", encoding="utf-8")
    assert any(line.startswith("  failed  report") for line in progress.report("tiny"))
    assert run_lock.take(study / "locks/report")
    assert any(line.startswith("  running  report") for line in progress.report("tiny"))


def test_lines_that_trainings_log_are_understood():
    row = {"epoch": 2, "loss": 2.1, "accuracy": 0.09, "learning_rate": 0.01, "images_per_second": 99.0}
    line = epoch_line(({**row, "seconds": 60.0, "skipped_steps": 1},), 0, 30)
    look = validation_line({"epoch": 2, "images": 10, "class": 0.7}, 30)
    told = "epoch 3/30, loss 2.1000, accuracy on mixed views 9.00 %, validation accuracy class 70.00 %"
    assert progress.latest(f"{line}\n{look}\n") == f"{told}, 0 h 27 min 0 s left"


def test_slurm_knows_of_jobs_that_left_no_log(study, monkeypatch):
    monkeypatch.setattr(progress, "slurm_jobs", lambda: {"dddddddddd": "queued job 7: Resources"})
    assert "  queued  students/d  job 7: Resources" in list(progress.report("tiny"))


def test_slurms_lines_are_understood(tmp_path, monkeypatch):
    lines = [
        "RUNNING|5|n1|10:00|1-00:00:00|rule_finetune_wildcards_tiny_x_aaaaaaaaaa",
        "PENDING|6|(Resources)|0:00|30:00|rule_predict_wildcards_tiny_y_bbbbbbbbbb",
    ]
    script = tmp_path / "squeue"
    script.write_text("#!/bin/sh\ncat <<'END'\n" + "\n".join(lines) + "\nEND\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert progress.slurm_jobs() == {
        "aaaaaaaaaa": "running job 5: n1, 10:00 of 1-00:00:00",
        "bbbbbbbbbb": "queued job 6: Resources",
    }
