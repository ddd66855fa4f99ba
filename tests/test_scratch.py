"""From scratch: a student beside its teacher; claims either way, the paper's numbers, and that it costs no training."""

from pathlib import Path

import pytest
import synthetic_study as study
import yaml
from plan.studies import plan_study
from study.params import ParamsError
from synthetic_tables import computed

from deit.tables.predictions import Inputs
from deit.tables.recipes import Cell, Table
from deit.tables.verdicts import findings

ROOT = Path(__file__).parents[1]
RUNS = {
    "teacher": ("regnety-16gf/labels/16/seed0",),
    "labels": tuple(f"deit-s/labels/16/seed{seed}" for seed in range(2)),
    "token": tuple(f"deit-s/token/16/seed{seed}" for seed in range(2)),
}


@pytest.fixture(scope="module")
def recipe() -> Table:
    heads = {"teacher": "class", "labels": "class", "token": "fusion"}
    return study.table_recipe(
        "scratch",
        [Cell(row=row, column="accuracy", runs=RUNS[row], read=heads[row], evaluation_set="test") for row in RUNS],
    )


def shown(root: Path, recipe: Table, teacher: float, labels: float, token: float):
    """The table where these are the means over two seeds, of 0.2 points above and below, and of one teacher."""
    by_run = {RUNS["teacher"][0]: {"class": teacher}}
    for seed, shift in enumerate(study.SEEDS):
        by_run[RUNS["labels"][seed]] = {"class": labels + shift}
        by_run[RUNS["token"][seed]] = {"class": 1.0, "distillation": 1.0, "fusion": token + shift, "fusion_logits": 1.0}
    return computed(recipe, Inputs([study.sheet(root, "scratch", by_run)]))


def test_the_token_is_read_by_both_heads_and_stands_beside_the_papers(recipe, tmp_path):
    table = shown(tmp_path, recipe, teacher=80.0, labels=70.0, token=75.0)
    assert dict(zip(table.frame["row"], table.frame["ours"], strict=True)) == pytest.approx(
        {"teacher": 80.0, "labels": 70.0, "token": 75.0}
    )
    assert table.frame["paper"].tolist() == [98.0, 97.5, 98.5]
    differences = {finding.key: finding.comparisons[0] for finding in findings([table])}
    assert differences["student_above_its_teacher"].ours == pytest.approx(-5.0)
    assert differences["student_above_its_teacher"].paper == pytest.approx(0.5)
    assert differences["token_over_none_from_scratch"].ours == pytest.approx(5.0)
    assert differences["token_over_none_from_scratch"].paper == pytest.approx(1.0)


@pytest.mark.parametrize(("teacher", "token", "verdict"), [(80.0, 60.0, "contradicted"), (60.0, 80.0, "holds")])
def test_the_claim_on_the_teacher_falls_either_way(recipe, tmp_path, teacher, token, verdict):
    found = {one.key: one for one in findings([shown(tmp_path, recipe, teacher, 50.0, token)])}
    assert found["student_above_its_teacher"].verdict == verdict
    assert "one network" in found["student_above_its_teacher"].remark


def test_it_reads_runs_that_other_tables_have(tmp_path):
    for name in ("fashion", "cifar10-small"):
        (tmp_path / f"{name}.yaml").write_bytes((ROOT / f"params/{name}.yaml").read_bytes())
    less = {"extends": "cifar10-small", "tables": {"scratch": None}}
    (tmp_path / "less.yaml").write_text(yaml.safe_dump(less), encoding="utf-8")
    every, fewer = (plan_study(name, tmp_path) for name in ("cifar10-small", "less"))
    assert {job.name for job in every.jobs.values()} - {job.name for job in fewer.jobs.values()} == {"tables/scratch"}


def test_a_supervision_without_token_is_refused(tmp_path):
    (tmp_path / "fashion.yaml").write_bytes((ROOT / "params/fashion.yaml").read_bytes())
    table = {"teacher": "regnety-16gf", "student": "deit-s", "token": "hard"}
    content = {"extends": "fashion", "tables": {"scratch": table}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ParamsError, match=r"tables\.scratch\.token: 'hard' has the loss hard, not token"):
        plan_study("mine", tmp_path)
