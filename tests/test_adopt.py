"""Which results a change of code lets adopt, and what stays written of it."""

import errno
import json
import os
import shutil
import sys
from functools import cache
from pathlib import Path

import pytest
from commands import adopt, keep
from jobs import run_lock
from plan import plan as plan_module
from plan.plan import Plan
from plan.studies import plan_study

from deit.store.checkpoints import ResumeState
from deit.store.job import Job
from deit.store.reach import Code, Made, our_code
from deit.store.results import read_adopted, read_result, write_provenance

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def edit_of(monkeypatch):
    """Makes the named file behave otherwise, for plans from now on."""

    def edit(file: str, digest: str = "another") -> None:
        monkeypatch.setattr(plan_module, "our_code", lambda: edited_code(file, digest))

    return edit


@cache
def edited_code(file: str, digest: str) -> Code:
    """Our code, but for one file that computes something else."""

    class Edited(Code):
        def made_by(self, roots) -> Made:
            made = our_code().made_by(roots)
            if file not in made.behaviour:
                return made
            return Made(made.roots, made.code + digest, made.behaviour | {file: digest})

    return Edited()


@pytest.fixture
def before(tmp_path, monkeypatch) -> Plan:
    """A finished smoke study: its folders with their recipes, the rest left out."""
    monkeypatch.chdir(tmp_path)
    plan = study()
    plan.write({})
    for job in plan.jobs.values():
        if job.kind != "report":
            finish(job)
    return plan


def study() -> Plan:
    return plan_study("smoke", ROOT / "params")


@pytest.fixture(autouse=True)
def images(monkeypatch):
    """Params name the images by a path from the project's root."""
    monkeypatch.setattr("study.params.file_problems", lambda study: iter(()))


def finish(job: Job) -> Path:
    folder = Path(job.execution.output)
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(job.model_dump_json(), encoding="utf-8")
    (folder / "log.txt").write_text("trained\n", encoding="utf-8")
    write_provenance(folder, {"git_commit": "abc123-dirty", "finished": "2026-11-24T10:00:00Z"})
    return folder


def named(found: list) -> set[str]:
    return {adoption.after.name for adoption in found}


def test_without_an_edit_there_is_nothing_to_adopt(before):
    assert not list(adopt.adoptions(study(), ["*"]))


def test_all_results_of_an_edited_file_can_be_adopted_and_then_only_tables_are_missing(before, edit_of):
    edit_of("src/deit/learn/objectives/labels.py")
    plan = study()
    missing = plan.unfinished()
    found = list(adopt.adoptions(plan, ["*"]))
    assert named(found) == {job.name for job in missing if job.kind not in ("table", "report")}
    assert all(
        adoption.edited == ["src/deit/learn/objectives/labels.py"]
        for adoption in found
        if adoption.after.kind == "train"
    )
    for adoption in found:
        adopt.adopt(adoption, "half is half")
    assert {job.kind for job in plan.unfinished()} == {"table", "report"}
    for job in plan.jobs.values():
        if job.kind in ("train", "predict"):
            folder = Path(job.execution.output)
            assert Job.model_validate_json((folder / "recipe.json").read_text(encoding="utf-8")).digest == job.digest
            (entry,) = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["adopted"]
            assert entry["to"] == job.digest and entry["from"] in before.jobs and entry["because"] == "half is half"
            assert (folder / "log.txt").read_text(encoding="utf-8") == "trained\n"
    edit_of("none")
    assert not study().unfinished() or {job.kind for job in study().unfinished()} == {"report"}, "taken back"


def test_only_what_is_named_is_adopted_and_its_users_can_follow_later(before, edit_of):
    edit_of("src/deit/learn/objectives/labels.py")
    plan = study()
    (one,) = adopt.adoptions(plan, ["teachers/regnety-4gf/*"])
    adopt.adopt(one, "the same")
    student = ["students/deit-b/hard-from-regnety-4gf/*"]
    (two,) = adopt.adoptions(plan, student)
    assert two.before.inputs["teacher"] == one.before.digest and two.after.inputs["teacher"] == one.after.digest
    assert not list(adopt.adoptions(plan, ["students/deit-b/hard-from-regnety-16gf/*"])), "its teacher is new"


