"""Before the first job of a call of Snakemake: what is refused, told, and written for the jobs."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from call.begin import begin, look_ahead
from plan.lookup import Lookup
from plan.studies import plan_study

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Path:
    """A folder with params/, in which the images' folder is called by a variable that is not set."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    for study in ("smoke", "imagenet"):
        (tmp_path / f"params/{study}-there.yaml").write_text(
            f"extends: {study}\ndata: {{root: '${{NODE_DISK}}/it'}}\n", encoding="utf-8"
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NODE_DISK", raising=False)
    return tmp_path


@pytest.mark.parametrize("study", ["smoke-there", "imagenet-there"])
def test_the_folder_of_the_images_is_left_to_the_jobs(clone, study, monkeypatch):
    roots = {job.execution.data_root for job in plan_study(study).jobs.values()}
    assert roots == {"${NODE_DISK}/it"}
    monkeypatch.setenv("NODE_DISK", str(clone / "disk"))
    if study == "imagenet-there":
        assert {job.execution.data_root for job in plan_study(study).jobs.values()} == roots


def test_a_variable_that_is_not_set_stops_a_study_on_this_machine_only(clone, capsys):
    with pytest.raises(SystemExit, match=r"data.root is \$\{NODE_DISK\}/it, and that variable is not set"):
        begin(Lookup("imagenet-there", main_process=True), jobs=())
    assert not os.path.exists("results/imagenet-there/recipes")
    lookup = Lookup("imagenet-there", main_process=True, elsewhere=True)
    look_ahead(lookup.plan, elsewhere=True)
    begin(lookup, jobs=())
    assert os.path.exists("results/imagenet-there/recipes")
    assert "${NODE_DISK}/it" in capsys.readouterr().err


def test_what_is_there_and_runs_all_the_same_is_marked_as_to_be_made_again(clone):
    lookup = Lookup("imagenet-there", main_process=True, elsewhere=True)
    finished, other = list(lookup.plan.jobs.values())[:2]
    folder = Path(finished.execution.output)
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text('{"files": {}, "seal": "abc"}', encoding="utf-8")
    locks = Path("results/imagenet-there/locks")
    locks.mkdir(parents=True, exist_ok=True)
    (locks / "0123456789.again").touch()
    jobs = [
        SimpleNamespace(wildcards_dict=words) for words in ({"digest": finished.digest}, {"digest": other.digest}, {})
    ]
    begin(lookup, jobs)
    (mark,) = locks.iterdir()
    assert mark.name == f"{finished.digest}.again" and mark.read_text(encoding="utf-8") == "abc"


def test_what_is_forced_and_lacks_its_inputs_is_refused_with_a_remedy_that_works(clone):
    """Snakemake is told of no inputs of what is there, so it would not make a pruned cache before."""
    lookup = Lookup("imagenet-there", main_process=True, elsewhere=True)
    job = next(job for job in lookup.plan.jobs.values() if "teacher-logits" in job.execution.folders)
    folder = Path(job.execution.output)
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text('{"files": {}, "seal": "abc"}', encoding="utf-8")
    jobs = [SimpleNamespace(wildcards_dict={"digest": job.digest})]
    with pytest.raises(SystemExit, match=r"to be made again, and \S+, which it reads, is not here") as refused:
        begin(lookup, jobs)
    assert f"Delete {folder} (rm -r)" in str(refused.value) and not Path("results/imagenet-there/recipes").exists()
    for path in (path for paths in job.execution.folders.values() for path in paths):
        Path(path).mkdir(parents=True)
        Path(path, "provenance.json").write_text('{"files": {}, "seal": "abc"}', encoding="utf-8")
    begin(lookup, jobs)


def test_a_report_is_made_anew_with_a_table_that_was_deleted(clone):
    """Of the report Snakemake is told its inputs, whether it is there or not: it makes the table before."""
    lookup = Lookup("imagenet-there", main_process=True, elsewhere=True)
    (report,) = lookup.plan.of_section("report")
    record = lookup.plan.record_of(report)
    record.parent.mkdir(parents=True)
    record.write_text('{"files": {}, "seal": "abc"}', encoding="utf-8")
    (table,) = [job for job in lookup.plan.of_section("tables") if job.name == "tables/table_3"]
    begin(lookup, [SimpleNamespace(wildcards_dict={"digest": job.digest}) for job in (table, report)])
    assert Path("results/imagenet-there/recipes").exists()


def test_planning_writes_nothing(clone):
    """A dry run plans, too, and so does a look at the DAG."""
    before = sorted(clone.rglob("*"))
    lookup = Lookup("imagenet-there", main_process=True, elsewhere=True)
    look_ahead(lookup.plan, elsewhere=True)
    for section in ("teachers", "released", "tables"):
        lookup.targets(section)(None)
    lookup.report(None)
    assert sorted(clone.rglob("*")) == before
    assert not list(clone.rglob("results"))
