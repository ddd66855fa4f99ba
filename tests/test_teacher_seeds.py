"""`seeds.teachers: per-seed`: a student learns from the teacher of its own seed, and claims on teachers say so."""

import re
import shutil

import pytest
import synthetic_study
from plan.studies import plan_study
from study.problem import ParamsError
from synthetic_study import sheet
from synthetic_tables import computed

from deit.tables.paper_findings import ALL_SIZES, ONE_TEACHER
from deit.tables.predictions import Inputs
from deit.tables.verdicts import findings

PER_SEED = "{default: [0, 1], teachers: per-seed}"


@pytest.fixture
def planned(tmp_path):
    """Plans the smoke study with other seeds."""
    folder = shutil.copytree("params", tmp_path / "params")

    def plan(seeds: str):
        (folder / "several.yaml").write_text(f"extends: smoke\nseeds: {seeds}\n", encoding="utf-8")
        return plan_study("several", folder)

    return plan


def test_a_student_learns_from_the_teacher_of_its_seed(planned):
    plan = planned(PER_SEED)
    taught = [run for run in plan.runs if run.teacher]
    assert {run.seed for run in taught} == {0, 1}
    for run in taught:
        teacher = plan.settings.teacher_of(run)
        assert teacher.seed == run.seed and teacher.resolution == run.resolution and teacher in plan.runs
    convnets = [run for run in plan.runs if plan.settings.is_convnet(run.model)]
    assert {(run.seed, run.resolution) for run in convnets} >= {(0, 15), (1, 15)}
    caches = [job for job in plan.jobs.values() if job.name.startswith("teacher_logits/regnety-16gf")]
    assert {seed for job in caches for seed in re.findall(r"/seed(\d)", job.name)} == {"0", "1"}


def test_a_teachers_cell_has_all_its_seeds(planned):
    plan = planned(PER_SEED)
    for name, row, column in (("table_2", "regnety-16gf", "teacher"), ("table_4", "convnet", "")):
        (table,) = (job for job in plan.jobs.values() if job.name == f"tables/{name}")
        recipe = table.resolved()
        (cell,) = (cell for cell in recipe.cells if (cell.row, cell.column) == (row, column))
        assert [run[-5:] for run in cell.runs] == ["seed0", "seed1"], name
        assert recipe.options["teacher_a_seed"] is True


def test_teachers_of_all_seeds_see_one_stream_unless_seeds_have_views_of_their_own(planned):
    for lines, streams in (
        (PER_SEED, {1_000_000}),
        ("{default: [0, 1], teachers: per-seed, streams: per-seed}", {1_000_000, 1_000_001}),
    ):
        plan = planned(lines)
        convnets = [run for run in plan.runs if plan.settings.is_convnet(run.model)]
        assert {plan.settings.stream(run)[1] for run in convnets} == streams


def test_convnets_with_seeds_of_their_own_need_it(planned):
    own = "models: {regnety-16gf: [0, 1]}"
    with pytest.raises(ParamsError, match=r"or set seeds.teachers: per-seed"):
        planned(f"{{default: [0, 1], {own}}}")
    assert planned(f"{{default: [0, 1], {own}, teachers: per-seed}}")


def test_a_given_teacher_is_one_network_all_the_same_and_that_is_said(tmp_path, planned):
    given = "{default: [0, 1], teachers: per-seed}\nmodels: {regnety-16gf: {weights: {timm: regnety_160.deit_in1k}}}"
    (table,) = (job.resolved() for job in planned(given).jobs.values() if job.name == "tables/table_2")
    assert table.options["given_teachers"] == ["regnety-16gf"]
    recipe, inputs = synthetic_study.tables()["table_2"], Inputs([sheet(tmp_path, "all", synthetic_study.all_runs())])
    options = {"teacher_a_seed": True, "given_teachers": ["regnety-16gf"]}
    found = findings([computed(recipe.model_copy(update={"options": recipe.options | options}), inputs)])
    assert all("RegNetY-16GF: one given network teaches all seeds." in finding.remark for finding in found)


def test_a_mean_over_sizes_says_that_one_teacher_stands_behind_them(tmp_path):
    recipe, inputs = synthetic_study.tables()["table_3"], Inputs([sheet(tmp_path, "all", synthetic_study.all_runs())])
    several = recipe.model_copy(update={"options": recipe.options | {"teacher_a_seed": True}})
    for one, expected in ((recipe, False), (several, True)):
        remarks = [finding.remark for finding in findings([computed(one, inputs)]) if "sizes" in finding.rule]
        assert remarks and all((ALL_SIZES in remark) is expected for remark in remarks)


def test_claims_on_teachers_say_how_many_stand_behind_them(tmp_path):
    recipe, inputs = synthetic_study.tables()["table_2"], Inputs([sheet(tmp_path, "all", synthetic_study.all_runs())])
    several = recipe.model_copy(update={"options": recipe.options | {"teacher_a_seed": True}})
    for one, expected in ((recipe, True), (several, False)):
        found = findings([computed(one, inputs)])
        assert found and all((ONE_TEACHER in finding.remark) is expected for finding in found)
