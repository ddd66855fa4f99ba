"""The plan: exactly the runs of the tables, and digests that change where, and only where, something changed."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from plan import plan as plan_module
from plan.runs import Run
from plan.studies import plan_study
from study.names import known_studies
from study.params import ParamsError
from study.seeds import TEACHERS_STREAM

from deit.store.job import Job
from deit.store.reach import Code

STUDIES = ("fashion", "smoke", "imagenet")


def names(plan, *sections: str) -> set[str]:
    return {job.name for job in plan.of_section(*sections)}


def edited(tmp_path: Path, study: str, layer: dict):
    """The plan of a study with some keys changed, under the study's own name."""
    shutil.copytree("params", tmp_path / "params")
    (tmp_path / "params" / f"{study}.yaml").rename(tmp_path / "params" / "before.yaml")
    (tmp_path / "params" / f"{study}.yaml").write_text(yaml.safe_dump({"extends": "before"} | layer), encoding="utf-8")
    return plan_study(study, tmp_path / "params")


def changed(before, after) -> Counter:
    """Section/model of the jobs that are new in `after`."""
    return Counter("/".join(job.name.split("/")[:2]) for digest, job in after.jobs.items() if digest not in before.jobs)


@pytest.fixture(scope="module")
def fashion():
    return plan_study("fashion")


def test_imagenet_is_exactly_the_papers_runs():
    """Table 3: 12 trainings + 4 fine-tunings; Table 2: 4 more teachers, 4 students, 4 fine-tunings; each once.

    Soft distillation by the equation and as the original runs had it, 3 + 1 more. And
    the control of the token analysis, whose two tokens have one target.
    """
    plan = plan_study("imagenet")
    convnets = {f"regnety-{size}gf" for size in (4, 8, 12, 16)}
    assert {run.model for run in plan.runs if run.model.startswith("regnety") and run.resolution == 224} == convnets
    pretrained = {run for run in plan.runs if run.model.startswith("deit") and run.resolution == 224}
    teacher = "regnety-16gf"
    table_3 = {
        Run(model, method, "" if method == "labels" else teacher, 224, 0)
        for model in ("deit-ti", "deit-s", "deit-b")
        for method in ("labels", "soft", "soft-mean", "hard", "token")
    }
    table_2 = {Run("deit-b", "hard", name, 224, 0) for name in (convnets | {"deit-b"})}
    control = {Run("deit-b", "two-class-tokens", "", 224, 0)}
    assert pretrained == table_3 | table_2 | control
    assert len(table_3) == 15 and len(table_3 | table_2) == 19
    finetuned = {run for run in plan.runs if run.model == "deit-b" and run.resolution == 384}
    assert finetuned == {
        Run(r.model, r.supervision, r.teacher, 384, 0) for r in pretrained - control if r.model == "deit-b"
    }
    assert len(finetuned) == 9
    assert len(plan.runs) == 19 + 1 + 9 + 4 + 4, "nothing but the four convnets at two resolutions beside these"


@pytest.mark.parametrize("name", known_studies(Path("params")))
def test_every_study_of_the_repository_can_be_planned(name, monkeypatch):
    monkeypatch.setattr("study.params.file_problems", lambda study: iter(()))  # images that are not in git
    monkeypatch.setenv("DEIT_WEIGHTS", "here")
    assert plan_study(name).jobs


def test_imagenets_cache_covers_all_epochs_once():
    plan = plan_study("imagenet")
    chunks: dict[str, list] = {}
    for job in plan.of_section("teacher_logits"):
        recipe = job.resolved()
        chunks.setdefault(job.name.rpartition("/")[0], []).append((recipe.first_epoch, recipe.last_epoch))
    assert len(chunks) == 10, "five teachers, two resolutions"
    for teacher, spans in chunks.items():
        epochs = [epoch for first, last in sorted(spans) for epoch in range(first, last + 1)]
        assert epochs == list(range(300 if "/224/" in teacher else 25)), teacher