def test_a_run_that_another_study_is_given_takes_that_study_along(before, edit_of, tmp_path):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    weights = "{study: smoke, run: regnety-16gf/labels/15/seed0}"
    taught = f"extends: smoke\nmodels: {{regnety-16gf: {{weights: {weights}}}}}\n"
    (tmp_path / "params/taught.yaml").write_text(taught, encoding="utf-8")
    for job in plan_study("taught", tmp_path / "params").jobs.values():
        if job.kind not in ("report", "table"):
            finish(job)
    edit_of("src/deit/learn/objectives/labels.py")
    for plan in (study(), plan_study("taught", tmp_path / "params")):
        found = list(adopt.adoptions(plan, ["*"]))
        for adoption in found:
            adopt.adopt(adoption, "the same")
    assert {"import", "cache", "train"} <= {adoption.after.kind for adoption in found}
    assert {job.kind for job in plan.unfinished()} == {"table", "report"}


def test_another_recipe_or_other_inputs_are_never_adopted(before, edit_of):
    edit_of("src/deit/learn/objectives/labels.py")
    plan = study()
    student = next(job for job in before.jobs.values() if job.name.startswith("students/deit-s/labels"))
    path = Path(student.execution.output) / "recipe.json"
    path.write_text(
        student.model_copy(update={"recipe": student.recipe | {"seed": 9}}).model_dump_json(), encoding="utf-8"
    )
    assert not list(adopt.adoptions(plan, [student.name]))
    path.write_text(student.model_copy(update={"inputs": {"data": "0123456789"}}).model_dump_json(), encoding="utf-8")
    assert not list(adopt.adoptions(plan, [student.name]))


def test_a_result_of_a_version_that_did_not_know_an_option_is_adopted_where_it_is_not_used(before, edit_of):
    for job in before.of_section("students"):
        path = Path(job.execution.output, "recipe.json")
        written = json.loads(path.read_text(encoding="utf-8"))
        del written["recipe"]["model"]["uniform_stochastic_depth"]
        path.write_text(json.dumps(written), encoding="utf-8")
    edit_of("src/deit/learn/training.py")
    plan = study()
    assert {job.name for job in plan.of_section("students")} <= named(list(adopt.adoptions(plan, ["*"])))


def test_an_adoption_stopped_half_way_goes_on(before, edit_of, monkeypatch):
    edit_of("src/deit/learn/objectives/labels.py")
    plan = study()
    (one,) = adopt.adoptions(plan, ["teachers/regnety-4gf/*"])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopped)
        with pytest.raises(KeyboardInterrupt):
            adopt.adopt(one, "the same")
    (again,) = adopt.adoptions(plan, ["teachers/regnety-4gf/*"])
    adopt.adopt(again, "the same")
    record = json.loads((Path(one.after.execution.output) / "provenance.json").read_text(encoding="utf-8"))
    assert [entry["from"] for entry in record["adopted"]] == [one.before.digest]


def stopped(self, target):
    raise KeyboardInterrupt


def test_a_damaged_result_is_not_adopted(before, edit_of):
    edit_of("src/deit/learn/objectives/labels.py")
    (one,) = adopt.adoptions(study(), ["teachers/regnety-4gf/*"])
    (one.folder / "log.txt").write_text("trained?\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"log\.txt: damaged"):
        adopt.adopt(one, "the same")
    assert not Path(one.after.execution.output).exists()


def test_an_adopted_result_is_sealed_as_any(before, edit_of):
    edit_of("src/deit/learn/objectives/labels.py")
    (one,) = adopt.adoptions(study(), ["teachers/regnety-4gf/*"])
    adopt.adopt(one, "the same")
    for folder, job in ((one.folder, one.before), (Path(one.after.execution.output), one.after)):
        result = read_result(folder)
        result.verify()
        assert result.job.digest == job.digest


def test_where_no_link_can_be_made_files_are_copied(before, edit_of, monkeypatch):
    """On a file system that has none, or of a file of somebody else's."""
    edit_of("src/deit/learn/objectives/labels.py")
    (one,) = adopt.adoptions(study(), ["teachers/regnety-4gf/*"])

    def refused(source: str, target: str) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), source)

    monkeypatch.setattr("os.link", refused)
    adopt.adopt(one, "the same")
    read_result(Path(one.after.execution.output)).verify()


