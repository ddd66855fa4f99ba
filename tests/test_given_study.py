"""Studies whose models are given weights: what is planned and refused, and one from a file to the report."""

import hashlib
import json
import logging
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import timm
import torch
import yaml
from call.begin import look_ahead
from in_process import working_in
from plan.given import refuse_unfinished
from plan.plan import Plan
from plan.runs import Run
from plan.studies import plan_study
from safetensors.torch import save_file
from smoke_study import COMMAND, ENVIRONMENT, run_command
from study.files_here import checksum_problems
from study.params import ParamsError, load_study
from torch.nn.functional import interpolate

from deit.commands.train_pass import only
from deit.networks.recipes import Importing
from deit.see.datasets import evaluation_images, training_images
from deit.see.views import EvaluationViews, ViewStream, evaluation_transform
from deit.store.checkpoints import read_weights
from deit.store.results import read_result

ROOT = Path(__file__).resolve().parent.parent
TAG = {"timm": "regnety_160.deit_in1k"}


def layered(folder: Path, layer: dict, base: str = "imagenet", name: str = "edited") -> Path:
    """params/ with a study that lays `layer` over another."""
    shutil.copytree(ROOT / "params", folder / "params", dirs_exist_ok=True)
    (folder / f"params/{name}.yaml").write_text(yaml.safe_dump({"extends": base} | layer), encoding="utf-8")
    return folder / "params"


def weights(model: str, part: str = "weights", **source) -> dict:
    return {"models": {model: {part: source}}}


# The plan -------------------------------------------------------------------------------------------------------------


def test_a_given_teacher_of_imagenet_is_not_trained_and_its_adaptation_is(tmp_path):
    before = plan_study("imagenet", ROOT / "params")
    plan = plan_study("edited", layered(tmp_path, weights("regnety-16gf", **TAG)))
    own = Run("regnety-16gf", "labels", "", 224, 0)
    given, adapted = (plan.jobs[plan.runs[run]] for run in (own, Run("regnety-16gf", "labels", "", 384, 0)))
    assert given.kind == "import" and given.name == "given/regnety-16gf/labels/224/seed0"
    assert isinstance(given.resolved(), Importing) and given.resolved().source.timm == TAG["timm"]
    assert adapted.kind == "train" and adapted.inputs["initial"] == given.digest
    assert set(plan.runs) == set(before.runs), "all else is planned as for a trained one"
    kinds = {run: plan.jobs[digest].kind for run, digest in plan.runs.items()}
    assert [run for run, kind in kinds.items() if kind != "train"] == [own]
    students = [job for job in plan.of_section("students") if job.inputs.get("teacher") == given.digest]
    caches = [job for job in plan.of_section("teacher_logits") if job.inputs["teacher"] == given.digest]
    taught = [run for run in before.runs if run.teacher == own.model and run.resolution == own.resolution]
    assert {job.digest for job in students} == {plan.runs[run] for run in taught} and len(taught) >= 9
    assert caches and all(only(job, "teacher").name.endswith(given.digest) for job in caches)
    networks = plan.jobs[plan.networks].resolved().networks
    assert not networks["regnety-16gf/224"].trained, "only measured"
    assert networks["regnety-16gf/384"].trained and not networks["regnety-16gf/384"].initial
    same = {run for run in plan.runs if plan.runs[run] == before.runs[run]}
    assert {run.teacher for run in set(plan.runs) - same} <= {"", "regnety-16gf"}
    assert {run.model for run in set(plan.runs) - same if not run.teacher} == {"regnety-16gf"}


def test_one_network_stands_for_all_seeds_of_its_run_from_labels(tmp_path):
    layer = weights("deit-b", timm="deit_base_patch16_224.fb_in1k") | {"seeds": {"default": [3, 4, 5]}}
    plan = plan_study("edited", layered(tmp_path, layer))
    seeds = {}
    for run in plan.runs:
        if run.model == "deit-b":
            seeds.setdefault((run.supervision, run.resolution), set()).add(run.seed)
    assert seeds[("labels", 224)] == seeds[("labels", 384)] == {3}
    assert seeds[("hard", 224)] == seeds[("token", 384)] == {3, 4, 5}
    assert {run.seed for run in plan.runs if run.model == "deit-s" and run.supervision == "labels"} == {3, 4, 5}


def test_every_training_at_the_lower_resolution_starts_from_initial_weights(tmp_path):
    source = {"timm": "deit_tiny_distilled_patch16_224.fb_in1k"}
    plan = plan_study("edited", layered(tmp_path, weights("deit-ti", "initial", **source)))
    (initial,) = plan.of_section("given")
    assert initial.name == "given/deit-ti/initial" and initial.resolved().starts
    for run, digest in plan.runs.items():
        starts = plan.jobs[digest].inputs.get("initial") == initial.digest
        assert starts == (run.model == "deit-ti" and run.resolution == 224)


