"""Whatever stands in params/, a study is planned or refused by one ParamsError: a line a mistake, file, key, remedy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import FOREIGN, ROOT, nested, refusal, write
from plan.passes import plan_passes
from plan.studies import plan_study
from study.params import ParamsError

# Values ---------------------------------------------------------------------------------------------------------------

VALUES = [
    ("models.deit-ti.arguments.patch_size", 0),
    ("models.deit-ti.arguments.patch_size", -5),
    ("models.deit-ti.arguments.patch_size", "five"),
    ("models.deit-ti.arguments.embed_dim", "x"),
    ("models.deit-ti.arguments.num_heads", 0),
    ("models.deit-ti.arguments.num_heads", 1.5),
    ("models.deit-ti.arguments.depth", [4]),
    ("models.deit-ti.arguments", {"a": {"b": 1}}),
    ("models.deit-ti.arguments.checkpoint_path", "weights.pth"),
    ("models.deit-ti.arguments.pretrained", True),
    ("models.deit-ti.arguments.features_only", True),
    ("models.deit-ti.arguments.img_size", 40),
    ("models.deit-ti.timm", "local-dir:weights"),
    ("models.deit-ti.timm", "../weights"),
    ("models.deit-ti.timm_distilled", "hf-hub:timm/deit_tiny_distilled_patch16_224"),
    ("models.deit-ti", None),
    ("models", None),
    ("models", []),
    ("supervision.labels", None),
    ("supervision.two-class-tokens", None),
    ("supervision", None),
    ("supervision", {"labels": None, "soft": None, "hard": None, "token": None, "two-class-tokens": None}),
    ("students.epochs", 10**12),
    ("students.epochs", 10**400),
    ("students.learning_rate", 1e300),
    ("students.epochs", 2.5),
    ("students.epochs", True),
    ("students.batch", 0),
    ("students.mix_group", 10**30),
    ("students.runs", {"deit-ti": {"epochs": 10**12}}),
    ("students.runs", {"deit-ti": {"learning_rate": "fast"}}),
    ("students.runs", {"deit-ti": {"learning_rate": [1]}}),
    ("students.runs", {"deit-ti": {"runs": 1}}),
    ("students.runs", {"deit-ti/hard-from-regnety-16gf": {"epochs": 1}}),
    ("students.runs", {"regnety-4gf": {"epochs": 1}}),
    ("students.runs", {"deit-ti/": {"epochs": 1}}),
    ("teachers.runs", {"deit-ti": {"epochs": 1}}),
    ("seeds.default", []),
    ("seeds.default", [-1]),
    ("seeds.default", [10**9]),
    ("seeds.default", "0"),
    ("seeds.models.deit-ti", [0.5]),
    ("resolutions.finetuning", 15),
    ("resolutions.pretraining", 10**9),
    ("data.mean", []),
    ("data.std", []),
    ("data.std", ["x"]),
    ("data.classes", 10**9),
    ("data.training.images", 0),
    ("data.training.files.images", "../../README.md"),
    ("data.training.files.images", "."),
    ("data.training.files.images", "a\0b"),
    ("data.root", "$(id)"),
    ("data.root", "~nobody/x"),
    ("data.root", ""),
    ("data.evaluation.test", None),
    ("data.evaluation", {"test": None, "corrupted": None}),
    ("teacher_logits.chunk_epochs", 0),
    ("execution.models", {"deit-ti": {"gpus": "all"}}),
    ("execution.models", {"deit-ti": {"gpus": 7}}),
    ("execution.models", {"deit-ti": {"output": 1}}),
    ("execution.default", {"minutes": 0}),
    ("execution.default", {"folders": 1}),
    ("execution.default.save_minutes", "soon"),
    ("execution.teachers", 5),
    ("tables", None),
    ("tables", dict.fromkeys(
        ("table_1", "table_2", "table_3", "table_4", "table_5", "token_analysis", "accuracy_throughput"))),
    ("tables.table_5", None),
    ("tables.table_1.models", []),
    ("tables.table_2.teachers", []),
    ("tables.table_2.supervision", "nothing"),
    ("tables.table_2.supervision", "token"),
    ("tables.table_3.rows", {"labels": None, "soft": None, "hard": None, "token": None}),
    ("tables.table_3.students", []),
    ("tables.table_3.students", ["deit-ti", "deit-ti"]),
    ("tables.table_3.students", "deit-ti"),
    ("tables.table_5.students", ["../x"]),
    ("tables.table_5.decimals", 99),
    ("tables.token_analysis.students", []),
    ("tables.token_analysis.images", -1),
    ("title", ["a"]),
    ("title", "x" * 60_000),
    ("views.scale", [1.0, 0.5]),
    ("views.scale", [1.0]),
    ("views.repeats", 10**20),
    ("data.evaluation.corrupted.corruption.seed", -5),
]  # fmt: skip
POSSIBLE = {("data.root", "$(id"), ("title", "xxxx")}
"""Of these, and how they begin: a folder may be called so, and a title may be long."""
REFUSED = [
    ("students.epochs", True, "students.epochs: must be a whole number, found true"),
    ("students.learning_rate", True, "students.learning_rate: must be a number, found true"),
    ("students.runs", {"deit-ti": {"learning_rate": True}}, "students.runs.deit-ti.learning_rate: must be a number"),
    ("data.mean", [True], "data.mean.0: must be a number, found true"),
    ("data.channels", True, "data.channels: must be a number, found true"),
    ("seeds.default", [False], "seeds.default.0: must be a whole number, found false"),
    ("students.epochs", 4.0, "students.epochs: must be a whole number, found 4.0; write 4."),
    ("students.epochs", "4", "students.epochs: must be a whole number, found '4'"),
    ("tables.table_1.models", ["deit-ti", "deit-s", "deit-ti"], "tables.table_1.models: has 'deit-ti' twice; remove"),
    ("tables.table_2.teachers", ["regnety-4gf"] * 2, "tables.table_2.teachers: has 'regnety-4gf' twice"),
    ("tables.table_3.finetuned", ["deit-s"] * 2, "tables.table_3.finetuned: has 'deit-s' twice"),
    ("tables.table_5.convnets", ["regnety-4gf"] * 2, "tables.table_5.convnets: has 'regnety-4gf' twice"),
    ("tables.token_analysis.control", ["deit-ti"] * 2, "tables.token_analysis.control: has 'deit-ti' twice"),
    (
        "seeds.models",
        {"regnety-4gf": [0, 1]},
        "seeds.models.regnety-4gf: 'regnety-4gf' is a convnet, and a convnet has",
    ),
    ("resolutions.finetuning", 10**9, "resolutions.finetuning: must be at most 4,096"),
    ("evaluation.crop", 1e-9, "evaluation.crop: must be at least 0.1"),
    ("views.scale", [0.5, 1.5], "views.scale.1: must be at most 1"),
    ("views.scale", [1e-30, 1], "views.scale.0: must be at least 0.0001"),
    ("students.weight_decay", 1e308, "students.weight_decay: must be at most 1000"),
    ("supervision.soft.temperature", 1e-300, "supervision.soft.temperature: must be at least 0.01"),
    ("models.regnety-4gf.arguments.wa", 1e300, "models.regnety-4gf.arguments.wa: must be "),
    ("execution.default.mem_mb", 10**15, "execution.default.mem_mb: must be at most 1,000,000,000"),
    *(
        (f"execution.passes.{name}", {"runs": ["*"]}, f"execution.passes.{name}: names hold letters")
        for name in ("a.b", "../x", "{x}")
    ),
]


@pytest.mark.parametrize(("key", "value", "words"), REFUSED, ids=[f"{key}={value}"[:60] for key, value, _ in REFUSED])
def test_a_value_that_nobody_could_mean_is_refused(params, key, value, words):
    *path, last = ("execution", "passes", key[17:]) if key.startswith("execution.passes.") else key.split(".")
    write(params, nested((*path, last), value))
    assert words in refusal("mutant", params)


def test_the_gpus_of_a_pass_share_its_mix_groups(params):
    write(params, {"execution": {"passes": {"ti": {"runs": ["deit-ti/*"], "resources": {"gpus": 4}}}}})
    plan = plan_study("mutant", params)
    with pytest.raises(ParamsError) as refused:
        plan_passes(plan, everything=True)
    text = "mutant.yaml: execution.passes.ti.resources.gpus: 4 GPUs (or CPU nodes) cannot share the 2 mix groups"
    assert text in str(refused.value) and str(refused.value).endswith("choose gpus x nodes that divide 2.")


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("arguments.checkpoint_path", "weights.pth", "remove it"),
        ("arguments.pretrained", True, "remove it"),
        ("arguments.features_only", True, "remove it"),
        ("arguments.img_size", 40, "comes from resolutions; remove it"),
        ("timm", "local-dir:weights", "without source or path"),
        ("timm_distilled", "hf-hub:timm/x", "without source or path"),
    ],
)
def test_weights_that_no_digest_knows_are_refused_with_their_key(params, key, value, remedy):
    write(params, nested(("models", "deit-ti", *key.split(".")), value))
    message = refusal("mutant", params)
    assert f"models.deit-ti.{key}: " in message and remedy in message


def test_other_labels_for_the_same_images_are_refused(params):
    """The manifest knows a split by its images."""
    test = plan_study("fashion", ROOT / "params").study.data.evaluation["test"].model_dump(mode="json")
    test["split"] |= {"files": test["split"]["files"] | {"labels": "train-labels-idx1-ubyte.gz"}, "md5": {}}
    write(params, {"data": {"evaluation": {"relabelled": test}}})
    message = refusal("mutant", params)
    assert "data.evaluation.relabelled.split.files.labels: 'train-labels-idx1-ubyte.gz' are other labels" in message
    assert "for the images of data.evaluation.test.split; give these images a second file name" in message


@pytest.mark.parametrize(("key", "value"), VALUES, ids=[f"{key}={value}"[:60] for key, value in VALUES])
def test_a_value_is_planned_or_refused(params, key, value):
    write(params, nested(tuple(key.split(".")), value))
    message = refusal("mutant", params)
    if (key, str(value)[:4]) in POSSIBLE:
        assert not message
    else:
        assert key in message or key == "supervision.two-class-tokens" and key.partition(".")[0] in message


# Names ----------------------------------------------------------------------------------------------------------------


def renamed(kind: str, name: str) -> dict:
    """A layer in which a model, a supervision or an evaluation set of that name is used."""
    content = plan_study("fashion", ROOT / "params").study.model_dump(mode="json")
    return {
        "models": {
            "models": {name: content["models"]["deit-ti"]},
            "tables": {"table_1": {"models": [name]}, "table_3": {"students": [name, "deit-s"]}},
        },
        "supervision": {
            "supervision": {name: content["supervision"]["hard"]},
            "tables": {"table_3": {"rows": {"hard": name}}},
        },
        "evaluation": {
            "data": {"evaluation": {name: content["data"]["evaluation"]["test"]}, "primary": name},
        },
    }[kind]


RESERVED = {
    "models": ("a-from-b", "deit-b-token", "deit-b-finetuned", "convnets", "x" * 65),
    "supervision": ("a-from-b", "x" * 65),
    "evaluation": ("images_per_second", "x" * 65),
}


@pytest.mark.long
@pytest.mark.parametrize("kind", RESERVED)
def test_names_that_cannot_work_are_refused(params, kind):
    for name in (*FOREIGN, *RESERVED[kind]):
        write(params, renamed(kind, name))
        message = refusal("mutant", params)
        assert "rename it" in message or "control character in it; remove it" in message, (name, message)


@pytest.mark.parametrize("kind", RESERVED)
def test_other_names_work(params, kind):
    for name in ("vit", "Vit_2-b", "2020", "x" * 64, "fromage"):
        write(params, renamed(kind, name))
        assert not refusal("mutant", params), name


@pytest.mark.parametrize("name", FOREIGN)
def test_a_study_has_a_name_too(params, name):
    assert "is no name of a study" in refusal(name, params)


# Snakemake ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "study", "words"),
    [
        ("extends: fashion\nmodels: {deit.x: {kind: transformer, timm: x}}\n", "mutant", "models.deit.x: "),
        ("extends: mutant\n", "mutant", "mutant -> mutant is a circle"),
        ("", "../x", "'../x' is no name of a study"),
        ("", "2020", "there is no study '2020'"),
    ],
    ids=["a name with a dot", "a circle", "a path", "a number"],
)
def test_snakemake_starts_nothing_and_shows_no_traceback(tmp_path, layer, study, words):
    for name in ("Snakefile", "workflow", "src", "local"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "params/mutant.yaml").write_text(layer, encoding="utf-8")
    command = ["-m", "snakemake", "--profile", "local", "-n", "--config", f"study={study}", "--", "all_tables"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, encoding="utf-8", env=environment
    )
    text = run.stdout + run.stderr
    assert run.returncode and words in text and "Traceback" not in text and "rule " not in text, text
    assert not (tmp_path / "results").exists()
