"""params/released.yaml on files made here, under the authors' names and keys, and images laid out as ImageNet's."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import timm
import torch
import yaml
from in_process import working_in
from PIL import Image
from plan.plan import COMMANDS, Plan
from plan.studies import plan_study
from safetensors.torch import save_file
from smoke_study import ENVIRONMENT
from study.params import ParamsError, load_study
from test_imagenet import CLASSES, V2, WNIDS, job_named, write_images
from timm.data import create_transform

from deit.store.frames import read_frame
from deit.store.results import read_result

pytestmark = [pytest.mark.pipeline, pytest.mark.filterwarnings("ignore:This DataLoader will create")]
ROOT = Path(__file__).resolve().parent.parent
MAIN = COMMANDS | {"table": "jobs.render", "report": "jobs.report"}
# Networks of the kinds of the study, but small, and 256 pixels for 384.
SMALL = {"embed_dim": 24, "num_heads": 2, "depth": 2}
STUDY = {
    "extends": "released",
    "data": {
        "classes": CLASSES,
        "training": {"images": 24},
        "evaluation": {
            "imagenet": {"split": {"images": 14}},
            "real": {"split": {"images": 14}},
            "v2": {"split": {"images": 12}},
        },
    },
    "resolutions": {"finetuning": 256},
    "models": {
        **{model: {"arguments": SMALL} for model in ("deit-ti", "deit-s", "deit-b")},
        **{f"regnety-{size}gf": {"timm": "regnety_002"} for size in (4, 8, 12, 16)},
    },
    **{phase: {"batch": 6, "mix_group": 2} for phase in ("students", "teachers", "adaptation", "finetuning")},
    "throughput": {"batch": 1, "repeats": 2},
    "tables": {"token_analysis": {"images": 5}},
    "execution": {
        phase: {"gpus": 0, "workers": 0}
        for phase in ("default", "teachers", "students", "adaptation", "finetuning", "teacher_logits")
    },
}
PUBLISHED = load_study("released", ROOT / "params").released.weights


def network(key: str) -> torch.nn.Module:
    """Plain timm's network of a run, with the sizes of this file."""
    model, supervision, resolution = key.split("/")
    if model.startswith("regnety"):
        return timm.create_model("regnety_002", num_classes=CLASSES)
    name = {"deit-ti": "tiny", "deit-s": "small", "deit-b": "base"}[model]
    name = f"deit_{name}{'_distilled' if supervision.startswith('token') else ''}_patch16_224"
    return timm.create_model(name, num_classes=CLASSES, img_size=int(resolution), **SMALL)


