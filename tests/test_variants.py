"""Variants of the recipe: the runs that ablation and epochs figure add, and what they share with the study's own."""

from pathlib import Path
from shutil import copytree

import pytest
from plan.plan import Plan
from plan.studies import plan_study
from study.params import ParamsError

ROOT = Path(__file__).resolve().parent.parent
STUDY = """
extends: smoke
variants:
  half: {students: {epochs: 1}}
  mixless: {views: {mixup: 0.0}}
  sgd: {finetuning: {optimizer: sgd, weight_decay: 0}}
  dropout: {model: {arguments: {proj_drop_rate: 0.1}, stochastic_depth: 0.1}}
tables:
  ablation:
    student: deit-s
    supervision: labels
    finetuned: true
    rows: {no_mixup: mixless, sgd_finetuning: sgd, dropout: dropout}
  epochs: {student: deit-s, teacher: regnety-16gf, rows: {labels: labels, hard: hard, token: token}, variants: [half]}
"""


@pytest.fixture
def params(tmp_path) -> Path:
    copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "params" / "varied.yaml").write_text(STUDY, encoding="utf-8")
    return tmp_path / "params"


def trained(plan: Plan) -> set[str]:
    return {job.name for job in plan.jobs.values() if job.kind == "train"}


def test_variants_add_their_own_runs_and_share_what_they_do_not_change(params):
    plan, smoke = plan_study("varied", params), plan_study("smoke", params)
    low, high = plan.settings.resolutions
    assert trained(plan) - trained(smoke) == {
        f"finetuned/deit-s/labels/{high}/seed0",
        f"students/deit-s/labels+mixless/{low}/seed0",
        f"finetuned/deit-s/labels+mixless/{high}/seed0",
        f"finetuned/deit-s/labels+sgd/{high}/seed0",
        f"students/deit-s/labels+dropout/{low}/seed0",
        f"finetuned/deit-s/labels+dropout/{high}/seed0",
        f"students/deit-s/labels+half/{low}/seed0",
        f"students/deit-s/hard-from-regnety-16gf+half/{low}/seed0",
        f"students/deit-s/token-from-regnety-16gf+half/{low}/seed0",
    }
    caches = {job.name for job in plan.jobs.values() if job.kind == "cache"}
    assert caches == {job.name for job in smoke.jobs.values() if job.kind == "cache"}, "shorter runs read the same"


def test_another_interpolation_renames_the_runs_of_its_phase_or_variant(params):
    (params / "edited.yaml").write_text(
        "extends: varied\nfinetuning: {views: {interpolation: bilinear}}\n"
        "variants: {mixless: {views: {interpolation: bilinear}}}\n",
        encoding="utf-8",
    )
    before, after = (
        {job.name: job for job in plan_study(name, params).jobs.values() if job.kind == "train"}
        for name in ("varied", "edited")
    )
    bilinear = {name for name, job in after.items() if job.recipe["views"]["interpolation"] == "bilinear"}
    assert {name for name, job in after.items() if job.digest != before[name].digest} == bilinear
    assert {name for name in bilinear if name.startswith("students/")} == {"students/deit-s/labels+mixless/15/seed0"}
    assert {name for name in after if name.startswith("finetuned/")} < bilinear


def test_a_variant_changes_its_keys_and_nothing_else(params):
    plan = plan_study("varied", params)
    low, high = plan.settings.resolutions
    recipes = {job.name: job.recipe for job in plan.jobs.values() if job.kind == "train"}
    own, mixless = (recipes[f"students/deit-s/labels{variant}/{low}/seed0"] for variant in ("", "+mixless"))
    assert mixless == own | {"views": own["views"] | {"mixup": 0.0}}
    own, sgd = (recipes[f"finetuned/deit-s/labels{variant}/{high}/seed0"] for variant in ("", "+sgd"))
    assert sgd == own | {"optimisation": own["optimisation"] | {"optimizer": "sgd", "weight_decay": 0}}
    dropout = recipes[f"students/deit-s/labels+dropout/{low}/seed0"]["model"]
    assert dropout["arguments"]["proj_drop_rate"] == dropout["stochastic_depth"] == 0.1
    assert dropout["arguments"]["embed_dim"] == 16, "arguments are added to the model's own"


def test_the_tables_say_which_runs_stand_in_their_cells(params):
    plan = plan_study("varied", params)
    tables = {job.name: job.resolved() for job in plan.jobs.values() if job.kind == "table"}
    ablation, epochs = tables["tables/ablation"], tables["tables/epochs"]
    assert ablation.rows == ("baseline", "no_mixup", "sgd_finetuning", "dropout")
    cells = {(cell.row, cell.column): cell.runs for cell in ablation.cells}
    assert cells["sgd_finetuning", "pretrained"] == cells["baseline", "pretrained"], "one run, named once"
    assert epochs.columns == ("1", "2") and epochs.rows == ("labels", "hard", "token_fusion")


