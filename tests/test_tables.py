"""Tables, findings and layout, from predictions whose accuracies and disagreements are known."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_study as study
from hypothesis import given, settings
from hypothesis import strategies as st

from deit.tables import cells, layout
from deit.tables import computed as tables
from deit.tables.comparisons import compare
from deit.tables.computed import PaperTable
from deit.tables.definition import definition
from deit.tables.each import accuracy_throughput, table_4
from deit.tables.forest import forest
from deit.tables.predictions import Inputs
from deit.tables.recipes import Cell, Table
from deit.tables.titles import title
from deit.tables.verdicts import Comparison, Finding, findings

STD = 0.4 / math.sqrt(2)
"""Sample standard deviation of two seeds 0.4 points apart."""
VERDICTS = [
    *["holds"] * 2,
    "contradicted",  # soft is .8 points above labels: by the mean over four columns surely more than the margin
    *["holds"] * 4,
    *["undecided"] * 2,  # Table 2: one seed of most students
    *["holds"] * 3,
    "undecided",  # one seed of the control
]
"""Table 3's first, then in the order of a report."""


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, list[Path]]:
    return study.build(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def inputs(results) -> Inputs:
    return Inputs([folder for section in ("predictions", "throughput", "tokens") for folder in results[section]])


def computed(recipe: Table, inputs: Inputs) -> PaperTable:
    """What tables.compute makes of a recipe file."""
    found, _ = definition(recipe.table).build(recipe, inputs)
    return PaperTable(recipe, found.frame(), compare(recipe, found), [])


@pytest.fixture(scope="module")
def shown(inputs) -> dict[str, PaperTable]:
    return {name: computed(recipe, inputs) for name, recipe in study.tables().items()}


@pytest.fixture(scope="module")
def frames(shown) -> dict:
    return {name: table.frame for name, table in shown.items()}


def value(frame, row, column, field="ours"):
    (found,) = frame[(frame["row"] == row) & (frame["column"] == column)][field]
    return found


def test_accuracy_is_the_share_of_images_whose_first_choice_is_a_target(frames):
    table = frames["table_3"]
    assert value(table, "labels", "deit-ti") == pytest.approx(70.2)
    assert value(table, "token_fusion", "deit-b-finetuned") == pytest.approx(84.2)
    assert value(table, "hard", "deit-s", "std") == pytest.approx(STD)
    assert value(table, "hard", "deit-s", "n") == 2
    assert value(table, "hard", "deit-s", "images") == study.IMAGES
    assert value(table, "hard", "deit-s", "paper") == 80.9
    assert value(table, "hard", "deit-s", "difference") == pytest.approx(78.5 - 80.9)
    assert math.isnan(value(table, "token_fusion_logits", "deit-s", "paper"))


def test_table_2_reads_teachers_and_students(frames):
    table = frames["table_2"]
    assert value(table, "regnety-8gf", "teacher") == pytest.approx(86.1)
    assert value(table, "regnety-8gf", "finetuned") == pytest.approx(81.0)
    assert math.isnan(value(table, "regnety-8gf", "finetuned", "std"))
    assert value(table, "regnety-16gf", "pretrained") == value(frames["table_3"], "hard", "deit-b")


def test_any_of_several_targets_counts_and_images_without_a_target_do_not(tmp_path):
    """ReaL: decisions are correct for the first 2 of 4 images by rank; the third has both classes, the fourth none."""
    folder = study.sheet(tmp_path, "s", {"m/labels/16/seed0": {"class": 50.0}})
    path = folder / "m/labels/16/seed0/test.parquet"
    first = study.decisions(50.0, 4)
    right = [int(c) for c in first]
    targets = [[right[0]], [right[1] + 1], [right[2] + 1, right[2]], []]
    study.write_predictions(path, {"class": 50.0}, targets)
    study.sealed(folder)
    inputs = Inputs([folder])
    assert inputs.correct("m/labels/16/seed0", "test", "class").tolist() == [True, False, True]
    assert inputs.images("m/labels/16/seed0", "test") == ("0", "1", "2")
    assert inputs.decisions("m/labels/16/seed0", "test", "class").tolist() == right[:3]


def test_disagreement_is_exact_symmetric_and_pairs_seeds(frames):
    table = frames["table_4"]
    matrix = table.pivot(index="row", columns="column", values="ours")
    assert np.allclose(matrix, matrix.T)
    assert (np.diag(matrix) == 0).all()
    assert matrix.loc["ground_truth", "convnet"] == pytest.approx(1 - 0.874)
    assert matrix.loc["deit", "token_class"] == pytest.approx(0.81 - 0.772)
    assert matrix.loc["token_class", "token_distillation"] == pytest.approx(0.011)
    assert value(table, "convnet", "deit", "n") == 2  # one convnet meets both seeds
    assert value(table, "convnet", "deit", "std") == pytest.approx(STD / 100)
    assert value(table, "token_fusion", "ground_truth", "paper") == 0.166
    assert value(table, "ground_truth", "token_fusion", "paper") == 0.166


@given(st.lists(st.integers(0, 3), min_size=3, max_size=40), st.data())
def test_disagreement_is_a_distance(decided, data):
    """Symmetric, and no detour over a third classifier is shorter."""
    as_long = st.lists(st.integers(0, 3), min_size=len(decided), max_size=len(decided))
    other, third = data.draw(as_long), data.draw(as_long)

    class Fixed:
        said = {"a/seed0": np.array(decided), "b/seed0": np.array(other), "c/seed0": np.array(third)}

        def images(self, run, evaluation_set):
            return tuple(map(str, range(len(self.said[run]))))

        def decisions(self, run, evaluation_set, read):
            return self.said[run]

    classifiers = {name: Cell(row=name, column="", runs=(f"{name}/seed0",)) for name in "abc"}

    def distance(one: str, two: str) -> float:
        return table_4.disagreements(Fixed(), classifiers, one, two).estimate().mean

    differing = sum(x != y for x, y in zip(decided, other, strict=True))
    assert distance("a", "b") == distance("b", "a") == differing / len(decided)
    assert distance("a", "b") <= distance("a", "c") + distance("c", "b") + 1e-12


def test_disagreement_pairs_the_seeds_that_both_have(inputs):
    one, other = (study.seeds("deit-b", method) for method in ("labels", "hard"))
    classifiers = {
        "deit": Cell(row="deit", column="", runs=one, evaluation_set="test"),
        "token_class": Cell(row="token_class", column="", runs=other, evaluation_set="test"),
        "second": Cell(row="second", column="", runs=other[1:] * 2, evaluation_set="test"),
    }
    assert table_4.disagreements(inputs, classifiers, "deit", "token_class").seeds == (0, 1)
    shared = table_4.disagreements(inputs, classifiers, "deit", "second")
    assert shared.seeds == (0, 1) and shared.shared


def test_throughput_stands_beside_accuracy(frames):
    table = frames["table_5"]
    assert list(dict.fromkeys(table["column"])) == ["images_per_second", "test", "corrupted"]
    assert value(table, "deit-s", "images_per_second") == 4000
    assert value(table, "deit-s", "images_per_second", "paper") == 940.4
    assert value(table, "deit-s-token", "corrupted") == pytest.approx(69.2)
    assert value(table, "deit-s-token", "corrupted", "paper") == 70.0  # v2
    points = frames["accuracy_throughput"]
    assert value(points, "deit-s-token", "accuracy") == pytest.approx(79.2)
    assert value(points, "deit-s-token", "accuracy", "paper") == 81.2


def test_variants_come_from_the_measured_models(frames):
    table = frames["table_1"]
    assert value(table, "deit-ti", "embedding_dimension") == 32
    assert value(table, "deit-b", "layers", "paper") == 12
    assert value(table, "deit-s", "parameters") == 2 * 12345
    assert value(table, "deit-s", "parameters_with_distillation_token") > value(table, "deit-s", "parameters")
    assert value(table, "deit-s", "resolution") == 16


def test_token_cosines_by_layer_with_the_control(frames):
    table = frames["token_analysis"]
    assert value(table, "input", "deit-ti/token") == pytest.approx(0.05)
    assert value(table, "input", "deit-ti/token", "paper") == 0.06
    assert value(table, "layer_4", "deit-ti/token", "paper") == 0.93
    assert math.isnan(value(table, "layer_3", "deit-ti/token", "paper"))
    assert value(table, "layer_4", "deit-ti/two_class_tokens") == pytest.approx(0.998)
    assert value(table, "layer_4", "deit-ti/two_class_tokens", "paper") == 0.999


def test_a_run_whose_tokens_were_not_compared_is_named(inputs):
    recipe = study.table_recipe("token_analysis", [Cell(row="deit-b", column="token", runs=("deit-b/token/16/seed9",))])
    with pytest.raises(SystemExit, match="deit-b/token/16/seed9: none of the table's inputs compares"):
        definition("token_analysis").build(recipe, inputs)


def test_missing_cells_are_dashes(inputs):
    recipe = study.table_recipe("table_3", [Cell(row="soft_mean", column="deit-ti", runs=())])
    frame = computed(recipe, inputs).frame
    assert frame["n"].tolist() == [0] and frame["ours"].isna().all()
    assert layout.grid(recipe, frame)[2]["soft_mean", "deit-ti"] == layout.Shown(ours="—")
    assert "—" in layout.table_html(recipe, frame, [])


def test_best_of_each_column_is_bold_and_spread_is_shown(frames):
    recipe = study.tables()["table_3"]
    rows, columns, shown = layout.grid(recipe, frames["table_3"])
    best = {row for row in rows for column in columns if shown[row, column].best}
    assert best == {"token_fusion", "token_fusion_logits"}  # equal here
    assert shown["hard", "deit-ti"] == layout.Shown("74.5", "± 3.7", "74.3 · +0.2", False)
    fourth = layout.grid(study.tables()["table_4"], frames["table_4"])[2]
    assert fourth["convnet", "deit"] == layout.Shown(".102", "± .031", ".133 · −.031")
    assert fourth["deit", "deit"] == layout.Shown("0")


def test_seeds_are_counted_in_each_cell_only_where_they_differ(frames):
    frame = frames["table_3"].copy()
    frame.loc[0, "n"] = 3
    assert layout.grid(study.tables()["table_3"], frame)[2]["labels", "deit-ti"].spread.endswith(" (3)")
    assert "over the seeds in parentheses and 1,000 test images" in layout.notes(study.tables()["table_3"], frame)[1]


def test_notes_say_what_plus_minus_is(frames):
    """n, images and test beside each number; of one seed nothing but that its spread is unknown."""
    recipes = study.tables()
    third, second = (layout.notes(recipes[name], frames[name])[1] for name in ("table_3", "table_2"))
    assert third.startswith("The interval is over 2 seeds and 1,000 test images (analysis of variance")
    assert "one seed" not in third and "Accuracies without ± are of one seed: how much another seed" in second
    single = frames["table_3"].assign(n=1, low=math.nan, high=math.nan)
    assert layout.notes(recipes["table_3"], single)[1].startswith("One seed, 1,000 test images: how much another")
    assert "±" not in str(layout.grid(recipes["table_3"], single))
    assert (
        "2 seeds (Student’s t). Cosines without ±"
        in layout.notes(recipes["token_analysis"], frames["token_analysis"])[1]
    )
    for name, frame in frames.items():
        assert "standard error" not in " ".join(layout.notes(recipes[name], frame))


@pytest.mark.parametrize("name", ["table_1", "table_2", "table_3", "table_4", "table_5", "token_analysis"])
def test_latex_is_balanced_and_rectangular(frames, name):
    recipe, frame = study.tables()[name], frames[name]
    text = layout.table_latex(recipe, frame, ["50 % of a_b & more"])
    assert text.count("{") == text.count("}") and r"50 \% of a\_b \& more" in text
    body = [line for line in text.split(r"\toprule")[1].split("\n") if line.endswith(r"\\")]
    assert {line.count(" & ") for line in body} == {frame["column"].nunique()}
    assert text.isascii()


SPECIAL = {rf"\{letter}": letter for letter in "&%#_${}"} | {
    r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^",
    r"\textless{}": "<", r"\textgreater{}": ">", r"\textbar{}": "|",
}  # fmt: skip
ESCAPED = re.compile("|".join(map(re.escape, SPECIAL)))


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S", "Z")), max_size=30))
@settings(deadline=None)
def test_no_letter_of_a_text_is_an_order_to_latex(text):
    """What LaTeX takes for its own is written out, and reads back as it was."""
    written = layout.latex(text)
    assert ESCAPED.sub(lambda found: SPECIAL[found[0]], written) == text
    assert not set(ESCAPED.sub("", written)) & set("&%#_${}\\~^<>|")


def test_a_caption_is_escaped_too(frames):
    recipe = study.tables()["table_1"].model_copy(update={"caption": "100 % of \\input{x}\n\n~ & ^"})
    text = layout.table_latex(recipe, frames["table_1"], [])
    assert r"100 \% of \textbackslash{}input\{x\}  \textasciitilde{} \& \textasciicircum{}" in text


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


def reversed_methods(recipe: Table, **swapped: str) -> Table:
    """The recipe with the runs of some rows exchanged."""
    runs = {(cell.row, cell.column): cell.runs for cell in recipe.cells}
    moved = tuple(
        cell.model_copy(update={"runs": runs[swapped.get(cell.row, cell.row), cell.column]}) for cell in recipe.cells
    )
    return recipe.model_copy(update={"cells": moved})


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
    assert {finding.remark for finding in found} <= {"The study does not have these runs.", ""}
    assert not any("averaged over classes" in finding.claim for finding in found), "a row that is not there"


def test_a_size_that_the_study_lacks_is_named(inputs):
    recipe = study.tables()["table_3"]
    fewer = tuple(
        cell.model_copy(update={"runs": ()}) if (cell.row, cell.column) == ("hard", "deit-s") else cell
        for cell in recipe.cells
    )
    first, *_ = findings([computed(recipe.model_copy(update={"cells": fewer}), inputs)])
    assert first.verdict == "undecided", "no claim holds for a size that was not measured"
    assert first.remark == "Not measured: DeiT-S."
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


def test_an_interval_of_two_seeds_does_not_flatten_a_figure(frames):
    """A bar that is longer than all points together runs out of the frame; others are in it."""
    recipe, frame = study.tables()["accuracy_throughput"], frames["accuracy_throughput"].copy()
    first = frame.index[frame["column"] == "accuracy"][0]
    frame.loc[first, ["low", "high"]] = [-20.0, 200.0]
    points = frame[frame["column"] == "accuracy"]
    low, high = accuracy_throughput.draw(recipe, frame).axes[0].get_ylim()
    others = points.drop(first)
    assert low < others["low"].fillna(others["ours"]).min() and others["high"].fillna(others["ours"]).max() < high
    assert low < points["ours"].min() and low > -20 and high < 120


def test_metrics_have_the_agreed_keys(shown):
    metrics = json.loads(json.dumps(tables.metrics(shown.values())))
    assert set(metrics["table_2"]["regnety-4gf"]) == {"teacher", "pretrained", "finetuned"}
    for method in ("labels", "soft", "hard", "token_class", "token_distillation", "token_fusion"):
        assert set(metrics["table_3"][method]) == {"deit-ti", "deit-s", "deit-b", "deit-b-finetuned"}
    assert metrics["table_3"]["hard"]["deit-ti"] == 74.5
    assert metrics["table_4"]["convnet"]["deit"] == 10.2


def test_the_papers_numbers_are_where_the_paper_has_them():
    assert cells.paper("table_2").loc["regnety-16gf"].tolist() == [82.9, 83.0, 84.0]
    # The student of Table 2's last row is Table 3's hard distillation.
    assert cells.paper("table_3").loc["hard", ["deit-b", "deit-b-finetuned"]].tolist() == [83.0, 84.0]
    fourth = cells.paper("table_4")
    assert fourth.loc["ground_truth", "convnet"] == 0.171  # RegNetY-16GF: 82.9 %
    assert cells.paper("table_5").loc["deit-b-token-finetuned", "imagenet"] == 84.5


@pytest.mark.parametrize(
    ("run", "evaluation_set", "read", "message"),
    [
        ("deit-ti/none/16/seed0", "test", "class", "no sheet of predictions among the table's inputs holds this run"),
        ("deit-ti/labels/16/seed0", "v2", "class", "Name an evaluation set of the study"),
        ("deit-ti/labels/16/seed0", "test", "fusion", "the model has one head. Read it by 'class'"),
    ],
)
def test_what_is_missing_is_named(inputs, run, evaluation_set, read, message):
    with pytest.raises(SystemExit, match=message):
        inputs.correct(run, evaluation_set, read)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("deit-b-token-finetuned", "DeiT-B⚗ ↑"),
        ("regnety-16gf", "RegNetY-16GF"),
        ("deit-ti/two_class_tokens", "DeiT-Ti, two class tokens (control)"),
        ("deit-ti/token", "DeiT-Ti"),
        ("layer_3", "layer 3"),
        ("my-model", "my-model"),
    ],
)
def test_titles(key, text):
    assert title(key, definition("token_analysis").titles) == text


def test_a_studys_titles_go_first():
    assert title("test", {"test": "Fashion-MNIST test"}) == "Fashion-MNIST test"


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
