"""params/imagenet.yaml on JPEGs laid out as ImageNet's: every job before the tables, with timm's real networks.

Only sizes differ from the study (classes, images, steps, the higher resolution); one run of all jobs, in this process,
serves the tests of this file.
"""

import colorsys
import csv
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
from in_process import working_in
from PIL import Image
from plan.plan import COMMANDS, Plan
from plan.studies import plan_study
from safetensors.torch import load_file
from smoke_study import copy_of_project
from timm.data import create_transform
from torch.nn.functional import interpolate

from deit.see.datasets import ANEW, evaluation_images, training_images
from deit.see.recipes import EvaluationSet, TrainingData
from deit.see.views import ViewStream
from deit.store.job import Job
from deit.tables.predictions import Inputs

pytestmark = [pytest.mark.pipeline, pytest.mark.filterwarnings("ignore:This DataLoader will create")]
ROOT = Path(__file__).resolve().parent.parent
V2 = "imagenetv2-matched-frequency-format-val"
CLASSES = 12  # more than ten: as text, V2's folder 10 would come before 2
WNIDS = sorted(f"n{1440764 + 73961 * k:08d}" for k in range(CLASSES))
STUDY = """
extends: imagenet
data:
  classes: 12
  training: {images: 24}
  evaluation:
    imagenet: {split: {images: 14}}
    real: {split: {images: 14}}
    v2: {split: {images: 12}}
resolutions: {finetuning: 256}
students: {batch: 6, mix_group: 2, epoch_views: 6, epochs: 2, warmup_epochs: 1}
teachers: {batch: 6, mix_group: 2, epoch_views: 6, epochs: 1, warmup_epochs: 0}
adaptation: {batch: 6, mix_group: 2, epoch_views: 6, epochs: 1}
finetuning: {batch: 6, mix_group: 2, epoch_views: 6, epochs: 1, warmup_epochs: 0}
teacher_logits: {chunk_epochs: 1}
throughput: {batch: 1, repeats: 2}
tables:
  table_1: {models: [deit-ti]}
  table_2: null
  table_3:
    teacher: regnety-4gf
    students: [deit-ti]
    finetuned: [deit-ti]
    rows: {hard: null, soft_mean: null}
  table_4: null
  table_5: null
  token_analysis: {students: [deit-ti], control: [], images: 3}
  accuracy_throughput: null
execution:
  default: {gpus: 0, workers: 0}
  teachers: {gpus: 0}
  students: {gpus: 0}
  adaptation: {gpus: 0}
  finetuning: {gpus: 0}
  teacher_logits: {gpus: 0, workers: 1}
"""


# The images: of class k's hue, so that their pixels tell the true class ----------------------------------------------


def picture(number: int, side: int) -> Image.Image:
    """An image of class `number` with texture, `side` by 4/3 `side` pixels."""
    colour = 255 * np.array(colorsys.hsv_to_rgb(number / CLASSES, 0.8, 0.8))
    noise = np.random.RandomState([number, side]).normal(0, 20, (side, side * 4 // 3, 3))
    return Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8))


def class_shown(image: Image.Image) -> int:
    """The class of an image, read from its pixels."""
    red, green, blue = np.asarray(image).reshape(-1, 3).mean(0) / 255
    return round(colorsys.rgb_to_hsv(red, green, blue)[0] * CLASSES) % CLASSES


def validation_class(number: int) -> int:
    """Class of the image ILSVRC2012_val_<number>, 1 ... 14; the folders' order is another one than the numbers'."""
    return number * 7 % CLASSES


def real_labels() -> list[list[int]]:
    """ReaL's labels by image number: six classes each, but none for three of the images. Most have the image's own."""
    firsts = [number * 5 if number % 5 == 0 else validation_class(number) - 2 for number in range(1, 15)]
    return [[] if n % 4 == 0 else [(first + i) % CLASSES for i in range(6)] for n, first in enumerate(firsts, 1)]


def write_images(root: Path) -> None:
    """The folders that params/imagenet.yaml expects, with the odd files that ImageNet has: grey, CMYK and PNG."""
    files = {f"{V2}/{k}/{k:04x}.jpeg": picture(k, 96) for k in range(CLASSES)}
    for k, wnid in enumerate(WNIDS):
        files |= {f"train/{wnid}/{wnid}_{i}.JPEG": picture(k, 100 + i) for i in range(2)}
    for number in range(1, 15):
        k = validation_class(number)
        files[f"val/{WNIDS[k]}/ILSVRC2012_val_{number:08d}.JPEG"] = picture(k, 110 + number)
    for path, image in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / path, "JPEG")
    for k, (mode, kind) in enumerate([("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG")]):
        picture(k, 101).convert(mode).save(root / "train" / WNIDS[k] / f"{WNIDS[k]}_1.JPEG", kind)
    (root / "real.json").write_text(json.dumps(real_labels()), encoding="utf-8")


