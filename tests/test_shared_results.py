"""A result that is there elsewhere is copied, byte for byte checked, and not made again."""

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from call.begin import look_ahead
from plan.lookup import Lookup
from plan.plan import Plan
from plan.shared import plan_copies
from plan.studies import plan_study

from deit.store.copies import copy_result
from deit.store.job import Job
from deit.store.results import new_folder, read_result

ROOT = Path(__file__).resolve().parent.parent
JOB = Job(kind="train", name="students/a/labels/16/seed0", recipe={"seed": 0}, behaviour={})


def finished(folder: Path, job: Job) -> Path:
    with new_folder(folder, job) as partial:
        (partial / "weights.safetensors").write_bytes(b"weights of it")
        (partial / "deep").mkdir()
        (partial / "deep/history.csv").write_text("epoch\n0\n", encoding="utf-8")
    return folder


@pytest.fixture
def there(tmp_path) -> Path:
    return finished(tmp_path / f"results/one/students/a/labels/16/seed0-{JOB.digest}", JOB)


@pytest.fixture
def here(tmp_path) -> Path:
    return tmp_path / f"results/two/students/a/labels/16/seed0-{JOB.digest}"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_copy_is_the_result_and_is_not_reached_by_damage_of_the_other(there, here):
    here.mkdir(parents=True)  # as Snakemake does
    copy_result(there, here, JOB.digest)
    assert contents(here) == contents(there)
    with (there / "weights.safetensors").open("r+b") as file:
        file.write(b"W")
    read_result(here).verify()


def test_a_damaged_result_is_not_copied(there, here):
    (there / "weights.safetensors").write_bytes(b"weights of If")
    with pytest.raises(SystemExit, match=f"{there}/weights.safetensors: damaged"):
        copy_result(there, here, JOB.digest)
    assert not here.exists() and not list(here.parent.iterdir())


def test_a_full_disk_is_one_message_and_leaves_nothing(there, here, monkeypatch):
    def full(source: str, target: str) -> None:
        Path(target).write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device", target)

    monkeypatch.setattr("deit.store.copies.copy_file", full)
    with pytest.raises(SystemExit) as told:
        copy_result(there, here, JOB.digest)
    said = str(told.value)
    assert said.startswith(f"{here}: could not be copied from {there}: [Errno {errno.ENOSPC}] No space left on device")
    assert said.count("Errno") == 1 and said.endswith(". Mend that, and give the snakemake command again.")
    assert not list(here.parent.iterdir())


def test_another_result_is_not_copied(there, here):
    with pytest.raises(SystemExit, match="and 0123456789 was asked for"):
        copy_result(there, here, "0123456789")
    assert not here.exists()


def test_the_launcher_copies_in_place_of_the_command(tmp_path, there, here):
    words = [sys.executable, ROOT / "workflow/jobs/launch.py", "--lock", tmp_path / f"locks/{JOB.digest}"]
    words += ["--finished", here / "provenance.json", "--copy-of", there, "deit.commands.none"]
    environment = {"PYTHONPATH": f"{ROOT}/src:{ROOT}/workflow"}
    told = subprocess.run(words, capture_output=True, encoding="utf-8", env=environment, check=True).stdout
    assert f"{here}: copied from {there}, every file checked." in told
    assert contents(here) == contents(there)


# The plan -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def twin(tmp_path, monkeypatch) -> Plan:
    """The plan of a study whose every result is one of `smoke`, too."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")  # where the images of the small studies are
    (tmp_path / "params/twin.yaml").write_text("extends: smoke\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COMPUTE_AGAIN", raising=False)
    return plan_study("twin")


def student_of(plan: Plan) -> Job:
    return next(job for job in plan.jobs.values() if job.kind == "train" and "teacher" in job.inputs)


def make_elsewhere(job: Job, section: str, study: str = "smoke") -> str:
    folder = Path("results", study, section, f"{job.name.partition('/')[2]}-{job.digest}")
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text(json.dumps({"files": {}, "seal": "abc"}), encoding="utf-8")
    return str(folder)


def test_the_name_of_a_study_is_in_no_costly_jobs_digest(twin):
    costly = {digest for digest, job in twin.jobs.items() if job.kind in ("train", "cache", "predict", "tokens")}
    assert costly and costly <= plan_study("smoke").jobs.keys()


@pytest.mark.parametrize("section", ["students", "teachers"])
def test_what_another_study_has_is_copied_and_needs_nothing(twin, section):
    student = next(job for job in twin.jobs.values() if job.name.startswith("students/") and "teacher" in job.inputs)
    folder = make_elsewhere(student, section)
    assert plan_copies(twin) == 1
    execution = twin.jobs[student.digest].execution
    assert (execution.copy_of, execution.folders, execution.after) == (folder, {}, [])
    assert execution.output == student.execution.output


def test_what_the_study_itself_has_as_a_teacher_is_copied_when_none_learns_from_it_any_more(twin):
    student = student_of(twin)
    folder = make_elsewhere(student, "teachers", "twin")
    assert plan_copies(twin) == 1 and twin.jobs[student.digest].execution.copy_of == folder


def test_all_seeds_of_a_teacher_lie_in_one_folder(tmp_path, twin):
    """Though students of every seed learn from the first."""
    table = "tables: {table_2: {student: deit-ti, teachers: [deit-s, regnety-4gf]}}"
    (tmp_path / "params/twin.yaml").write_text(
        f"extends: smoke\nseeds: {{default: [0, 1]}}\n{table}\n", encoding="utf-8"
    )
    names = [job.name.split("/") for job in plan_study("twin").jobs.values() if job.kind == "train"]
    found = {
        (section, *rest) for section, model, supervision, *rest in names if (model, supervision) == ("deit-s", "labels")
    }
    low = str(twin.study.resolutions.pretraining)
    assert {("teachers", low, "seed0"), ("teachers", low, "seed1")} <= found
    assert {section for section, size, _ in found if size == low} == {"teachers"}


def test_a_cache_that_only_copies_would_read_is_not_made(twin):
    readers = [job for job in twin.jobs.values() if job.execution.folders.get("teacher-logits")]
    for job in readers:
        make_elsewhere(job, job.name.partition("/")[0])
    assert any(job.kind == "cache" for job in twin.unfinished())
    assert plan_copies(twin) == len(readers)
    assert not any(job.kind == "cache" for job in twin.unfinished())


def test_a_copy_asks_for_no_gpu_and_the_dry_run_tells_of_it(twin, capsys):
    student = student_of(twin)
    folder = make_elsewhere(student, student.name.partition("/")[0])
    lookup = Lookup("twin", main_process=True)
    look_ahead(lookup.plan, elsewhere=True)
    assert "1 results of twin are there elsewhere in results/" in capsys.readouterr().err
    job = lookup.job_of(student.digest)
    assert job.execution.copy_of == folder
    wildcards = type("Wildcards", (), {"digest": student.digest})
    assert lookup.inputs(wildcards) == {} and lookup.request(wildcards).gpus == 0


def test_the_switch_computes_all_the_same(twin, monkeypatch):
    student = student_of(twin)
    make_elsewhere(student, student.name.partition("/")[0])
    monkeypatch.setenv("COMPUTE_AGAIN", "yes")
    assert plan_copies(twin) == 0
