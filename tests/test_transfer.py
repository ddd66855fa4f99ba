"""Transfer: trained and given networks go on with other data sets, in the plan, in miniature, and in wrong params."""

import shutil
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from cifar_files import declaration, write_cifar
from in_process import working_in
from plan.plan import Plan
from plan.studies import plan_study
from smoke_study import run_command
from study.params import ParamsError, load_study
from tiny_runs import CLASSES, IMAGES, write_images

from deit.commands import ending, prepare_data, with_keys_of_params
from deit.store.checkpoints import WEIGHTS, read_weights
from deit.store.frames import read_frame
from deit.store.job import Job
from deit.tables.cells import KEYS

ROOT = Path(__file__).resolve().parent.parent
CIFAR_IMAGES = 24
TABLES = dict.fromkeys(("table_1", "table_2", "table_3", "table_4", "table_5", "token_analysis", "accuracy_throughput"))
TAKEN = "finetuned/deit-ti/labels-to-pictures"
ROWS = {"labels": "labels", "token": "token"}
PHASE = {
    "batch": 12,
    "mix_group": 6,
    "optimizer": "adamw",
    "epochs": 1,
    "learning_rate": 1e-6,
    "schedule": "constant",
    "warmup_epochs": 0,
    "warmup_learning_rate": 0.0,
    "final_learning_rate": 0.0,
    "weight_decay": 0.0,
}
"""So slow that what a run begins with can be seen in what it ends with."""


def shapes(root: Path) -> dict:
    """A data set of four classes, in MNIST's format."""
    data = write_images(root)
    split = data.pop("split")
    files = {part: f"test-{name}" for part, name in split["files"].items()}
    for part, name in files.items():
        shutil.copy(root / split["files"][part], root / name)
    return data | {
        "root": str(root),
        "training": split,
        "evaluation": {"test": {"title": "test", "reader": "idx", "split": split | {"files": files}}},
        "primary": "test",
    }


def pictures(root: Path) -> dict:
    """A small copy of CIFAR-10, to be seen in grey."""
    write_cifar(root, CIFAR_IMAGES)
    training = declaration(root, [f"data_batch_{number}" for number in range(1, 6)])
    test = {"images": CIFAR_IMAGES} | declaration(root, ["test_batch"])
    return {
        "name": "pictures",
        "root": str(root),
        "reader": "cifar",
        "classes": 10,
        "channels": 1,
        "mean": [0.5],
        "std": [0.25],
        "training": {"images": 5 * CIFAR_IMAGES} | training,
        "evaluation": {"test": {"title": "pictures", "reader": "cifar", "split": test}},
        "primary": "test",
    }