# The run -------------------------------------------------------------------------------------------------------------


def run_command(plan: Plan, job: Job, **changed_flags: list[str] | None) -> None:
    """The command of a job as its rule calls it, in this process; None takes a flag away."""
    flags = {"recipe": [f"results/{plan.name}/recipes/{job.digest}.json"], "output": [job.execution.output]}
    flags |= job.execution.folders | ({"resume": [f"resume/{job.digest}"]} if job.kind == "train" else {})
    flags |= {name.replace("_", "-"): value for name, value in changed_flags.items()}
    arguments = [text for name, values in flags.items() if values is not None for text in (f"--{name}", *values)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [COMMANDS[job.kind], *arguments])
        importlib.import_module(COMMANDS[job.kind]).main()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The working folder, with params/ and the images."""
    folder = tmp_path_factory.mktemp("imagenet")
    write_images(folder / "images")
    shutil.copytree(ROOT / "params", folder / "params")
    (folder / "params/miniature.yaml").write_text(STUDY, encoding="utf-8")
    with working_in(folder) as patch:
        patch.setenv("IMAGENET", str(folder / "images"))
        yield folder


@pytest.fixture(scope="module")
def plan(place) -> Plan:
    plan = plan_study("miniature")
    plan.write({})
    return plan


@pytest.fixture(scope="module")
def study(plan) -> Plan:
    """The plan, after all of its jobs but tables and report."""
    for job in plan.jobs.values():
        if job.kind in COMMANDS:
            run_command(plan, job)
    return plan


def job_named(plan: Plan, start: str) -> Job:
    (job,) = [job for job in plan.jobs.values() if job.name.startswith(start)]
    return job


def folder_of(plan: Plan, start: str) -> Path:
    return Path(job_named(plan, start).execution.output)


def weights_of(plan: Plan, start: str) -> dict[str, torch.Tensor]:
    return load_file(folder_of(plan, start) / "weights.safetensors")


def student_of_timm(plan: Plan) -> torch.nn.Module:
    net = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=CLASSES)
    net.load_state_dict(weights_of(plan, "students/deit-ti/token"))
    return net.eval()


def predictions(plan: Plan, resolution: int, supervision: str, evaluation_set: str) -> list[dict]:
    sheet = folder_of(plan, f"predictions/deit-ti/{resolution}")
    (path,) = sheet.glob(f"deit-ti/{supervision}*/{resolution}/seed0/{evaluation_set}.parquet")
    return pq.read_table(path).to_pylist()


# Tests ---------------------------------------------------------------------------------------------------------------


def test_the_study_is_the_papers_but_for_its_sizes(plan):
    assert {job.name.split("/seed")[0] for job in plan.jobs.values() if job.kind == "train"} == {
        "teachers/regnety-4gf/labels/224",
        "adapted/regnety-4gf/labels/256",
        *(f"students/deit-ti/{how}/224" for how in ("labels", "soft-from-regnety-4gf", "token-from-regnety-4gf")),
        *(f"finetuned/deit-ti/{how}/256" for how in ("labels", "soft-from-regnety-4gf", "token-from-regnety-4gf")),
    }
    paper = plan_study("imagenet", ROOT / "params").study
    for section in ("views", "supervision", "models", "seeds"):
        assert getattr(plan.study, section) == getattr(paper, section)


def test_the_manifest_counts_the_images_of_every_split(study):
    manifest = json.loads((folder_of(study, "data/evaluation") / "manifest.json").read_text(encoding="utf-8"))["splits"]
    assert manifest["training"]["classes"] == WNIDS == manifest["imagenet"]["classes"]
    assert manifest["v2"]["classes"] == [str(k) for k in range(CLASSES)]
    assert manifest["training"]["images_per_class"] == [2] * CLASSES
    counts = np.bincount([validation_class(number) for number in range(1, 15)], minlength=CLASSES)
    assert manifest["imagenet"]["images_per_class"] == counts.tolist()
    assert [manifest[name]["evaluated"] for name in ("imagenet", "real", "v2")] == [14, 11, 12]


def test_every_folder_shows_the_class_that_it_is_read_as(plan, place):
    """V2's folders 0 ... K-1 are the classes of the sorted names of the training folders."""
    data: TrainingData = plan.settings.training_data("")
    sets: dict[str, EvaluationSet] = plan.settings.evaluation_sets("")
    splits = [training_images(data, place / "images")]
    splits += [evaluation_images(data, sets[name], place / "images") for name in ("imagenet", "v2")]
    for images in splits:
        pictures = [images.image(i) for i in range(len(images))]
        assert {picture.mode for picture in pictures} == {"RGB"}
        plain = [i for i in range(len(images)) if not images.identity(i).endswith("_1.JPEG")]
        assert [(class_shown(pictures[i]),) for i in plain] == [images.targets(i) for i in plain]
        assert {images.targets(i) for i in plain} == {(k,) for k in range(CLASSES)}


