"""The table of soft distillation: which rows its claims compare, and how they fall; nothing trained."""

from pathlib import Path

import pytest
import synthetic_study as study
import yaml
from plan.studies import plan_study
from study.params import ParamsError
from test_tables import computed

from deit.learn.objectives import objective_class
from deit.tables.each.soft import row_of, said
from deit.tables.predictions import Inputs
from deit.tables.recipes import Cell, Table
from deit.tables.verdicts import findings

ROOT = Path(__file__).parents[1]
ACCURACIES = {
    "labels": 70.0,
    "hard": 73.0,
    "summed/0.1/1": 71.0,
    "summed/0.1/3": 72.0,
    "summed/0.5/3": 75.0,
    "summed/0.9/3": 77.0,
    "averaged/0.1/1": 70.0,
    "averaged/0.1/3": 70.0,
    "averaged/0.9/3": 79.0,  # no claim speaks of it
    "standardised/9/2": 79.0,
}


def runs(row: str) -> tuple[str, ...]:
    return tuple(f"deit-s/{row.replace('/', '-')}/16/seed{seed}" for seed in range(len(study.SEEDS)))


@pytest.fixture(scope="module")
def recipe() -> Table:
    cells = [Cell(row=row, column="deit-s", runs=runs(row), read="class", evaluation_set="test") for row in ACCURACIES]
    return study.table_recipe("soft", cells)


def verdicts(root: Path, recipe: Table, accuracies: dict[str, float]) -> dict:
    by_run = {
        run: {"class": accuracy + shift}
        for row, accuracy in accuracies.items()
        for run, shift in zip(runs(row), study.SEEDS, strict=True)
    }
    inputs = Inputs([study.sheet(root, "soft", by_run)])
    return {finding.key: finding for finding in findings([computed(recipe, inputs)])}


def gains(finding) -> dict[str, float]:
    return {one.what: round(one.ours, 3) for one in finding.comparisons}


def test_claims_compare_what_differs_in_one_setting_and_fall_either_way(recipe, tmp_path):
    found = verdicts(tmp_path / "one", recipe, ACCURACIES)
    assert gains(found["summed_over_averaged"]) == {
        "mean over temperatures": 1.5,
        "temperature 1": 1.0,
        "temperature 3": 2.0,
    }
    assert gains(found["hard_over_heavier_soft"]) == {
        "mean over weights and temperatures": -3.0,
        "weight 0.5, temperature 3": -2.0,
        "weight 0.9, temperature 3": -4.0,
    }
    assert [finding.verdict for finding in found.values()] == ["holds", "contradicted"]
    turned = ACCURACIES | {"hard": 79.0, "averaged/0.1/1": 74.0, "averaged/0.1/3": 74.0}
    assert [finding.verdict for finding in verdicts(tmp_path / "other", recipe, turned).values()] == [
        "contradicted",
        "holds",
    ]


def test_rows_of_a_study_are_named_by_what_they_are():
    plan = plan_study("cifar10-soft", ROOT / "params")
    (job,) = (job for job in plan.of_section("tables") if job.name == "tables/soft")
    read = {cell["row"]: cell["runs"][0].split("/")[1] for cell in job.recipe["cells"]}
    assert read["labels"] == "labels" and read["hard"] == "hard-from-resnet"
    assert read["summed/0.1/3"] == "soft-from-resnet" and read["averaged/0.1/3"] == "soft-mean-from-resnet"
    assert read["standardised/9/2"] == "standardised-from-resnet" and len(read) == 13
    assert job.recipe["options"]["titles"]["averaged/0.1/3"] == "KL averaged, weight 0.1, temperature 3"
    assert all(len(cell["runs"]) == 5 for cell in job.recipe["cells"])


def test_the_weight_of_the_labels_tells_standardised_rows_apart():
    usual, heavy = (
        objective_class("standardised")(loss="standardised", **more) for more in ({}, {"labels_weight": 0.5})
    )
    assert (row_of(usual), row_of(heavy)) == ("standardised/9/2", "standardised/9/2/0.5")
    assert said(*row_of(heavy).split("/")) == "logits standardised, weight 9, temperature 2, labels 0.5"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["soft", "hard"], "tables.soft.rows: 'hard' has the loss hard, neither soft nor standardised"),
        (["soft", "twin"], "tables.soft.rows: 'twin' is the same as 'soft'"),
        (["sofft"], "tables.soft.rows: there is no supervision 'sofft'"),
    ],
)
def test_rows_that_are_none_are_refused(rows, words, tmp_path):
    table = {"teacher": "regnety-16gf", "student": "deit-s", "hard": "hard", "rows": rows}
    twin = {"loss": "soft", "weight": 0.1, "temperature": 3.0, "reduction": "batchmean"}
    for name in ("fashion", "mine"):
        content = {"extends": "fashion", "supervision": {"twin": twin}, "tables": {"soft": table}}
        text = yaml.safe_dump(content) if name == "mine" else (ROOT / "params/fashion.yaml").read_text(encoding="utf-8")
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError) as error:
        plan_study("mine", tmp_path)
    assert words in str(error.value)