@pytest.mark.parametrize(
    "edit, message",
    [
        ("variants: {half: {students: {epochz: 3}}}", "variants.half.students.epochz: there is no key of students"),
        ("variants: {half: {students: {optimizer: [sgd]}}}", "variants.half.students.optimizer: must be text"),
        ("variants: {half: {views: {mixup: -1}}}", "variants.half.views.mixup: must be at least 0, found -1"),
        ("variants: {half: {model: {timm: resnet50}}}", "variants.half.model.timm: there is no key of model"),
        ("variants: {half: {students: {mix_group: 7}}}", "variants.half: students.batch: 60 is not divisible"),
        ("variants: {half: {students: {epochs: 2}}}", "tables.epochs.variants: 'half' trains for 2 epochs"),
        (
            "variants: {half: {students: {optimizer: sgd, learning_rate: 0.1}}}",
            "variants.half.students.weight_decay: missing: sgd applies it in the gradient, and what is set is for ",
        ),
        (
            "students: {runs: {deit-s: {optimizer: sgd, weight_decay: 0}, deit-s/hard: {optimizer: lion}}}",
            "students.runs.deit-s/hard.weight_decay: missing: lion applies it to the weights, and what is set is for ",
        ),
        ("tables: {ablation: {rows: {no_mixup: mixles}}}", "there is no variant 'mixles'; did you mean 'mixless'?"),
        ("tables: {ablation: {rows: {baseline: half}}}", "tables.ablation.rows.baseline: is the study's own recipe"),
        ("tables: {ablation: {supervision: hard}}", "tables.ablation.supervision: 'hard' takes a teacher"),
        ("tables: {ablation: {finetuned: false}}", "'sgd' changes fine-tuning alone"),
        ("tables: {epochs: {rows: {hard: token}}}", "tables.epochs.rows.hard: 'token' has the loss token, not hard"),
        ("tables: {epochs: {student: regnety-16gf}}", "tables.epochs.student: 'regnety-16gf' is a convnet"),
    ],
)
def test_what_is_wrong_with_a_variant_is_said_before_anything_runs(params, edit, message):
    (params / "edited.yaml").write_text(f"extends: varied\n{edit}\n", encoding="utf-8")
    with pytest.raises(ParamsError) as refused:
        plan_study("edited", params)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "edit, message",
    [
        (
            "variants: {half: {model: {arguments: {num_heads: 3}}}}",
            "variants.half: models.deit-s.arguments.num_heads: 3 heads do not divide",
        ),
        ("students: {runs: {deit-s/hard: {epochs: 1}}}", "students.runs.deit-s: gives runs of tables.epochs 1 epochs"),
        ("models: {deit-s: {timm_distilled: ''}}", "the student of the epochs figure needs a distillation token"),
        (
            "execution: {students: {gpus: 2}}\nvariants: {half: {students: {batch: 90, mix_group: 30}}}",
            "variants.half: execution.students.gpus: 2 GPUs (or CPU nodes) cannot share 3 mix groups",
        ),
        (
            "teacher_logits: {chunk_epochs: 1}\nvariants: {half: {students: {epochs: 20000}}}",
            "variants.half: teacher_logits.chunk_epochs: 20000 epochs of students are more than 10000 caching jobs",
        ),
        (
            "tables: {deit3: {models: [deit-s], variants: [half, mixless]}}",
            "tables.deit3.variants: 'mixless' trains for 2 epochs, as the study itself does",
        ),
        (
            "students: {runs: {deit-s: {learning_rate: a}}}\ntables: {deit3: {models: [deit-s], variants: [half]}}",
            "students.runs.deit-s.learning_rate: must be a number",
        ),
    ],
)
def test_what_would_fail_or_mislead_late_is_said_first(params, edit, message):
    (params / "edited.yaml").write_text(f"extends: varied\n{edit}\n", encoding="utf-8")
    with pytest.raises(ParamsError) as refused:
        plan_study("edited", params)
    assert message in str(refused.value)


def test_published_weights_of_a_run_are_not_those_of_its_variants(params):
    (params / "edited.yaml").write_text(
        "extends: varied\n"
        "released: {source: hub, weights: {deit-s/labels/15: {timm: deit_small_patch16_224.fb_in1k}}}\n"
        "tables: {table_1: null, table_2: null, table_3: null, table_4: null, table_5: null, token_analysis: null, "
        "accuracy_throughput: null, epochs: null}\n",
        encoding="utf-8",
    )
    plan = plan_study("edited", params)
    assert {run.name for run in plan.runs} == {"deit-s/labels/15/seed0"}
    table = next(job.resolved() for job in plan.of_section("tables"))
    assert [cell.row for cell in table.cells if cell.runs and cell.column == "pretrained"] == [
        "baseline",
        "sgd_finetuning",
    ]