def test_the_name_of_a_file_is_its_sha256_and_not_where_it_lies(tmp_path):
    digests = []
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "teacher.pth").write_bytes(b"")
        file = str(tmp_path / folder / "teacher.pth")
        plan = plan_study("edited", layered(tmp_path, weights("regnety-16gf", file=file, sha256="12345678")))
        (given,) = plan.of_section("given")
        assert given.execution.data_root == str(tmp_path / folder)
        digests.append(plan.jobs.keys())
    assert digests[0] == digests[1]
    other = plan_study("edited", layered(tmp_path, weights("regnety-16gf", file=file, sha256="12345679")))
    assert other.jobs.keys() != digests[0]


def test_a_file_that_is_not_the_declared_one_is_refused_before_the_first_job(tmp_path, monkeypatch):
    (tmp_path / "teacher.pth").write_bytes(b"weights")
    whole = hashlib.sha256(b"weights").hexdigest()
    for sha256 in (whole, whole[:8]):
        given = weights("regnety-16gf", file=str(tmp_path / "teacher.pth"), sha256=sha256)
        assert not list(checksum_problems(load_study("edited", layered(tmp_path, given)), {tmp_path / "teacher.pth"}))
    given = weights("regnety-16gf", file=str(tmp_path / "teacher.pth"), sha256="12345678")
    plan = plan_study("edited", layered(tmp_path, given))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParamsError) as refused:
        look_ahead(plan, elsewhere=True)
    said = f"{tmp_path}/teacher.pth has the sha256 {whole}, not 12345678; get the file again, or declare this one here."
    assert str(refused.value) == f"params/edited.yaml: models.regnety-16gf.weights.sha256: {said}"


@pytest.mark.long
def test_a_run_of_another_study_is_the_one_that_is_planned_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Snakefile", "workflow", "src", "local"):
        (tmp_path / name).symlink_to(ROOT / name)
    run = "regnety-4gf/labels/15/seed0"
    layered(tmp_path, weights("regnety-4gf", study="smoke", run=run), "smoke")
    plan, other = plan_study("edited"), plan_study("smoke")
    (given,), theirs = plan.of_section("given"), job_of(other, f"teachers/{run}")
    assert given.inputs == {"run": theirs.digest} and only(given, "run") == Path(theirs.execution.output)
    with pytest.raises(ParamsError, match=rf"edited.yaml: models: the run {run} .* not finished; make it first: snake"):
        refuse_unfinished("edited", plan.givers, plan.unfinished())
    other.write({})
    needed = {*sum(theirs.execution.folders.values(), []), *theirs.execution.after, theirs.execution.output}
    for job in other.jobs.values():
        if job.execution.output in needed:
            run_command(other, job)
    snakemake_makes(f"{given.execution.output}/weights.safetensors")
    result, source = read_result(Path(given.execution.output)), read_result(Path(theirs.execution.output))
    assert result.json("source.json")["sha256"] == source.sha256["weights.safetensors"]
    assert result.sha256["weights.safetensors"] == source.sha256["weights.safetensors"], "the same bytes"
    assert result.json("source.json")["run"] == run and not result.json("source.json")["differs"]


def test_a_given_transformer_may_see_more_than_the_study(tmp_path):
    classes = [[number] for number in range(10)]
    vit = {"kind": "transformer", "timm": "deit_tiny_patch16_224"}
    source = {"timm": "deit_tiny_patch16_224.fb_in1k", "classes": classes}
    layer = {"models": {"vit": vit | {"weights": source}}, "tables": {"table_2": {"teachers": ["vit"]}}}
    plan = plan_study("edited", layered(tmp_path, layer, "smoke"))
    assert plan.jobs[plan.runs[Run("vit", "labels", "", 15, 0)]].kind == "import"
    with pytest.raises(ParamsError, match="15 pixels are no multiple of the patch size 16 of vit"):
        plan_study("edited", layered(tmp_path, layer | {"models": {"vit": vit}}, "smoke"))


# What is refused ------------------------------------------------------------------------------------------------------

