"""Findings: what the tables of the synthetic study say of the paper's claims."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import synthetic_study as study
from synthetic_tables import computed, reversed_methods

from deit.tables import computed as tables
from deit.tables import layout
from deit.tables.computed import PaperTable
from deit.tables.forest import forest
from deit.tables.paper_findings import ONE_TEACHER
from deit.tables.predictions import Inputs
from deit.tables.recipes import Cell
from deit.tables.verdicts import Comparison, Finding, findings

VERDICTS = [
    *["holds"] * 2,
    "contradicted",  # soft is .8 points above labels: by the mean over four columns surely more than the margin
    *["holds"] * 4,
    *["undecided"] * 2,  # Table 2: one seed of most students
    *["holds"] * 3,
    "undecided",  # one seed of the control
]
"""Table 3's first, then in the order of a report."""


def test_every_finding_has_a_verdict(shown):
    """The study's seeds lie .4 points apart, its images number 1,000, and most gains are of some points."""
    found = findings(shown.values())
    by_claim = {finding.claim: finding for finding in found}
    assert [finding.verdict for finding in found] == VERDICTS
    hard = by_claim["Hard distillation beats no distillation."]
    assert [(one.what, one.decides, one.n, one.images, one.side) for one in hard.comparisons] == [
        (what, what == "mean over sizes", 2, 1000, "above")
        for what in ("mean over sizes", "DeiT-Ti", "DeiT-S", "DeiT-B")
    ]
    mean, first, *_ = hard.comparisons
    assert (mean.ours, mean.paper) == pytest.approx((4.3, 4.4 / 3)) and hard.rule == "mean over sizes: above 0"
    assert mean.places == () and first.places == (("hard", "deit-ti"), ("labels", "deit-ti"))
    assert (first.ours, first.paper) == pytest.approx((4.3, 2.1))
    images_alone = 1.96 * 100 * math.sqrt(0.043 * 0.957 / 999)  # the gain is the same for both seeds
    assert 0.9 * images_alone < first.ours - first.low <= images_alone
    assert hard.evidence[1] == "DeiT-Ti +4.3 [+3.1, +5.5], 2 seeds (paper +2.1)"
    (teachers,) = (finding for finding in found if "better teacher" in finding.claim)
    assert teachers.remark.endswith(" One seed: how much another seed, or another machine, would change is unknown.")
    assert teachers.remark.startswith("Each teacher is one network, from which the students of all seeds learn")
    assert math.isnan(teachers.p) and teachers.evidence[1] == "RegNetY-4GF +1.0, one seed (paper +0.8)"
    assert [one.what for one in teachers.comparisons if one.decides] == [
        f"RegNetY-{size}GF, mean over resolutions" for size in (4, 8, 12, 16)
    ]
    (outgrows,) = (finding for finding in found if "than its convnet" in finding.claim)
    assert outgrows.remark.startswith("Each teacher is one network")
    soft = by_claim["Usual (soft) distillation equals no distillation, within 0.5 points."]
    assert {(one.side, one.threshold) for one in soft.comparisons} == {("within", 0.5)} and len(soft.comparisons) == 5
    assert soft.rule == "mean over sizes and resolutions: within ±0.5"


def test_one_seed_is_never_more_than_undecided(inputs):
    """Whatever the gain: here every cell keeps the first of its runs."""
    for recipe in study.tables().values():
        single = tuple(cell.model_copy(update={"runs": cell.runs[:1]}) for cell in recipe.cells)
        table = computed(recipe.model_copy(update={"cells": single}), inputs)
        assert table.frame["low"].isna().all() and table.comparisons["low"].isna().all()
        for finding in findings([table]):
            assert finding.verdict == "undecided" and "One seed" in finding.remark and math.isnan(finding.p)


def test_a_finding_turns_with_the_numbers(inputs):
    recipe = reversed_methods(study.tables()["table_3"], hard="labels", labels="hard")
    first, *_ = findings([computed(recipe, inputs)])
    assert first.verdict == "contradicted" and first.evidence[1].startswith("DeiT-Ti −4.3 [−5.5, −3.1]")
    assert first.p == first.p_contradicted < 1e-6 and first.p_holds == 1