@pytest.mark.parametrize("study", [*STUDIES, "cifar10", "released"])
def test_recipes_survive_json_and_name_their_inputs(study):
    plan = plan_study(study)
    made = {job.execution.output for job in plan.jobs.values()}
    for digest, job in plan.jobs.items():
        again = Job.model_validate_json(job.model_dump_json())
        assert again.digest == digest == job.execution.output[-10:] and again.resolved() == job.resolved()
        assert set(job.inputs.values()) <= set(plan.jobs)
        assert {folder for folders in job.execution.folders.values() for folder in folders} <= made


def test_the_three_token_rows_are_one_run(fashion):
    table = next(job.resolved() for job in fashion.of_section("tables") if job.name == "tables/table_3")
    rows = {cell.row: cell.runs for cell in table.cells if cell.column == "deit-ti" and cell.row.startswith("token")}
    assert len(rows) == 4 and len(set(rows.values())) == 1


def test_tables_ask_what_a_model_is_not_how_it_is_called(tmp_path):
    """A transformer called resnet, and a convnet called deit-x, as teachers, in Table 5 and in the figure."""
    models = plan_study("fashion").study.model_dump(mode="json")["models"]
    layer = {
        "models": {"resnet": models["deit-ti"], "deit-x": models["regnety-4gf"]},
        "tables": {
            "table_2": {"teachers": ["resnet", "deit-x"]},
            "table_5": {"students": ["resnet"], "convnets": ["deit-x"], "finetuned": []},
        },
    }
    plan = edited(tmp_path, "fashion", layer)
    tables = {job.name: job.resolved() for job in plan.of_section("tables")}
    expected = {"resnet": "deit", "deit-x": "convnet", "resnet-token": "deit-distilled"}
    assert tables["tables/table_2"].options["families"] == {row: expected[row] for row in ("resnet", "deit-x")}
    assert tables["tables/table_5"].options["families"] == expected
    assert {cell.row: cell.column for cell in tables["tables/accuracy_throughput"].cells} == expected


def test_the_token_analysis_reads_the_runs_of_table_3(tmp_path):
    layer = {"supervision": {"another": {"loss": "token"}}, "tables": {"table_3": {"rows": {"token": "another"}}}}
    plan = edited(tmp_path, "fashion", layer)
    table = next(job.resolved() for job in plan.of_section("tables") if job.name == "tables/token_analysis")
    read = {run.split("/")[1] for cell in table.cells if cell.column == "token" for run in cell.runs}
    assert read == {"another-from-regnety-16gf"}


def test_a_transformer_without_a_second_token_stands_in_table_1(tmp_path):
    plain = {
        "kind": "transformer",
        "timm": "vit_tiny_patch16_224",
        "arguments": {"embed_dim": 16, "num_heads": 1, "patch_size": 5},
    }
    layer = {
        "models": {"plain": plain | {"stochastic_depth": 0.0}},
        "tables": {"table_1": {"models": ["plain", "deit-s"]}},
    }
    plan = edited(tmp_path, "fashion", layer)
    (measured,) = (job.recipe["models"] for job in plan.of_section("throughput"))
    assert {"plain", "deit-s", "deit-s-token"} <= measured.keys() and "plain-token" not in measured


def test_a_student_of_table_2_or_of_the_dial_has_one_head(tmp_path):
    for number, (table, layer) in enumerate(
        {
            "table_2": {"supervision": "token"},
            "dial": {
                "student": "deit-ti",
                "supervision": "token",
                "convnets": ["regnety-4gf", "regnety-8gf"],
                "transformers": ["deit-s"],
            },
        }.items()
    ):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(ParamsError, match=f"tables.{table}.supervision: 'token' adds a second token"):
            edited(tmp_path / str(number), "fashion", {"tables": {table: layer}})


def test_no_command_is_given_a_flag_without_folders(tmp_path):
    """Table 1 alone needs no run and no images: argparse would refuse `--runs` with nothing behind it."""
    others = dict.fromkeys(["table_2", "table_3", "table_4", "table_5", "token_analysis", "accuracy_throughput"])
    plan = edited(tmp_path, "fashion", {"tables": others})
    assert [job.kind for job in plan.jobs.values()] == ["networks", "throughput", "table", "report"]
    assert all(all(job.execution.folders.values()) for job in plan.jobs.values())


