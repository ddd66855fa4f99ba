"""params/cifar10.yaml: its files are the official ones, and a small copy of them goes through its whole DAG."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cifar_files import FOLDER, declaration, write_cifar
from in_process import working_in
from plan.plan import Plan
from plan.studies import plan_study
from smoke_study import ENVIRONMENT, run_command
from study.params import ParamsError, load_study
from torchvision.datasets import CIFAR10

from deit.store.frames import read_frame
from deit.store.results import read_result
from deit.tables.cells import KEYS

pytestmark = pytest.mark.pipeline
ROOT = Path(__file__).resolve().parent.parent
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
IMAGES = 24
SMALL = {
    "extends": "cifar10",
    "students": {"batch": 12, "mix_group": 6, "epoch_views": 24, "epochs": 2, "warmup_epochs": 1},
    "teachers": {"batch": 12, "mix_group": 6, "epoch_views": 24, "epochs": 1, "warmup_epochs": 0},
    "adaptation": {"batch": 12, "mix_group": 6, "epoch_views": 12, "epochs": 1},
    "finetuning": {"batch": 12, "mix_group": 6, "epoch_views": 12, "epochs": 1, "warmup_epochs": 0},
    "throughput": {"batch": 2, "repeats": 2},
    "seeds": {"models": {"deit-ti": [0]}},
    "tables": {
        "table_1": None,
        "table_2": None,
        "table_3": {
            "teacher": "regnety-4gf",
            "students": ["deit-ti"],
            "finetuned": ["deit-ti"],
            "rows": {"soft": None, "hard": None},
        },
        "table_4": None,
        "table_5": None,
        "scratch": None,
        "token_analysis": None,
        "accuracy_throughput": None,
    },
    "execution": {
        phase: {"gpus": 0, "workers": 0, "mem_mb": 2000}
        for phase in ("default", "teachers", "students", "adaptation", "finetuning", "teacher_logits")
    }
    | {"passes": None},
}
"""The study itself, its networks included, but for its numbers of views and runs, and the place of the jobs."""
ON_ONE_GPU = {
    key: SMALL[key] for key in ("students", "teachers", "adaptation", "finetuning", "throughput", "execution")
}
ON_ONE_GPU |= {"extends": "cifar10-gpu", "seeds": {"default": [0]}, "tables": {"token_analysis": {"images": 12}}}


def layer(root: Path) -> dict:
    """The study on the small copy below `root`: its counts and checksums in place of the official ones."""
    training = {"images": 5 * IMAGES, "md5": declaration(root, BATCHES)["md5"]}
    test = {"split": {"images": IMAGES, "md5": declaration(root, ["test_batch"])["md5"]}}
    return {"data": {"training": training, "evaluation": {"test": test, "corrupted": test}}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The working folder of the project, with a small copy of the images."""
    folder = tmp_path_factory.mktemp("cifar")
    write_cifar(folder / "images", IMAGES)
    for name in ("Snakefile", "workflow", "src", "local"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "params", folder / "params")
    for name, study in (("small", SMALL), ("on-one-gpu", ON_ONE_GPU)):
        text = yaml.safe_dump(study | layer(folder / "images"))
        (folder / f"params/{name}.yaml").write_text(text, encoding="utf-8")
    with working_in(folder) as patch:
        patch.setenv("CIFAR10", str(folder / "images"))
        patch.setenv("PYTHONPATH", str(ROOT / "src"))
        yield folder