REFUSED = {
    "nothing": ("regnety-16gf", {}, "weights: names no weights; give one of timm, file"),
    "two ways": ("regnety-16gf", TAG | {"file": "x", "sha256": "12345678"}, "weights: names timm and file; give one"),
    "no tag": ("regnety-16gf", {"timm": "regnety_160"}, "weights.timm: 'regnety_160' is no tag of timm's"),
    "another network": (
        "regnety-16gf",
        {"timm": "resnet50.a1_in1k"},
        "weights.timm: is of resnet50, and the model is regnety_160; name a tag",
    ),
    "no sha256": ("regnety-16gf", {"file": __file__}, "weights.sha256: missing; give that of the file"),
    "a short sha256": ("regnety-16gf", {"file": __file__, "sha256": "123"}, "'123' is not 8 to 64 hex digits"),
    "no file": ("regnety-16gf", {"file": "none.pth", "sha256": "12345678"}, "weights.file: none.pth is missing; put"),
    "no run": ("regnety-16gf", {"study": "fashion"}, "weights.run: missing; name the study and its run"),
    "no study": (
        "regnety-16gf",
        {"study": "fashoin", "run": "x"},
        "weights.study: there is no study 'fashoin'; did you mean 'fashion'?",
    ),
    "an unknown run": (
        "regnety-16gf",
        {"study": "fashion", "run": "regnety-16gf/labels/20/seed1"},
        "weights.run: the study fashion has no run 'regnety-16gf/labels/20/seed1'; did you mean 'regnety-16gf/",
    ),
    "its own run": (
        "regnety-16gf",
        {"study": "edited", "run": "x"},
        "models: weights go in a circle, edited <- edited",
    ),
    "a mean alone": ("regnety-16gf", TAG | {"mean": [0.5]}, "weights.mean: mean and std have 1 and 0 numbers"),
    "too few classes": ("regnety-16gf", TAG | {"classes": [[0]]}, "weights.classes: tells of 1 classes, and the study"),
    "a class twice": (
        "regnety-16gf",
        TAG | {"classes": [[0]] * 1000},
        "weights.classes: names the network's class 0 twice",
    ),
    "a class without any": (
        "regnety-16gf",
        TAG | {"classes": [[number] if number else [] for number in range(1000)]},
        "names no class of the network that means the study's class 0",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_mistake_is_told_before_anything_runs(tmp_path, mistake):
    model, source, words = REFUSED[mistake]
    with pytest.raises(ParamsError) as error:
        plan_study("edited", layered(tmp_path, weights(model, **source)))
    assert words in str(error.value)


def test_given_weights_do_not_stand_in_a_study_of_released_ones(tmp_path):
    with pytest.raises(ParamsError, match=r"stands in a study with the section released; remove it here"):
        load_study("edited", layered(tmp_path, weights("regnety-16gf", **TAG), "released"))


# From a file to the report --------------------------------------------------------------------------------------------

STATISTICS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
CLASSES = [[number] for number in range(1, 11)]
SMALL = {"embed_dim": 8, "num_heads": 1, "depth": 2}
STUDY = {
    "models": {
        "regnety-4gf": {
            "timm": "regnety_002",
            "arguments": None,
            "weights": {
                "file": "given/teacher.pth",
                "resolution": 24,
                **STATISTICS,
                "classes": CLASSES,
            },
        },
        "deit-ti": {"initial": {"file": "given/student.safetensors"}},
    },
    "students": {"epochs": 1},
    "tables": {
        "table_1": None,
        "table_2": {"student": "deit-ti", "teachers": ["regnety-4gf"]},
        "table_3": {"teacher": "regnety-4gf", "students": ["deit-ti"], "finetuned": ["deit-ti"]},
        "table_4": {"student": "deit-ti", "teacher": "regnety-4gf"},
        "table_5": {"convnets": ["regnety-4gf"], "students": ["deit-ti"], "finetuned": ["deit-ti"]},
        "token_analysis": None,
        "accuracy_throughput": None,
    },
}


def write_weights(folder: Path) -> None:
    """A teacher of colour photographs with twelve classes, and a backbone that was trained for seven."""
    folder.mkdir()
    torch.manual_seed(0)
    save_file(timm.create_model("deit_tiny_patch16_224", num_classes=7, img_size=15, in_chans=1, patch_size=5, **SMALL)
              .state_dict(), folder / "student.safetensors")  # fmt: skip
    net = timm.create_model("regnety_002", num_classes=12)
    net.head.fc.weight.data.mul_(20)
    torch.save({"model": net.state_dict()}, folder / "teacher.pth")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Plan:
    """The plan of such a study, after all of its jobs: the weights through Snakemake, all else in this process."""
    folder = tmp_path_factory.mktemp("given")
    for name in ("Snakefile", "workflow", "src", "local"):
        (folder / name).symlink_to(ROOT / name)
    write_weights(folder / "given")
    study = json.loads(json.dumps(STUDY))
    for model, part in (("regnety-4gf", "weights"), ("deit-ti", "initial")):
        source = study["models"][model][part]
        source["sha256"] = hashlib.sha256((folder / source["file"]).read_bytes()).hexdigest()
    layered(folder, study, "smoke", "edited")
    logging.getLogger().setLevel(logging.INFO)
    with working_in(folder):
        plan = plan_study("edited")
        targets = [f"{job.execution.output}/weights.safetensors" for job in plan.of_section("given")]
        snakemake_makes(*targets)
        for job in plan.jobs.values():
            if not plan.is_finished(job) and job.kind != "report":
                run_command(plan, job)
        (report,) = plan.of_section("report")
        output = report.execution.model_copy(update={"output": "reports/edited"})
        run_command(plan, report.model_copy(update={"execution": output}))
        yield plan
    logging.getLogger().setLevel(logging.WARNING)


def snakemake_makes(*targets: str) -> None:
    command = [word.replace("study=smoke", "study=edited") for word in COMMAND]
    run = subprocess.run([*command, "--", *targets], capture_output=True, encoding="utf-8", env=ENVIRONMENT)
    assert run.returncode == 0, run.stdout + run.stderr


def plain_teacher() -> torch.nn.Module:
    net = timm.create_model("regnety_002", num_classes=12)
    timm.models.load_checkpoint(net, "given/teacher.pth")
    return net.eval()


def as_the_teacher_sees(views: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Grey views in the study's normalisation as pixels, then RGB, larger, in the teacher's normalisation."""
    data = plan.study.data
    pixels = (views * data.std[0] + data.mean[0]).expand(-1, 3, -1, -1)
    pixels = interpolate(pixels, (24, 24), mode="bicubic", antialias=True)
    mean, std = (torch.tensor(STATISTICS[key])[:, None, None] for key in ("mean", "std"))
    return (pixels - mean) / std


def job_of(plan: Plan, start: str):
    return next(job for job in plan.jobs.values() if job.name.startswith(start))


@pytest.mark.long
@torch.inference_mode()
def test_the_cache_holds_what_plain_timm_says_of_the_students_views(finished):
    cache = job_of(finished, "teacher_logits/regnety-4gf/labels/15")
    recipe, result = cache.resolved(), read_result(Path(cache.execution.output))
    stream = ViewStream(
        training_images(recipe.data, finished.study.data.root), recipe.data, recipe.views, recipe.stream_seed
    )
    records, net = np.load(result.folder / "epoch-0000.npy").reshape(-1), plain_teacher()
    for group in range(2):
        made = stream[0, 0, group]
        views, _ = stream.finish(made, torch.device("cpu"))
        said = net(as_the_teacher_sees(views, finished))[:, 1:11].numpy()
        np.testing.assert_allclose(records["logits"][made.positions.numpy()], said, atol=1e-3)
    assert result.json("manifest.json")["differs"] == [
        "sees 24 pixels, resized from 15",
        "sees RGB, made of grey",
        "says 12 classes, 10 of which mean the study's 10",
    ]


@torch.inference_mode()
def test_its_predictions_are_plain_timms(finished):
    sheet = job_of(finished, "predictions/convnets/15").resolved()
    name = finished.study.data.primary
    (path,) = Path("results/edited/predictions").glob(f"convnets/15-*/regnety-4gf/labels/15/seed0/{name}.parquet")
    images = evaluation_images(sheet.data, sheet.evaluation_sets[name], finished.study.data.root)
    views = EvaluationViews(images, evaluation_transform(sheet.data, sheet.view))
    first = torch.stack([views[number] for number in range(100)])
    said = plain_teacher()(as_the_teacher_sees(first, finished))[:, 1:11]
    found = pq.read_table(path)["class_top5"].to_pylist()[:100]
    assert [top[0] for top in found] == said.argmax(1).tolist()


def test_the_adaptation_starts_from_the_given_teacher_with_a_new_head(finished):
    log = Path(job_of(finished, "adapted/regnety-4gf").execution.output, "log.txt").read_text(encoding="utf-8")
    assert "starts from given weights: a new head.fc for 10 classes: the given one has 12" in log
    assert "stem.conv.weight for 1 channels, made of that for 3" in log


def test_students_start_from_the_initial_weights(finished):
    for supervision, told in (("labels", "a new head for 10 classes"), ("token", "a new distillation token")):
        folder = Path(job_of(finished, f"students/deit-ti/{supervision}").execution.output)
        assert told in (folder / "log.txt").read_text(encoding="utf-8")
    (initial,) = [job for job in finished.of_section("given") if job.name.endswith("initial")]
    assert "head.weight" in read_weights(Path(initial.execution.output, "weights.safetensors"))


def test_the_report_says_where_weights_come_from(finished):
    page = re.sub(r"\s+", " ", Path("reports/edited/index.html").read_text(encoding="utf-8"))
    sha256 = finished.study.models["regnety-4gf"].weights.sha256[:16]
    assert f"regnety-4gf/labels/15/seed0: teacher.pth, sha256 <code>{sha256}</code>, which sees 24 pixels" in page
    assert 'beside <a href="#given">given weights</a>' in page and str(Path.cwd()) not in page