def study_of(folder: Path) -> dict:
    taught = {"title": "Shapes", "data": shapes(folder / "shapes"), "teacher": "regnety-4gf", "training": PHASE}
    alone = PHASE | {"supervision": {"token": "two-class-tokens"}, "views": {"repeats": 1, "erasing": 0.0}}
    return {
        "extends": "smoke",
        "students": {"epochs": 1, "epoch_views": 60},
        "teachers": {"epochs": 1, "epoch_views": 60},
        "adaptation": {"epoch_views": 60},
        "finetuning": {"epoch_views": 60},
        "transfer": {
            "shapes": taught,
            "pictures": {"title": "Pictures", "data": pictures(folder / "pictures"), "training": alone},
            "scratch": taught | {"from_scratch": True, "model": {"stochastic_depth": 0.1}},
        },
        "tables": TABLES
        | {"transfer": {"students": ["deit-ti"], "finetuned": ["deit-ti"], "teacher": "regnety-4gf", "rows": ROWS}},
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The working folder of a project with the study `taken`."""
    folder = tmp_path_factory.mktemp("transfer")
    shutil.copytree(ROOT / "params", folder / "params")
    for name in ("workflow", "src"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "params/taken.yaml").write_text(yaml.safe_dump(study_of(folder)), encoding="utf-8")
    with working_in(folder):
        yield folder


@pytest.fixture(scope="module")
def plan(place) -> Plan:
    return plan_study("taken")


@pytest.fixture(scope="module")
def study(plan) -> Plan:
    """The plan, after all of its jobs but the report."""
    plan.write({})
    for job in plan.jobs.values():
        if job.kind != "report":
            run_command(plan, job)
    return plan


def named(plan: Plan, name: str) -> Job:
    (job,) = [job for job in plan.jobs.values() if job.name == name]
    return job


def weights_of(plan: Plan, name: str) -> dict[str, torch.Tensor]:
    return read_weights(Path(named(plan, name).execution.output) / WEIGHTS)


def close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], part: str) -> bool:
    return all(torch.allclose(one[name], other[name], atol=1e-4) for name in one if name.startswith(part))


# The plan -------------------------------------------------------------------------------------------------------------


def test_each_run_begins_with_the_networks_own_and_is_taught_by_one_that_came_the_same_way(plan):
    low, high = plan.settings.resolutions
    for size, before in ((low, "students"), (high, "finetuned")):
        run = named(plan, f"finetuned/deit-ti/token-from-regnety-4gf-to-shapes/{size}/seed0")
        own = named(plan, f"{before}/deit-ti/token-from-regnety-4gf/{size}/seed0")
        teacher = named(plan, f"adapted/regnety-4gf/labels-to-shapes/{size}/seed0")
        assert (run.inputs["initial"], run.inputs["teacher"]) == (own.digest, teacher.digest)
        assert (
            teacher.inputs["initial"]
            == named(plan, f"{'teachers' if size == low else 'adapted'}/regnety-4gf/labels/{size}/seed0").digest
        )
    alone = named(plan, f"students/deit-ti/token-from-regnety-4gf-to-scratch/{low}/seed0")
    assert alone.inputs["teacher"] == named(plan, f"teachers/regnety-4gf/labels-to-scratch/{low}/seed0").digest
    assert "initial" not in alone.inputs and alone.recipe["model"]["stochastic_depth"] == 0.1
    assert not [job for job in plan.jobs.values() if "-to-scratch" in job.name and f"/{high}/" in job.name]


def test_a_distilled_network_without_a_teacher_learns_from_labels_and_is_read_by_its_class_head(plan):
    low, _ = plan.settings.resolutions
    run = named(plan, f"finetuned/deit-ti/token-from-regnety-4gf-to-pictures/{low}/seed0")
    assert run.recipe["objective"] == {"loss": "two-class-tokens"} and "teacher" not in run.inputs
    cells = {(cell.row, cell.column): cell for cell in named(plan, "tables/transfer").resolved().cells}
    assert cells["deit-ti-token", "pictures"].read == "class"
    assert cells["deit-ti-token", "random"].read == cells["deit-ti-token", "test"].read == "fusion"
    assert not [job for job in plan.jobs.values() if job.name.startswith("adapted/regnety-4gf/labels-to-pictures")]


def test_data_classes_and_views_are_those_of_the_data_set(plan, place):
    low, _ = plan.settings.resolutions
    run = named(plan, f"finetuned/deit-ti/labels-to-shapes/{low}/seed0")
    assert (run.recipe["model"]["classes"], run.recipe["data"]["classes"]) == (CLASSES, CLASSES)
    assert run.execution.data_root == str(place / "shapes")
    own = named(plan, f"students/deit-ti/labels/{low}/seed0")
    views = {
        key: value for key, value in own.recipe["views"].items() if key not in ("batch", "mix_group", "epoch_views")
    }
    assert views.items() <= run.recipe["views"].items()
    pictured = named(plan, f"finetuned/deit-ti/labels-to-pictures/{low}/seed0")
    assert pictured.recipe["views"]["erasing"] == 0 and views["erasing"] > 0


def test_a_job_tells_the_keys_of_the_data_set_that_it_reads(plan, place, tmp_path, monkeypatch):
    low, _ = plan.settings.resolutions
    own, taken = (named(plan, f"{name}/{low}/seed0") for name in ("students/deit-ti/labels", TAKEN))
    assert (own.execution.data_key, taken.execution.data_key) == ("data", "transfer.pictures.data")
    job = named(plan, "data/random-training")
    recipe = tmp_path / f"{job.digest}.json"
    moved = job.execution.model_copy(update={"data_root": str(tmp_path)})  # where its files are not
    recipe.write_text(job.model_copy(update={"execution": moved}).model_dump_json(), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["-m", "--recipe", str(recipe), "--output", str(tmp_path / "made")])
    with pytest.raises(SystemExit) as missing:
        prepare_data.main()
    told, _ = ending(missing.value)
    assert "under data.root" in told and "(data.training.files." in told
    key = "transfer.shapes.data"
    assert with_keys_of_params(told, sys.argv) == told.replace("data.root", f"{key}.root").replace(
        "data.tr", f"{key}.tr"
    )


def test_a_data_set_that_is_learnt_in_two_ways_is_looked_at_once(plan):
    prepared = {job.name for job in plan.jobs.values() if job.kind == "data"}
    own = {"data/training", "data/evaluation"}
    assert prepared - own == {
        f"data/{name}-{what}" for name in ("random", "pictures") for what in ("training", "evaluation")
    }


def test_what_is_not_taken_anywhere_keeps_its_name(place):
    added = {
        "extends": "smoke",
        "transfer": yaml.safe_load((place / "params/taken.yaml").read_text(encoding="utf-8"))["transfer"],
    }
    third = {"transfer": {"students": ["deit-ti"], "teacher": "regnety-16gf", "rows": ROWS, "sets": ["shapes"]}}
    (place / "params/more.yaml").write_text(yaml.safe_dump(added | {"tables": third}), encoding="utf-8")
    (place / "params/idle.yaml").write_text(yaml.safe_dump(added), encoding="utf-8")
    smoke, more, idle = (plan_study(name) for name in ("smoke", "more", "idle"))
    assert {**smoke.jobs}.keys() - more.jobs.keys() == {smoke.networks, named(smoke, "report").digest} | {
        job.digest for job in smoke.jobs.values() if job.kind == "table" and smoke.networks in job.inputs.values()
    }
    assert {digest for digest, job in smoke.jobs.items() if job.kind != "report"} <= idle.jobs.keys()
    assert not [job for job in idle.jobs.values() if "-to-" in job.name]


def test_a_given_network_is_taken_with_a_run_for_every_seed(place):
    (place / "given.safetensors").write_bytes(b"of which planning reads nothing")
    given = {"weights": {"file": "given.safetensors", "sha256": "0123abcd"}}
    content = {"extends": "taken", "models": {"deit-ti": given}, "seeds": {"default": [1, 2]}}
    content["tables"] = {"transfer": {"finetuned": None, "rows": {"token": None}, "sets": ["pictures"]}}
    (place / "params/of-a-file.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    plan = plan_study("of-a-file")
    runs = [job for job in plan.jobs.values() if job.kind == "train"]
    assert sorted(job.recipe["seed"] for job in runs) == [1, 2]
    (imported,) = [job for job in plan.jobs.values() if job.kind == "import"]
    assert all(job.inputs["initial"] == imported.digest for job in runs)


def test_the_papers_table_7_is_one_line_of_imagenet(tmp_path):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    text = (ROOT / "params/imagenet.yaml").read_text(encoding="utf-8")
    assert text.count("  # transfer: {") == 1
    (tmp_path / "params/all.yaml").write_text(text.replace("  # transfer: {", "  transfer: {"), encoding="utf-8")
    off, on = plan_study("imagenet", tmp_path / "params"), plan_study("all", tmp_path / "params")
    assert not [job for job in off.jobs.values() if "-to-" in job.name]
    table = named(on, "tables/transfer").resolved()
    paper = read_frame(ROOT / "src/deit/paper/transfer.csv", text=["row"]).set_index("row").astype(float)
    cells = {(cell.row, cell.column) for cell in table.cells}
    assert {(row, column) for row in paper.index for column in paper if paper.at[row, column] > 0} <= cells
    assert set(table.rows) - set(paper.index) == {"regnety-16gf"}
    recipes = {job.name: job.recipe for job in on.jobs.values() if job.kind == "train"}
    cars = recipes["finetuned/deit-b/token-from-regnety-16gf-to-cars/384/seed0"]
    assert (cars["views"]["batch"], cars["views"]["erasing"], cars["model"]["stochastic_depth"]) == (768, 0.0, 0.0)
    assert (cars["model"]["classes"], cars["objective"]["loss"]) == (196, "token")
    optimisation = {key: cars["optimisation"][key] for key in ("optimizer", "epochs", "learning_rate", "weight_decay")}
    assert optimisation == {"optimizer": "sgd", "epochs": 1000, "learning_rate": 0.01, "weight_decay": 1e-4}
    scratch = recipes["students/deit-b/labels-to-cifar-10-scratch/224/seed0"]
    assert scratch["optimisation"]["epochs"] * 50000 == pytest.approx(300 * 1.2e6, rel=0.01)
    chunks = [job.recipe for job in on.jobs.values() if job.kind == "cache" and "-to-cifar-10-scratch" in job.name]
    assert len(chunks) < 30, "as few jobs as for as many views of ImageNet"


# In miniature ---------------------------------------------------------------------------------------------------------


def test_a_network_goes_on_with_all_its_weights_but_a_head_of_other_classes(study):
    low, high = study.settings.resolutions
    for size, section in ((low, "students"), (high, "finetuned")):
        own = weights_of(study, f"{section}/deit-ti/labels/{size}/seed0")
        taken = weights_of(study, f"finetuned/deit-ti/labels-to-shapes/{size}/seed0")
        assert taken["head.weight"].shape[0] == CLASSES and own["head.weight"].shape[0] == 10
        for part in ("blocks", "patch_embed", "pos_embed", "cls_token", "norm"):
            assert close(own, taken, part)
    own = weights_of(study, f"students/deit-ti/labels/{low}/seed0")
    assert close(own, weights_of(study, f"finetuned/deit-ti/labels-to-pictures/{low}/seed0"), "head")
    assert not close(own, weights_of(study, f"students/deit-ti/labels-to-scratch/{low}/seed0"), "blocks")


def test_predictions_are_of_the_data_sets_own_test_images(study):
    low, _ = study.settings.resolutions
    for data, images in (("shapes", IMAGES), ("pictures", CIFAR_IMAGES)):
        run = f"deit-ti/token-from-regnety-4gf-to-{data}/{low}/seed0"
        sheet = Path(named(study, f"predictions/deit-ti-to-{data}/{low}").execution.output)
        rows = pq.read_table(sheet / run / "test.parquet").to_pylist()
        assert len(rows) == images
        assert max(max(row["class_top5"]) for row in rows) < (CLASSES if data == "shapes" else 10)


def test_the_table_has_a_row_a_network_and_a_column_a_data_set(study):
    folder = Path(named(study, "tables/transfer").execution.output)
    frame = read_frame(folder / "transfer.csv", text=KEYS).set_index(list(KEYS))["ours"].dropna()
    own = {"deit-ti", "deit-ti-token", "deit-ti-finetuned", "deit-ti-token-finetuned"}
    expected = {(row, column) for row in own for column in ("test", "random", "pictures")}
    expected |= {("regnety-4gf", "test"), ("regnety-4gf", "random")}
    expected |= {(f"{row}-scratch", "random") for row in ("regnety-4gf", "deit-ti", "deit-ti-token")}
    assert set(frame.index) == expected and frame.between(0, 100).all()
    text = (folder / "transfer.html").read_text(encoding="utf-8")
    assert "On Pictures distilled networks had no teacher" in text and "DeiT-Ti⚗, from scratch" in text


# Mistakes -------------------------------------------------------------------------------------------------------------


def shifted(**changes) -> dict:
    return {"transfer": {"pictures": changes}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (shifted(teacher="regnety-5gf"), "transfer.pictures.teacher: there is no model 'regnety-5gf'"),
        (shifted(training={"supervision": None}), "transfer.pictures.training.supervision"),
        (shifted(training={"supervision": {"token": "labels"}}), "'labels' is for 1 token(s), and 'token' for 2"),
        (shifted(training={"batch": 13}), "transfer.pictures.training.batch: 13 is not divisible by mix_group 6"),
        (shifted(training={"epoch_views": 500}), "500 is more than 120 training images x 1 repeats"),
        (
            shifted(training={"views": {"erase": 0.1}}),
            "transfer.pictures.training.views.erase: there is no key of views",
        ),
        (shifted(training={"optimizer": "sdg"}), "transfer.pictures.training.optimizer: 'sdg' is unknown"),
        (shifted(training={"runs": {"deit-x": {}}}), "transfer.pictures.training.runs.deit-x: there is no model"),
        (shifted(model={"depth": 3}), "transfer.pictures.model.depth: there is no key of model"),
        (shifted(model={"kind": "convnet"}), "transfer.pictures.model.kind: there is no key of model"),
        (shifted(data={"std": [0.1, 0.1]}), "transfer.pictures.data.std: has 2 numbers"),
        (shifted(data={"primary": "tests"}), "transfer.pictures.data.primary: there is no evaluation set 'tests'"),
        (shifted(data={"root": "nowhere"}), "transfer.pictures.data.root: the folder of the images"),
        (shifted(data={"name": "test"}), "transfer.pictures.data.name: 'test' is an evaluation set of the study"),
        (shifted(data={"name": "random"}), "too, which has other keys; give them other names"),
        (shifted(data={"name": "my pictures"}), "'my pictures' names a column"),
        ({"transfer": {"scratch": {"from_scratch": False}}}, "would stand in the same cells"),
        (
            {"variants": {"x-to-shapes": {"students": {"epochs": 2}}}},
            "variants.x-to-shapes: '-to-shapes' ends the names",
        ),
        ({"tables": {"transfer": {"sets": ["shape"]}}}, "tables.transfer.sets: there is no data set 'shape'"),
        ({"tables": {"transfer": {"rows": {"token": "hard"}}}}, "'hard' has the loss hard, not token"),
        (
            {"tables": {"transfer": {"students": ["regnety-4gf"]}}},
            "tables.transfer.students: 'regnety-4gf' is a convnet",
        ),
        ({"transfer": None}, "has no data set to show"),
        ({"execution": {"finetuning": {"gpus": 4}}}, "4 GPUs (or CPU nodes) cannot share 2 mix groups"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(place, change, words):
    (place / "params/mistaken.yaml").write_text(yaml.safe_dump({"extends": "taken"} | change), encoding="utf-8")
    with pytest.raises(ParamsError) as error:
        load_study("mistaken")
    assert words in str(error.value)


def test_data_sets_that_no_table_shows_may_be_missing(place):
    content = {"extends": "taken"} | shifted(data={"root": "nowhere"}) | {"tables": {"transfer": {"sets": ["shapes"]}}}
    (place / "params/partly.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert load_study("partly").transfer.keys() == {"shapes", "pictures", "scratch"}