def test_a_finetuning_learns_from_the_teacher_of_its_resolution(fashion):
    high = fashion.study.resolutions.finetuning
    for run, digest in fashion.runs.items():
        if run.teacher:
            teacher = fashion.jobs[fashion.jobs[digest].inputs["teacher"]]
            assert teacher.resolved().views.resolution == run.resolution
            assert ("initial" in teacher.inputs) == (run.resolution == high)


def test_nothing_changes_without_an_edit(fashion, tmp_path):
    assert plan_study("fashion").jobs.keys() == fashion.jobs.keys()
    assert edited(tmp_path, "fashion", {}).jobs.keys() == fashion.jobs.keys()


# What is edited -> the jobs that are new, by section and model.
ALL_TABLES = {"tables/table_3", "tables/table_5", "tables/accuracy_throughput"}
EDITS = [
    (
        {"students": {"runs": {"deit-ti/hard": {"learning_rate": 1e-3}}}},
        {
            "students/deit-ti": 3,
            "predictions/deit-ti": 1,
            "tables/table_3": 1,
            "tables/table_5": 1,
            "tables/accuracy_throughput": 1,
            "report": 1,
        },
    ),
    ({"tables": {"table_3": {"caption": "Another."}}}, {"tables/table_3": 1, "report": 1}),
    ({"title": "Another"}, {"report": 1}),
    ({"execution": {"students": {"threads": 2, "minutes": 99}}}, {}),
    ({"data": {"root": "workflow/../workflow/resources/fashion-mnist"}}, {}),
    ({"data": {"decode": False}}, {}),
    (
        {"throughput": {"repeats": 7}},
        {"throughput/all": 1, "tables/table_1": 1, "tables/table_5": 1, "tables/accuracy_throughput": 1, "report": 1},
    ),
    ({"tables": {"token_analysis": {"images": 11}}}, {"tokens": "all", "tables/token_analysis": 1, "report": 1}),
]


@pytest.mark.parametrize(("layer", "expected"), EDITS, ids=[next(iter(layer)) for layer, _ in EDITS])
def test_an_edit_changes_what_follows_from_it_and_nothing_else(fashion, tmp_path, layer, expected):
    found = changed(fashion, edited(tmp_path, "fashion", layer))
    if "tokens" in expected:
        assert {name for name in found if not name.startswith("tokens/")} == set(expected) - {"tokens"}
        assert sum(count for name, count in found.items() if name.startswith("tokens/")) == len(
            fashion.of_section("tokens")
        )
    else:
        assert found == expected


def test_a_study_may_leave_decoding_out(fashion, tmp_path):
    after = edited(tmp_path, "fashion", {"data": {"decode": False}})
    asked = [{job.execution.decode for job in plan.of_section("data")} for plan in (fashion, after)]
    assert asked == [{True}, {False}]


def test_a_teachers_edit_reaches_its_cache_students_and_finetunings(fashion, tmp_path):
    after = edited(tmp_path, "fashion", {"teachers": {"runs": {"regnety-4gf": {"learning_rate": 0.01}}}})
    found = {job.name for digest, job in after.jobs.items() if digest not in fashion.jobs}
    trained = {name for name in found if name.split("/")[0] in ("teachers", "adapted", "students", "finetuned")}
    assert trained == {job.name for job in fashion.jobs.values() if job.kind == "train" and ("regnety-4gf" in job.name)}
    assert {name for name in found if name.startswith("teacher_logits")} == {
        job.name for job in fashion.of_section("teacher_logits") if "regnety-4gf" in job.name
    }


def distilled(plan, *losses: str) -> set[str]:
    """Trainings with one of these objectives, and those that start from them."""
    return {job.name for job in plan.jobs.values() if job.kind == "train" and job.recipe["objective"]["loss"] in losses}


