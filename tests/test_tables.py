"""Tables, findings and layout, from predictions whose accuracies and disagreements are known."""

import json
import math
import re

import numpy as np
import pytest
import synthetic_study as study
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_tables import computed

from deit.tables import cells, layout
from deit.tables import computed as tables
from deit.tables.definition import definition
from deit.tables.each import accuracy_throughput, table_4
from deit.tables.predictions import Inputs
from deit.tables.recipes import Cell
from deit.tables.titles import title

STD = 0.4 / math.sqrt(2)
"""Sample standard deviation of two seeds 0.4 points apart."""


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
