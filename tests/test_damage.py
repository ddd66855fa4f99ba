"""No damaged file of a result is ever used: every kind of result, each of its readers, each file that is read.

The matrix is made from the plan: a new kind of result, or a new reader of one, fails the first test until its files are
named here. Each case damages one file of the finished smoke study, or of a study that takes networks of it for
published ones, and runs the job that reads it.
"""

import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from plan.plan import Plan
from plan.studies import plan_study
from smoke_study import MAIN, run_command

from deit.store.job import Job, JobRecipe
from deit.store.results import read_result

pytestmark = pytest.mark.pipeline

# What a reader takes from a result, beside recipe.json and provenance.json, which all look at. Epochs are numbered.
READ = {
    ("data", "views"): ["manifest.json"],
    ("data", "train"): ["manifest.json"],
    ("data", "cache"): ["manifest.json"],
    ("data", "predict"): ["manifest.json"],
    ("data", "tokens"): ["manifest.json"],
    ("data", "report"): ["manifest.json"],
    ("views", "train"): ["manifest.json", "pixels-0000.npy", "noise-0000.bin"],
    ("views", "cache"): ["manifest.json", "labels-0000.npy", "mixing-0000.npy"],
    ("train", "train"): ["weights.safetensors"],
    ("train", "cache"): ["weights.safetensors"],
    ("train", "predict"): ["weights.safetensors"],
    ("train", "tokens"): ["weights.safetensors"],
    ("train", "report"): ["history.csv"],
    ("import", "predict"): ["weights.safetensors"],
    ("import", "tokens"): ["weights.safetensors"],
    ("import", "report"): ["source.json"],
    ("cache", "train"): ["manifest.json", "epoch-0000.npy"],
    ("predict", "table"): ["*/test.parquet"],
    ("throughput", "table"): ["throughput.csv"],
    ("networks", "table"): ["networks.csv"],
    ("networks", "report"): ["networks.csv"],
    ("tokens", "table"): ["tokens.json"],
    ("predict", "report"): ["*/test.parquet"],
    ("throughput", "report"): ["throughput.csv"],
    ("tokens", "report"): ["tokens.json"],
    ("table", "report"): ["notes.json", "*.csv", "*.html"],
}
ALWAYS = ["recipe.json", "provenance.json"]


def flip(path: Path, other: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "a byte flipped": flip,
    "cut in half": lambda path, other: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path, other: path.write_bytes(b""),
    "another run's": lambda path, other: shutil.copyfile(other, path),
}