def test_v2_is_predicted_under_the_numbers_of_its_folders(study):
    rows = predictions(study, 224, "token", "v2")
    assert [row["image"] for row in rows] == [f"{k}/{k:04x}.jpeg" for k in range(CLASSES)]
    assert [row["targets"] for row in rows] == [[k] for k in range(CLASSES)]


def test_real_gives_sets_and_leaves_images_without_labels_out_of_the_accuracy(study):
    by_number = dict(enumerate(real_labels(), 1))
    sheet = folder_of(study, "predictions/deit-ti/224")
    (run,) = [path.relative_to(sheet).as_posix() for path in sheet.glob("deit-ti/token*/224/seed0")]
    rows = predictions(study, 224, "token", "real")
    found = {int(re.search(r"val_(\d+)", row["image"])[1]): row for row in rows}
    labelled = {number: several for number, several in by_number.items() if several}
    assert {number: row["targets"] for number, row in found.items()} == labelled
    for reading in ("class", "distillation", "fusion"):
        expected = [row[f"{reading}_top5"][0] in by_number[number] for number, row in found.items()]
        correct = Inputs([sheet]).correct(run, "real", reading)
        assert len(correct) == 11 and correct.mean() == np.mean(expected) and 0 < correct.mean() < 1


def test_predictions_are_those_of_plain_timm_with_the_students_weights(study, place):
    """timm's own evaluation reads a distilled student by the mean of its two heads' logits."""
    net = student_of_timm(study)
    statistics = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    transform = create_transform(224, interpolation="bicubic", crop_pct=0.875, **statistics)
    rows = predictions(study, 224, "token", "imagenet")
    views = torch.stack([transform(Image.open(place / "images/val" / row["image"]).convert("RGB")) for row in rows])
    with torch.inference_mode():
        logits = net(views)
    top = logits.argsort(1, descending=True)[:, :5].tolist()
    assert [row["fusion_logits_top5"] for row in rows] == top
    assert [row["targets"] for row in rows] == [[WNIDS.index(row["image"].split("/")[0])] for row in rows]