def test_a_claim_holds_as_far_as_its_least_part_and_falls_with_one(shown):
    """Intersection-union; the other way Bonferroni inside a claim; then Holm over claims."""
    third = shown["table_3"]
    rows = third.comparisons[third.comparisons["finding"] == "fusion_not_below_heads"].copy()
    assert rows["decides"].sum() == 2
    rows.loc[rows["decides"], "p_holds"] = [1e-9, 0.03]
    rows.loc[rows["decides"], "p_contradicted"] = [1 - 1e-9, 0.001]
    found = {one.key: one for one in findings([PaperTable(third.recipe, third.frame, rows, [])])}
    finding = found.pop("fusion_not_below_heads")
    assert (finding.verdict, finding.p_holds, finding.p_contradicted) == ("holds", 0.03, pytest.approx(0.002))
    assert {other.verdict for other in found.values()} == {"not measured"}, "what was not tested is no further test"


def test_what_stands_below_a_mean_decides_nothing(shown):
    """One size that turns out the other way, or for which nothing is sure, leaves the verdict to the mean."""
    third = shown["table_3"]
    rows = third.comparisons[third.comparisons["finding"] == "hard_over_none"].copy()
    rows.loc[~rows["decides"], ["p_holds", "p_contradicted"]] = [1.0, 0.0]
    first, *_ = findings([PaperTable(third.recipe, third.frame, rows, [])])
    assert first.verdict == "holds" and first.p_contradicted == 1


def test_a_transformer_may_have_any_name(shown, inputs):
    """Table 2's teachers are told by what they are: here both have names of the other kind."""
    names = {"deit-b": "regnety-like", "regnety-4gf": "deit-like"}
    recipe = shown["table_2"].recipe
    families = {names.get(row, row): family for row, family in recipe.options["families"].items()}
    renamed = tuple(cell.model_copy(update={"row": names.get(cell.row, cell.row)}) for cell in recipe.cells)
    options = recipe.options | {"families": families}
    recipe = recipe.model_copy(update={"cells": renamed, "rows": tuple(families), "options": options})
    table = computed(recipe, inputs)
    assert table.comparisons["difference"].tolist() == shown["table_2"].comparisons["difference"].tolist()
    ruled = [row for row, rule in layout.parted(recipe, list(families)) if rule]
    assert ruled == ["deit-like"], "the first convnet begins another part of the table"


def test_findings_without_their_runs_are_not_measured(inputs):
    cell = Cell(row="labels", column="deit-ti", runs=study.seeds("deit-ti", "labels"), evaluation_set="test")
    found = findings([computed(study.table_recipe("table_3", [cell]), inputs)])
    assert {finding.verdict for finding in found} == {"not measured"}
    assert {finding.remark.removeprefix(f"{ONE_TEACHER} ") for finding in found} == {
        "The study does not have these numbers."
    }
    assert not any("averaged over classes" in finding.claim for finding in found), "a row that is not there"


def test_a_size_that_the_study_lacks_is_named(inputs):
    recipe = study.tables()["table_3"]
    fewer = tuple(
        cell.model_copy(update={"runs": ()}) if (cell.row, cell.column) == ("hard", "deit-s") else cell
        for cell in recipe.cells
    )
    first, *_ = findings([computed(recipe.model_copy(update={"cells": fewer}), inputs)])
    assert first.verdict == "undecided", "no claim holds for a size that was not measured"
    assert first.remark == f"{ONE_TEACHER} Not measured: DeiT-S."
    assert [one.what for one in first.comparisons] == ["DeiT-Ti", "DeiT-B"], "and there is no mean"


def test_sizes_without_a_seed_in_common_have_no_mean(inputs):
    recipe = study.tables()["table_3"]
    apart = tuple(
        cell.model_copy(update={"runs": cell.runs[:1] if cell.column == "deit-ti" else cell.runs[1:]})
        for cell in recipe.cells
    )
    first, *_ = findings([computed(recipe.model_copy(update={"cells": apart}), inputs)])
    assert first.verdict == "undecided" and "There is no mean, as no seed is common to all." in first.remark