def test_a_training_under_way_goes_on_from_its_state_and_its_result_tells(before, edit_of):
    student = next(job for job in before.jobs.values() if job.name.startswith("students/deit-s/labels"))
    Path(student.execution.output).rename("elsewhere")
    ResumeState(Path("results/smoke/resume") / student.digest, student.digest).save({"step": 3})
    for digest in ("another", "a third"):
        edit_of("src/deit/learn/objectives/labels.py", digest)
        study().write({})
        (one,) = adopt.adoptions(study(), [student.name])
        assert not one.record and "under way" in "\n".join(adopt.listing([one]))
        adopt.adopt(one, "the same")
    state = ResumeState(Path("results/smoke/resume") / one.after.digest, one.after.digest)
    assert state.load() == {"step": 3}
    record = read_adopted(state.folder)
    assert [entry["from"] for entry in record] == [student.digest, one.before.digest]


def test_a_state_of_todays_own_name_is_not_replaced(before, edit_of):
    student = next(job for job in before.jobs.values() if job.name.startswith("students/deit-s/labels"))
    Path(student.execution.output).rename("elsewhere")
    ResumeState(Path("results/smoke/resume") / student.digest, student.digest).save({"step": 50})
    edit_of("src/deit/learn/objectives/labels.py")
    (after,) = (job for job in study().jobs.values() if job.name == student.name)
    ResumeState(Path("results/smoke/resume") / after.digest, after.digest).save({"step": 2000})
    assert not list(adopt.adoptions(study(), [student.name]))


def test_a_study_with_a_living_training_is_left_alone(before):
    lock = Path("results/smoke/locks/0123456789")
    assert run_lock.take(lock)
    with pytest.raises(SystemExit, match="process .* is at work: let it end"):
        keep.refuse_beside_jobs("smoke")


def test_results_of_a_version_that_wrote_other_recipes_are_passed_over(before, edit_of):
    folder = Path("results/smoke/students/old-0123456789")
    folder.mkdir()
    (folder / "recipe.json").write_text('{"behaviour": "text"}', encoding="utf-8")
    (folder / "provenance.json").write_text("{}", encoding="utf-8")
    edit_of("src/deit/learn/objectives/labels.py")
    assert list(adopt.adoptions(study(), ["teachers/*"]))


def test_the_command_lists_first_and_adopts_with_a_reason(before, edit_of, monkeypatch, capsys):
    edit_of("src/deit/learn/objectives/labels.py")
    monkeypatch.setattr(adopt, "chosen_plan", lambda name: study())
    monkeypatch.setattr(sys, "argv", ["adopt.py", "--only", "teachers/*"])
    adopt.main()
    text = capsys.readouterr().out
    assert "git diff abc123 -- src/deit/learn/objectives/labels.py" in text and "Nothing was adopted yet" in text
    assert not any(Path(job.execution.output).exists() for job in study().of_section("teachers"))
    monkeypatch.setattr(sys, "argv", ["adopt.py", "--only", "teachers/*", "--because", "the same"])
    Path(".snakemake/locks").mkdir(parents=True)
    (Path(".snakemake/locks") / "0.input.lock").touch()
    with pytest.raises(SystemExit, match="Snakemake is running"):
        adopt.main()
    (Path(".snakemake/locks") / "0.input.lock").unlink()
    adopt.main()
    assert all(Path(job.execution.output).exists() for job in study().of_section("teachers"))