def write_weights(root: Path) -> dict[str, dict]:
    """A file a run: the authors' .pth, {"model": state dict}; of the first student a .safetensors. -> the params."""
    root.mkdir()
    params = {}
    for number, (published, weights) in enumerate(PUBLISHED.items()):
        torch.manual_seed(number)
        key, file = published.replace("384", "256"), weights.file
        state = {name: tensor + 0.1 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor
                 for name, tensor in network(key).state_dict().items()}  # fmt: skip
        for name in state:
            if name.endswith("running_var"):
                state[name] = state[name].abs()
        if number == 0:
            file = "deit_tiny.safetensors"
            save_file(state, root / file)
        else:
            torch.save({"model": state}, root / file)
        params[key] = {"file": file, "sha256": hashlib.sha256((root / file).read_bytes()).hexdigest()[:8]}
    return params


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The working folder, with params/, the images and the files of weights."""
    folder = tmp_path_factory.mktemp("released")
    write_images(folder / "images")
    for name in ("Snakefile", "workflow", "src", "local"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "params", folder / "params")
    gone = {key: None for key in PUBLISHED if key.endswith("384")}
    missing = {"deit-b/token/384": None, "deit-b/token/256": "the published one was trained for 1000 epochs"}
    released = {"source": "files", "weights": write_weights(folder / "weights") | gone, "missing": missing}
    (folder / "params/miniature.yaml").write_text(json.dumps(STUDY | {"released": released}), encoding="utf-8")
    with working_in(folder) as patch:
        patch.setenv("IMAGENET", str(folder / "images"))
        patch.setenv("DEIT_WEIGHTS", str(folder / "weights"))
        patch.setenv("PYTHONPATH", str(ROOT / "src"))
        yield folder


def snakemake(folder: Path, study: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--profile", "local", "--config", f"study={study}", *arguments]
    environment = ENVIRONMENT | {key: os.environ[key] for key in ("IMAGENET", "DEIT_WEIGHTS") if key in os.environ}
    run = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", env=environment)
    assert run.returncode == 0, (run.stdout + run.stderr)[-5000:]
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def study(place) -> Plan:
    """The plan, after all of its jobs: the weights through Snakemake, all else in this process."""
    snakemake(place, "miniature", "--", "teachers")
    plan = plan_study("miniature")
    for job in plan.jobs.values():
        if not plan.is_finished(job):
            flags = [word for flag, folders in job.execution.folders.items() for word in (f"--{flag}", *folders)]
            output = "reports/miniature" if job.kind == "report" else job.execution.output
            words = ["--recipe", f"results/miniature/recipes/{job.digest}.json", *flags, "--output", output]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", [job.kind, *words])
                import_module(MAIN[job.kind]).main()
    assert not plan.unfinished()
    return plan


def frame(plan: Plan, table: str) -> pd.DataFrame:
    path = Path(job_named(plan, f"tables/{table}").execution.output) / f"{table}.csv"
    return read_frame(path, text=["row", "column"]).set_index(["row", "column"])


def notes(plan: Plan, table: str) -> str:
    return " ".join(read_result(Path(job_named(plan, f"tables/{table}").execution.output)).json("notes.json"))


# The plan -------------------------------------------------------------------------------------------------------------


def test_nothing_is_trained():
    plan = plan_study("released", ROOT / "params")
    kinds = {job.kind for job in plan.jobs.values()}
    assert kinds == {"import", "data", "networks", "predict", "tokens", "throughput", "table", "report"}
    assert {f"{run.model}/{run.supervision}/{run.resolution}" for run in plan.runs} == PUBLISHED.keys()
    tables = {job.name for job in plan.of_section("tables")}
    expected = ("table_1", "table_3", "table_4", "table_5", "token_analysis", "accuracy_throughput")
    assert tables == {f"tables/{name}" for name in expected}


def test_the_names_are_timms():
    for key, weights in PUBLISHED.items():
        config = timm.models.get_pretrained_cfg(weights.timm)
        assert config.hf_hub_id == f"timm/{weights.timm}"
        assert config.url.endswith(f"/{weights.file}") and weights.file.endswith(f"-{weights.sha256}.pth")
        assert config.input_size[1] == int(key.split("/")[2]) and config.num_classes == 1000


def test_snakemake_plans_no_training(tmp_path, monkeypatch):
    for name in ("Snakefile", "workflow", "src", "local", "params"):
        (tmp_path / name).symlink_to(ROOT / name)
    output = snakemake(tmp_path, "released", "-n", "--", "all_tables")
    assert "import_weights" in output and "render_table" in output
    assert not any(rule in output for rule in ("train_teacher", "distil_student", "finetune", "cache_teacher", "pass"))


def test_where_weights_come_from_names_them_and_where_they_lie_does_not(place, monkeypatch):
    before = plan_study("miniature").jobs.keys()
    shutil.copytree(place / "weights", place / "elsewhere")
    monkeypatch.setenv("DEIT_WEIGHTS", str(place / "elsewhere"))
    assert plan_study("miniature").jobs.keys() == before
    content = yaml.safe_load((place / "params/miniature.yaml").read_text(encoding="utf-8"))
    content["released"]["weights"]["deit-b/token/224"]["sha256"] = "12345678"
    (place / "params/other.yaml").write_text(json.dumps(content), encoding="utf-8")
    new = {job.name for digest, job in plan_study("other").jobs.items() if digest not in before}
    assert {name for name in new if name.startswith("given/")} == {"given/deit-b/token-from-regnety-16gf/224/seed0"}


# The tables -----------------------------------------------------------------------------------------------------------

IMAGES = {"imagenet": "images/val", "v2": f"images/{V2}"}


def plain_timm(place: Path, key: str, images: list[str], folder: str) -> np.ndarray:
    """What timm's own evaluation says of the images, (n, K): of a distilled network, the mean of its heads' logits."""
    weights = load_study("miniature").released.weights[key]
    net = network(key)
    timm.models.load_checkpoint(net, str(place / "weights" / weights.file))
    statistics = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    size = int(key.split("/")[2])
    transform = create_transform(size, interpolation="bicubic", crop_pct=0.875, **statistics)
    views = torch.stack([transform(Image.open(place / folder / image).convert("RGB")) for image in images])
    with torch.inference_mode():
        return net.eval()(views).numpy()


@pytest.mark.parametrize("evaluation_set", IMAGES)
def test_accuracies_are_those_of_plain_timm(study, place, evaluation_set):
    keys = set()
    for run in study.runs:
        key = f"{run.model}/{run.supervision}/{run.resolution}"
        (path,) = Path("results/miniature/predictions").glob(f"*/*/{run.name}/{evaluation_set}.parquet")
        rows = pq.read_table(path).to_pylist()
        logits = plain_timm(place, key, [row["image"] for row in rows], IMAGES[evaluation_set])
        top = np.argsort(-logits, axis=1, kind="stable")[:, :5].tolist()
        read = "fusion_logits" if "token" in key else "class"
        assert [row[f"{read}_top5"] for row in rows] == top, key
        truth = [row["targets"][0] for row in rows]
        if evaluation_set == "imagenet":
            assert truth == [WNIDS.index(row["image"].split("/")[0]) for row in rows]
        keys.add(key)
        if "token" not in key:
            row = run.model + ("-finetuned" if run.resolution == 256 else "")
            accuracy = 100 * np.mean([first[0] == target for first, target in zip(top, truth, strict=True)])
            assert frame(study, "table_5").at[(row, evaluation_set), "ours"] == pytest.approx(accuracy), row
    assert len(keys) == len(PUBLISHED)


EMPTY = {"labels": [], "soft": [0, 1, 2, 3], "hard": [0, 1, 2, 3], "token_class": [3], "token_fusion": [3]}
"""Row of Table 3 -> which of its columns have no published weights."""


def test_cells_without_weights_are_empty_and_say_why(study):
    table, columns = frame(study, "table_3")["ours"], ["deit-ti", "deit-s", "deit-b", "deit-b-finetuned"]
    for row, empty in EMPTY.items():
        assert [number for number, column in enumerate(columns) if np.isnan(table[row, column])] == empty, row
    why = {"no student of usual distillation was published", "the published one was trained for 1000 epochs"}
    assert all(reason in notes(study, "table_3") for reason in why)
    assert "published weights" not in notes(study, "table_4"), "Table 4 has all of its networks"
    assert frame(study, "table_4")["ours"].notna().all()
    assert "of the convnets only RegNetY-16GF was published" in notes(study, "table_5")


def test_the_student_of_1000_epochs_stands_in_its_own_row(study):
    table = frame(study, "table_5")
    longer = [row for row in dict.fromkeys(table.index.get_level_values(0)) if row.endswith("-1000-epochs")]
    students = ("deit-ti-token", "deit-s-token", "deit-b-token", "deit-b-token-finetuned")
    assert longer == [f"{student}-1000-epochs" for student in students]
    assert [table.at[(row, "imagenet"), "ours"] >= 0 for row in longer] == [False, False, False, True]
    assert [table.at[(row, "imagenet"), "paper"] for row in longer] == [76.6, 82.6, 84.2, 85.2]
    page = Path("reports/miniature/index.html").read_text(encoding="utf-8")
    assert "DeiT-B⚗ ↑, 1000 epochs" in page


def test_the_page_says_that_nothing_was_trained_and_whence_the_weights_are(study):
    page = Path("reports/miniature/index.html").read_text(encoding="utf-8")
    assert "9 networks with published weights; none was trained here" in page and "training_curves" not in page
    assert "deit_base_patch16_224-b5f2ef4d.pth" in page and "Seeds" not in page and str(Path.cwd()) not in page


# What is refused ------------------------------------------------------------------------------------------------------

GOOD = {"timm": "deit_tiny_patch16_224.fb_in1k", "file": "x.pth", "sha256": "12345678"}
MISTAKES = {
    "no run": ({"weights": {"deit-ti/labels": GOOD}}, "weights.deit-ti/labels", "names no run; write model/superv"),
    "no resolution": ({"weights": {"deit-ti/labels/225": GOOD}}, "weights.deit-ti/labels/225", "of 224 or 384"),
    "no model": ({"weights": {"deit-it/labels/224": GOOD}}, "weights.deit-it/labels/224", "did you mean 'deit-ti'?"),
    "no supervision": ({"weights": {"deit-ti/label/224": GOOD}}, "weights.deit-ti/label/224", "mean 'labels'?"),
    "no file": ({"source": "files", "root": "."}, "root", "is missing; put it there"),
    "no variable": ({"source": "files"}, "source", "is ${DEIT_WEIGHTS}; export the variable"),
    "no root": ({"source": "files", "root": ""}, "root", "give the folder"),
    "no name": (
        {"weights": {"deit-ti/labels/224": {"timm": "deit"}}},
        "weights.deit-ti/labels/224.timm",
        "'deit' is no tag of timm's",
    ),
    "no digest": (
        {"source": "files", "root": ".", "weights": {"deit-ti/labels/224": {"sha256": ""}}},
        "weights.deit-ti/labels/224.sha256",
        "'' is not 8 to 64 hex digits",
    ),
    "a short digest": (
        {"source": "files", "root": ".", "weights": {"deit-ti/labels/224": {"sha256": "123"}}},
        "weights.deit-ti/labels/224.sha256",
        "'123' is not 8 to 64 hex digits",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_before_anything_runs(tmp_path, monkeypatch, mistake):
    monkeypatch.delenv("DEIT_WEIGHTS", raising=False)
    layer, key, words = MISTAKES[mistake]
    assert words in refusal(tmp_path, {"released": layer}, f"released.{key}")


def test_seeds_and_longer_trainings_are_checked(tmp_path):
    assert "have no seeds" in refusal(tmp_path, {"seeds": {"default": [0, 1]}}, "seeds.default")
    layer = {"tables": {"table_5": {"longer": {"500-epochs": "hard"}}}}
    assert "not token" in refusal(tmp_path, layer, "tables.table_5.longer.500-epochs")


def test_published_weights_of_a_run_are_not_those_of_its_transfer(tmp_path):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    table = {"students": ["deit-s"], "teacher": "regnety-16gf", "rows": {"labels": "labels"}}
    study = {"extends": "released", "tables": {"transfer": table}}
    study["transfer"] = yaml.safe_load((ROOT / "params/imagenet.yaml").read_text(encoding="utf-8"))["transfer"]
    (tmp_path / "params/edited.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    plan = plan_study("edited", tmp_path / "params")
    assert plan.of_section("given") and not [job for job in plan.jobs.values() if "-to-" in job.name]


def refusal(tmp_path: Path, layer: dict, key: str) -> str:
    """The line by which a study that extends `released` is refused."""
    shutil.copytree(ROOT / "params", tmp_path / "params", dirs_exist_ok=True)
    (tmp_path / "params/edited.yaml").write_text(yaml.safe_dump({"extends": "released"} | layer), encoding="utf-8")
    with pytest.raises(ParamsError) as error:
        load_study("edited", tmp_path / "params")
    line, *_ = [line for line in str(error.value).splitlines() if f".yaml: {key}: " in line]
    return line