def test_the_fine_tuned_student_starts_from_resized_positions(study):
    before, after = (weights_of(study, f"{run}/deit-ti/token") for run in ("students", "finetuned"))
    assert (before["pos_embed"].shape, after["pos_embed"].shape) == ((1, 2 + 14**2, 192), (1, 2 + 16**2, 192))
    grid = before["pos_embed"][:, 2:].reshape(1, 14, 14, 192).permute(0, 3, 1, 2)
    resized = interpolate(grid, (16, 16), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    # One step of AdamW at the fine-tuning's rate moves a weight by less than 1e-7.
    torch.testing.assert_close(after["pos_embed"][:, 2:], resized, rtol=0, atol=1e-6)
    torch.testing.assert_close(after["pos_embed"][:, :2], before["pos_embed"][:, :2], rtol=0, atol=1e-6)
    assert any(not torch.equal(before[name], after[name]) for name in before if name != "pos_embed")
    adapted = job_named(study, "adapted/regnety-4gf").digest
    assert job_named(study, "finetuned/deit-ti/token").inputs["teacher"] == adapted


def test_the_cache_holds_all_logits_of_plain_timm(study, place):
    job = job_named(study, "teacher_logits/regnety-4gf/labels/224/seed0/stream0-epochs1-1")
    shard = np.load(Path(job.execution.output) / "epoch-0001.npy")
    assert shard.shape == (1, 6) and shard.dtype.itemsize == 2 + 2 * CLASSES
    net = timm.create_model("regnety_040", num_classes=CLASSES)
    net.load_state_dict(weights_of(study, "teachers/regnety-4gf"))
    recipe = job.resolved()
    stream = ViewStream(training_images(recipe.data, place / "images"), recipe.data, recipe.views, 0)
    group = stream[1, 0, 2]
    views, _ = stream.finish(group, torch.device("cpu"))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        logits = net.eval()(views)
    records = shard.reshape(-1)[group.positions.numpy()]
    assert logits.dtype == torch.bfloat16 and records["label"].tolist() == logits.argmax(1).tolist()
    assert torch.equal(torch.from_numpy(records["logits"].view(np.int16)).view(torch.bfloat16), logits)


def test_a_student_of_the_cache_is_the_student_of_the_teacher(study, tmp_path):
    job = job_named(study, "students/deit-ti/token")
    teacher = [str(folder_of(study, "teachers/regnety-4gf"))]
    run_command(study, job, teacher_logits=None, teacher=teacher, output=[str(tmp_path / "in_the_loop")])
    cached, asked = weights_of(study, "students/deit-ti/token"), load_file(tmp_path / "in_the_loop/weights.safetensors")
    assert cached.keys() == asked.keys() and all(torch.equal(cached[name], asked[name]) for name in cached)


def test_tokens_are_compared_after_each_of_twelve_blocks(study, place):
    comparison = json.loads((folder_of(study, "tokens/deit-ti/token") / "tokens.json").read_text(encoding="utf-8"))
    weights = weights_of(study, "students/deit-ti/token")
    one, other = (weights[name][0, 0].double() for name in ("cls_token", "dist_token"))
    assert comparison["input_cosine"] == pytest.approx((one @ other / one.norm() / other.norm()).item(), abs=1e-9)
    assert comparison["images"] == 3 and len(comparison["layers"]) == 12
    assert all(-1 <= cosine <= 1 for cosine in comparison["layers"])


def test_throughput_has_a_row_for_each_student_with_timms_parameters(study):
    with (folder_of(study, "throughput/all") / "throughput.csv").open(encoding="utf-8") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    names = {"deit-ti": "deit_tiny_patch16_224", "deit-ti-token": "deit_tiny_distilled_patch16_224"}
    assert rows.keys() == names.keys()
    for label, name in names.items():
        with torch.device("meta"):
            net = timm.create_model(name, num_classes=CLASSES)
        assert int(rows[label]["parameters"]) == sum(parameter.numel() for parameter in net.parameters())
        assert rows[label]["batch"] == "1" and float(rows[label]["images_per_second"]) > 0


@pytest.mark.parametrize(
    ("data", "missing", "words", "key"),
    [
        ("training", f"train/{WNIDS[3]}/{WNIDS[3]}_0.JPEG", "24 images, found 23.", "data.training.images"),
        ("evaluation", f"{V2}/7/0007.jpeg", "12 classes, found 11 (none of 7).", "data.evaluation.v2.split.folder"),
    ],
)
def test_a_missing_image_is_one_message_before_any_training(
    plan, place, tmp_path, monkeypatch, data, missing, words, key
):
    shutil.copytree(place / "images", tmp_path / "images")
    (tmp_path / "images" / missing).unlink()
    monkeypatch.setenv("IMAGENET", str(tmp_path / "images"))
    incomplete = plan_study("miniature")
    job = job_named(incomplete, f"data/{data}")
    assert job.digest in plan.jobs, "where the images lie is no part of what is planned"
    recipe, output = tmp_path / f"{job.digest}.json", tmp_path / "results" / data
    recipe.write_text(job.model_dump_json(), encoding="utf-8")
    with pytest.raises(SystemExit) as refusal:
        run_command(incomplete, job, recipe=[str(recipe)], output=[str(output)])
    message = str(refusal.value)
    split = missing.split("/")[0]
    assert message.startswith(f"{tmp_path}/images/{split}: expected {words}")
    assert message.endswith(f"({key}).") and "\n" not in message and not output.exists()
    training = job_named(incomplete, "data/training").digest
    assert all(training == job.inputs["data"] for job in incomplete.jobs.values() if job.kind == "train")


IMAGE = f"train/{WNIDS[5]}/{WNIDS[5]}_0.JPEG"
VALIDATION = f"val/{WNIDS[validation_class(3)]}/ILSVRC2012_val_00000003.JPEG"
FOREIGN = {
    "size": (IMAGE, lambda path: picture(5, 140).save(path, "JPEG")),
    "bytes": (IMAGE, lambda path: path.write_bytes(path.read_bytes()[:-2] + b"\0\0")),
    "name": (IMAGE, lambda path: path.rename(path.with_name("x.JPEG"))),
    "class": (IMAGE, lambda path: exchange(path, path.parents[1] / WNIDS[6] / f"{WNIDS[6]}_0.JPEG")),
    "v2": (f"{V2}/7/0007.jpeg", lambda path: picture(7, 99).save(path, "JPEG")),
    "labels": ("real.json", lambda path: path.write_text(json.dumps([[*range(CLASSES)]] * 14), encoding="utf-8")),
    "validation": (VALIDATION, lambda path: picture(1, 99).save(path, "JPEG")),
}


def exchange(one: Path, other: Path) -> None:
    """Two files, each into the class of the other: as many images of each class as before."""
    one.rename(other.with_name("x.JPEG"))
    other.rename(one.with_name("y.JPEG"))


@pytest.mark.parametrize(
    ("job", "foreign", "key"),
    [
        *(("teachers", foreign, "data.training.listing") for foreign in ("size", "bytes", "name", "class")),
        ("students/deit-ti/token", "size", "data.training.listing"),
        ("teacher_logits", "size", "data.training.listing"),
        ("predictions", "v2", "data.evaluation.v2.split.listing"),
        ("predictions", "labels", "data.evaluation.real.labels"),
        ("tokens", "validation", "data.evaluation.*.split.listing"),
    ],
)
def test_no_job_reads_another_copy_of_the_images(study, place, tmp_path, monkeypatch, job, foreign, key):
    """No listing is declared: the copy has as many images of each class as the one of the manifest."""
    shutil.copytree(place / "images", tmp_path / "images")
    file, change = FOREIGN[foreign]
    change(tmp_path / "images" / file)
    monkeypatch.setenv("IMAGENET", str(tmp_path / "images"))
    copy = plan_study("miniature")
    job = next(each for each in copy.jobs.values() if each.name.startswith(job))
    recipe, output = tmp_path / f"{job.digest}.json", tmp_path / "results"
    recipe.write_text(job.model_dump_json(), encoding="utf-8")
    resume = {"resume": [str(tmp_path / "resume")]} if job.kind == "train" else {}
    with pytest.raises(SystemExit) as refusal:
        run_command(copy, job, recipe=[str(recipe)], output=[str(output)], **resume)
    message = str(refusal.value)
    assert message.startswith(f"{tmp_path}/images/{file.split('/')[0]}: expected ") and message.endswith(
        f"({key}). {ANEW}"
    )
    assert "manifest" in message and "\n" not in message and not output.exists()


def test_stored_views_are_made_of_the_images_of_the_manifest(place, tmp_path, monkeypatch):
    (place / "params/stored.yaml").write_text("extends: miniature\nstored_views: true\n", encoding="utf-8")
    plan = plan_study("stored")
    plan.write({})
    run_command(plan, job_named(plan, "data/training"))
    shutil.copytree(place / "images", tmp_path / "images")
    FOREIGN["size"][1](tmp_path / "images" / IMAGE)
    monkeypatch.setenv("IMAGENET", str(tmp_path / "images"))
    with pytest.raises(SystemExit, match=r"as in the manifest.*data\.training\.listing"):
        run_command(plan, job_named(plan, "views/224/stream0"))


# As it is typed -------------------------------------------------------------------------------------------------------


def test_the_paper_is_planned_without_slurm_and_without_images(tmp_path):
    """The literal command, in a clone, with nothing prepared."""
    environment = {key: value for key, value in os.environ.items() if key not in ("IMAGENET", "SLURM_CONF")}
    environment["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    words = ["snakemake", "--profile", "slurm", "-n", "-p", "all_tables"]
    output = subprocess.run(
        words, cwd=copy_of_project(tmp_path), env=environment, capture_output=True, encoding="utf-8"
    )
    assert output.returncode == 0, output.stderr[-3000:]
    text = output.stdout + output.stderr
    assert "study=imagenet" in text and re.search(r"distil_student +19", text)
    student = re.search(r"rule distil_student:.*?resources: ([^\n]*)", text, re.DOTALL)[1]
    assert {"gpu=8", "nodes=1", "mem_mb=256000", "runtime=4320"} <= set(student.split(", "))