@pytest.fixture(scope="module")
def plan(project) -> Plan:
    """The jobs of both studies, which are finished."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        plan = plan_study("smoke")
        Path("params/taken.yaml").write_text(yaml.safe_dump(published_study(plan)), encoding="utf-8")
        published = plan_study("taken")
        published.write({})
        for job in published.jobs.values():
            if job.kind != "report":
                run_command(published, job)
        plan.jobs |= {job.execution.output: job for job in published.jobs.values()}  # by folder: each has its own
        return plan


def published_study(plan: Plan) -> dict:
    """The tables of two students of a finished study, whose weights are taken for published ones."""
    students = {run: plan.jobs[digest].execution.output for run, digest in plan.runs.items() if run.model == "deit-ti"}
    low = plan.study.resolutions.pretraining
    weights = {
        f"{run.model}/{run.supervision}/{run.resolution}": {
            "file": f"{folder}/weights.safetensors",
            "sha256": read_result(Path(folder)).sha256["weights.safetensors"],
        }
        for run, folder in students.items()
        if run.supervision in ("labels", "token") and run.resolution == low
    }
    tables = dict.fromkeys(("table_1", "table_2", "table_4", "table_5", "accuracy_throughput"))
    tables["token_analysis"] = {"control": []}
    return {
        "extends": "smoke",
        "released": {"source": "files", "root": ".", "weights": weights},
        "tables": tables,
    }


def readings(plan: Plan) -> dict[tuple[str, str], list[tuple[Job, Job]]]:
    """(kind, kind of its reader) -> every result and its reader."""
    makers = {job.execution.output: job for job in plan.jobs.values()}
    pairs: dict[tuple[str, str], list[tuple[Job, Job]]] = {}
    for reader in plan.jobs.values():
        for folders in reader.execution.folders.values():
            for maker in map(makers.get, folders):
                pairs.setdefault((maker.kind, reader.kind), []).append((maker, reader))
    return pairs


def test_every_kind_and_every_reader_is_in_the_matrix(plan):
    assert set(readings(plan)) == set(READ)
    results = set(JobRecipe.kinds) - {"pass"}  # whose folder says how its runs ended, and is no result that a job reads
    assert {kind for pair in READ for kind in pair} == results


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(
    ("kinds", "name"), [(kinds, name) for kinds in READ for name in [*ALWAYS, *READ[kinds]]], ids=str
)
def test_damage_is_found_before_use(project, plan, monkeypatch, tmp_path, kinds, name, how):
    monkeypatch.chdir(project)
    pairs = readings(plan)[kinds]
    maker, reader = pairs[0]
    path = sorted(Path(maker.execution.output).glob(f"**/{name}" if "*" in name else name))[0]
    others = [job for job in plan.jobs.values() if job.kind == maker.kind and job.digest != maker.digest]
    others_files = (each for job in others for each in Path(job.execution.output).glob(f"**/{path.name}"))
    other = next(others_files, None)
    if how == "another run's" and (other is None or other.read_bytes() == path.read_bytes()):
        pytest.skip("no other result of this kind has such a file")
    before = path.read_bytes()
    DAMAGE[how](path, other)
    try:
        message = refusal(reader, tmp_path, monkeypatch)
    finally:
        path.write_bytes(before)
    named = rf"{re.escape(maker.execution.output)}/\S+: .*damaged"
    if how == "another run's" and name == "recipe.json" or how != "another run's":
        named = rf"{re.escape(str(path))}: .*damaged"
    assert re.search(named, message), message
    assert re.search(r"(delete|Delete|again)", message), message
    assert not (tmp_path / "output/provenance.json").exists() and not list(tmp_path.glob("output/provenance-*"))


@pytest.mark.parametrize("kinds", READ, ids=str)
def test_a_whole_folder_of_another_result_is_found_before_use(project, plan, monkeypatch, tmp_path, kinds):
    """Each file is whole, and sealed: a folder was copied over another, or two were swapped."""
    monkeypatch.chdir(project)
    maker, reader = readings(plan)[kinds][0]
    others = [job for job in plan.jobs.values() if job.kind != "report" and job.digest != maker.digest]
    other = min(others, key=lambda job: job.kind != maker.kind)
    folder, aside = Path(maker.execution.output), tmp_path / "aside"
    shutil.move(folder, aside)
    shutil.copytree(other.execution.output, folder)
    try:
        message = refusal(reader, tmp_path, monkeypatch)
    finally:
        shutil.rmtree(folder)
        shutil.move(aside, folder)
    assert message.startswith(f"{folder}: damaged: it holds {other.name} ({other.digest})"), message
    assert f"Delete {folder} (rm -r)" in message
    assert not (tmp_path / "output/provenance.json").exists() and not list(tmp_path.glob("output/provenance-*"))


def refusal(reader: Job, folder: Path, monkeypatch) -> str:
    """What the command of a job says when it ends with a message."""
    flags = [word for role, paths in reader.execution.folders.items() for word in (f"--{role}", *paths)]
    if reader.kind == "train":
        flags += ["--resume", str(folder / "resume")]
    study = Path(reader.execution.output).parts[1]
    words = ["--recipe", f"results/{study}/recipes/{reader.digest}.json", *flags, "--output", str(folder / "output")]
    monkeypatch.setattr(sys, "argv", [reader.kind, *words])
    with pytest.raises(SystemExit) as error:
        import_module(MAIN[reader.kind]).main()
    return str(error.value)