@pytest.mark.parametrize(
    ("logits", "losses"),
    [
        ({"chunk_epochs": 1}, ()),
        ({"precision": "bf16"}, ("soft", "hard", "token")),
    ],
    ids=["chunks", "bf16"],
)
def test_a_student_is_named_by_how_exactly_it_hears_its_teacher(fashion, tmp_path, logits, losses):
    """Not by the chunks of the cache."""
    after = edited(tmp_path, "fashion", {"teacher_logits": logits})
    new = {job.name for digest, job in after.jobs.items() if digest not in fashion.jobs and job.kind == "train"}
    assert new == distilled(fashion, *losses)


def test_code_changes_what_it_makes(fashion, monkeypatch):
    """Another loss gives every training a new name, and no throughput."""
    file = "src/deit/learn/objectives/labels.py"
    other = Code(texts={file: Code().text_of(file).replace("cross_entropy(", "2 * cross_entropy(")})
    monkeypatch.setattr(plan_module, "our_code", lambda: other)
    after = plan_study("fashion")
    new = {job.kind for digest, job in after.jobs.items() if digest not in fashion.jobs}
    assert new == {"train", "cache", "predict", "tokens", "table", "report"}
    assert not any(digest in fashion.jobs for digest, job in after.jobs.items() if job.kind == "train")
    assert json.dumps(sorted(names(after, "throughput"))) == json.dumps(sorted(names(fashion, "throughput")))


def test_seeds_share_a_stream_or_have_their_own(tmp_path):
    shared = plan_study("fashion")
    own = edited(tmp_path, "fashion", {"seeds": {"streams": "per-seed"}})

    def streams(plan):
        students = {run: digest for run, digest in plan.runs.items() if not run.model.startswith("regnety")}
        return {(run.seed, plan.jobs[digest].resolved().stream_seed) for run, digest in students.items()}

    assert streams(shared) == {(seed, 0) for seed in {run.seed for run in shared.runs}}
    assert streams(own) == {(run.seed, run.seed) for run in own.runs}
    assert len(own.of_section("teacher_logits")) > len(shared.of_section("teacher_logits"))


@pytest.mark.parametrize("study", STUDIES)
def test_a_convnet_never_labels_the_views_that_it_learnt(study):
    plan = plan_study(study)
    taught = {digest: plan.jobs[digest].resolved() for run, digest in plan.runs.items() if "regnety" in run.model}
    caches = [job for job in plan.of_section("teacher_logits") if job.inputs["teacher"] in taught]
    assert taught and caches and {recipe.stream_seed for recipe in taught.values()} == {TEACHERS_STREAM}
    assert all(job.resolved().stream_seed != taught[job.inputs["teacher"]].stream_seed for job in caches)


def test_one_cache_serves_two_temperatures(tmp_path):
    layer = {
        "supervision": {"warm": {"loss": "soft", "temperature": 5.0, "reduction": "mean"}},
        "tables": {"table_3": {"rows": {"soft_mean": "warm"}}},
    }
    plan = edited(tmp_path, "fashion", layer)
    caches = {job.inputs["teacher"] for job in plan.of_section("teacher_logits") if job.recipe["keep"] == "dense"}
    assert len(caches) == 2 and len(names(plan, "teacher_logits")) == len(
        names(plan_study("fashion"), "teacher_logits")
    )


def test_recipes_are_written_once_and_listed(tmp_path, monkeypatch):
    plan = plan_study("smoke")
    monkeypatch.chdir(tmp_path)
    plan.write({})
    files = {path.stem: path.stat().st_mtime_ns for path in (tmp_path / "results/smoke/recipes").iterdir()}
    assert set(files) == set(plan.jobs)
    plan.write({})
    assert files == {path.stem: path.stat().st_mtime_ns for path in (tmp_path / "results/smoke/recipes").iterdir()}
    assert len((tmp_path / "results/smoke/plan.csv").read_text(encoding="utf-8").splitlines()) == len(plan.jobs) + 1