def snakemake(folder: Path, study: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", "--profile", "local", "--config", f"study={study}", *arguments]
    environment = ENVIRONMENT | {name: os.environ[name] for name in ("CIFAR10", "PYTHONPATH")}
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", env=environment)


@pytest.fixture(scope="module")
def study(place) -> Plan:
    """The plan, after all of its jobs but the report: the images through Snakemake, all else in this process."""
    return run_all_but_the_report(place, "small")


def run_all_but_the_report(place: Path, study: str) -> Plan:
    plan = plan_study(study)
    run = snakemake(place, study, "--", *(f"{job.execution.output}/manifest.json" for job in plan.of_section("data")))
    assert run.returncode == 0, run.stdout + run.stderr
    for job in plan.jobs.values():
        if job.kind not in ("data", "report"):
            run_command(plan, job)
    return plan


# The params -----------------------------------------------------------------------------------------------------------


def test_files_and_checksums_are_the_official_ones():
    data = load_study("cifar10", ROOT / "params").data
    for split, official in (
        (data.training, CIFAR10.train_list),
        (data.evaluation["test"].split, CIFAR10.test_list),
        (data.evaluation["corrupted"].split, CIFAR10.test_list),
    ):
        parts = sorted(split.files)
        assert [[split.files[part], split.md5[part]] for part in parts] == [
            [f"{CIFAR10.base_folder}/{name}", md5] for name, md5 in official
        ]
    text = (ROOT / "params/cifar10.yaml").read_text(encoding="utf-8")
    assert CIFAR10.url in text and "No result of this study was computed here" in text


def test_the_study_has_all_tables_of_the_paper_and_its_row_from_scratch():
    plan, paper = plan_study("cifar10", ROOT / "params"), plan_study("imagenet", ROOT / "params")
    tables = {job.name for job in paper.of_section("tables")} | {"tables/scratch"}
    assert {job.name for job in plan.of_section("tables")} == tables
    assert plan.study.resolutions.finetuning / plan.study.resolutions.pretraining == pytest.approx(384 / 224, abs=0.05)
    for name, model in plan.study.models.items():
        assert model.model_copy(update={"arguments": {}}) == paper.study.models[name]
    passed = {run.name for run in plan.runs if run.model in ("deit-ti", "deit-s") and run.resolution == 32}
    assert len(passed) == 2 * 5 * 3


# The small copy -------------------------------------------------------------------------------------------------------


def test_a_small_copy_goes_from_the_official_format_to_the_table(study):
    assert {job.kind for job in study.jobs.values()} == {
        *("data", "networks", "train", "cache", "predict", "table", "report")
    }
    manifest = read_result(folder_of(study, "data/evaluation")).json("manifest.json")["splits"]
    assert [manifest[name]["images"] for name in ("training", "test", "corrupted")] == [120, 24, 24]
    table = read_frame(folder_of(study, "tables/table_3") / "table_3.csv", text=KEYS).set_index(list(KEYS))
    for row in ("labels", "token_class", "token_fusion"):
        for column in ("deit-ti", "deit-ti-finetuned"):
            assert 0 <= table.at[(row, column), "ours"] <= 100
    for job in study.of_section("students"):
        assert len((Path(job.execution.output) / "history.csv").read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.long
def test_every_step_of_the_study_for_one_gpu_is_tried(place):
    plan = run_all_but_the_report(place, "on-one-gpu")
    names = {*(f"table_{number}" for number in range(1, 6)), "scratch", "token_analysis", "accuracy_throughput"}
    assert {job.name for job in plan.of_section("tables")} == {f"tables/{name}" for name in names}
    scratch = read_frame(folder_of(plan, "tables/scratch") / "scratch.csv", text=KEYS)
    assert scratch["ours"].notna().sum() >= 3


def folder_of(plan: Plan, start: str) -> Path:
    (job,) = [job for job in plan.jobs.values() if job.name.startswith(start)]
    return Path(job.execution.output)


# Mistakes -------------------------------------------------------------------------------------------------------------


def refusal(place: Path, change: dict) -> str:
    """What a study is refused by that differs from the small one in `change`."""
    (place / "params/mistaken.yaml").write_text(yaml.safe_dump({"extends": "small"} | change), encoding="utf-8")
    with pytest.raises(ParamsError) as error:
        load_study("mistaken")
    (line,) = str(error.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (
            {"md5": {"batch_2": "0" * 32}},
            ["params/mistaken.yaml: data.training.md5.batch_2", "data_batch_2 has the MD5"],
        ),
        ({"files": {"batch_2": "nowhere"}}, ["data.root", "nowhere is missing; restore it"]),
        ({"md5": {"batch_2": None}}, ["data.training.md5", "give the MD5 of batch_2"]),
        ({"files": {"batch_2": None}}, ["data.training.files", "none left out"]),
        ({"files": None}, ["data.training.files", "none left out"]),
        ({"files": {"batch_9": "x"}}, ["data.training.files.batch_9", "batch_5"]),
        ({"folder": "train"}, ["params/mistaken.yaml: data.training.folder", "set it to null"]),
    ],
)
def test_a_mistake_is_told_before_anything_runs(place, split, words):
    line = refusal(place, {"data": {"training": split}})
    assert all(word in line for word in words), line


def test_a_missing_folder_of_all_files_is_one_line(place):
    line = refusal(place, {"data": {"root": "nowhere"}})
    said = f"data.root: the folder of the images, {place}/nowhere, is missing; mount or restore it"
    assert said in line and FOLDER not in line


def test_a_checksum_of_no_file_is_told(place):
    fashion = {"extends": "fashion", "data": {"training": {"md5": {"batch_1": "0" * 32}}}}
    (place / "params/mistaken.yaml").write_text(yaml.safe_dump(fashion), encoding="utf-8")
    with pytest.raises(ParamsError, match=r"data\.training\.md5: batch_1: no such file is below `files`"):
        load_study("mistaken")


def test_a_wrong_count_is_one_clear_line_of_the_job_that_checks_the_images(place):
    small = SMALL | layer(place / "images")
    small["data"]["training"] |= {"images": 50000}
    (place / "params/mistaken.yaml").write_text(yaml.safe_dump(small), encoding="utf-8")
    plan = plan_study("mistaken")
    plan.write({})
    with pytest.raises(SystemExit) as error:
        run_command(plan, next(iter(plan.of_section("data"))))
    assert f"{FOLDER}: expected 50000 images, found 120. Restore" in str(error.value)
    assert "(data.training.images)" in str(error.value) and "\n" not in str(error.value)


def test_without_the_variable_the_job_names_it(place, monkeypatch):
    plan = plan_study("small")
    plan.write({})
    monkeypatch.delenv("CIFAR10")
    with pytest.raises(SystemExit, match=r"data\.root: \$\{CIFAR10\} names an environment variable that is not set"):
        run_command(plan, next(iter(plan.of_section("data"))))


def test_the_manifest_holds_no_path(study, place):
    text = json.dumps(read_result(folder_of(study, "data/evaluation")).json("manifest.json"))
    assert str(place) not in text and f"{FOLDER}/test_batch" in text