def test_both_reductions_of_the_soft_loss_are_held_against_no_distillation(inputs):
    """soft_mean is the labels' runs here: no difference at all, with certainty."""
    cells_ = [
        Cell(row=row, column="deit-ti", runs=study.seeds("deit-ti", method), evaluation_set="test")
        for row, method in (("labels", "labels"), ("soft", "hard"), ("soft_mean", "labels"))
    ]
    found = {one.claim: one for one in findings([computed(study.table_recipe("table_3", cells_), inputs)])}
    verdicts = {claim: one.verdict for claim, one in found.items() if "equals" in claim}
    assert list(verdicts.values()) == ["contradicted", "holds"]
    assert sum("averaged over classes" in claim for claim in found) == 2


def test_students_of_several_depths_are_each_judged_by_their_own_last_layer(tmp_path):
    depths = {"deit-ti": 2, "deit-s": 3}
    runs = {(model, kind): f"{model}/{kind}/16/seed" for model in depths for kind in ("token", "two_class_tokens")}
    tokens = [
        study.tokens(
            tmp_path, f"{run}{seed}", [0.1 + shift + seed / 1000 + layer / 10 for layer in range(depths[model] + 1)]
        )
        for (model, kind), run in runs.items()
        for shift in (0.3 if kind == "two_class_tokens" else 0.0,)
        for seed in range(3)
    ]
    cells_ = [
        Cell(row=model, column=kind, runs=tuple(f"{run}{seed}" for seed in range(3)))
        for (model, kind), run in runs.items()
    ]
    table = computed(study.table_recipe("token_analysis", cells_), Inputs(tokens))
    found = {one.key: one for one in findings([table])}
    apart = [one.what for one in found["tokens_stay_apart"].comparisons]
    assert apart[0] == "mean over sizes" and len(apart) == 3 and "Not measured" not in found["tokens_stay_apart"].remark
    assert found["tokens_stay_apart"].comparisons[0].ours == pytest.approx(0.3)
    grow = [one for one in found["tokens_grow_alike"].comparisons if one.decides]
    assert len(grow) == 1 + max(depths.values()) and grow[-1].n == 3  # the last layer is one student's alone
    assert "Not measured" not in found["tokens_grow_alike"].remark


def test_comparisons_are_saved_and_loaded(shown, tmp_path):
    for name, table in shown.items():
        folder = study.begun(tmp_path, "table", f"tables/{name}", table.recipe)
        tables.save(table, folder)
        assert (folder / f"{name}_comparisons.csv").exists() == (len(table.comparisons) > 0)
        loaded = tables.load(study.sealed(folder))
        pd.testing.assert_frame_equal(
            loaded.comparisons, table.comparisons.fillna(np.nan), check_dtype=False, rtol=1e-6
        )
        pd.testing.assert_frame_equal(loaded.frame, table.frame.fillna(np.nan), check_dtype=False, rtol=1e-6)
        assert [one.verdict for one in findings([loaded])] == [one.verdict for one in findings([table])]


def test_the_forest_shows_ours_and_the_papers_of_every_main_comparison(tmp_path):
    """A point and a cross a comparison; with one seed no interval; nothing where no main finding was measured."""
    comparisons = tuple(
        Comparison(what=size, ours=2.0, low=low, high=high, n=n, images=10_000, paper=1.1, threshold=0.0, side="above")
        for size, low, high, n in (("DeiT-Ti", 1.0, 3.0, 3), ("DeiT-S", math.nan, math.nan, 1))
    )
    finding = Finding(
        key="hard_over_none", table="table_3", claim="It is better.", verdict="undecided", comparisons=comparisons,
        rule="mean over sizes: above 0", p_holds=math.nan, p_contradicted=1.0, unit="points",
    )  # fmt: skip
    axes = forest([finding]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["DeiT-Ti", "DeiT-S"]
    assert [text.get_text() for text in axes.texts] == ["It is better.", "undecided"]
    crosses = [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() == "x"]
    assert crosses == [(1.1, 1.0), (1.1, 2.0)]
    reaches = [
        segment for bars in axes.collections for segment in bars.get_segments() if segment[0][1] == segment[1][1]
    ]
    assert [[list(end) for end in segment] for segment in reaches] == [[[1.0, 1.0], [3.0, 1.0]]]
    assert forest([replace(finding, key="another")]) is None
