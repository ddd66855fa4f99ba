"""The teacher's dial: students between two convnets, the claim at equal accuracy, what is refused; no training."""

from pathlib import Path

import numpy as np
import pytest
import synthetic_study as study
import yaml
from hypothesis import given
from hypothesis import strategies as st
from plan.studies import plan_study
from study.params import ParamsError
from synthetic_tables import computed

from deit.tables.definition import definition
from deit.tables.each.dial import EQUAL, STUDENT, TEACHER, between
from deit.tables.predictions import Inputs
from deit.tables.recipes import Cell, Table
from deit.tables.verdicts import findings

ROOT = Path(__file__).parents[1]
FAMILIES = {"deit-s": "deit", "short": "convnet", "middle": "convnet", "long": "convnet"}
TEACHERS = {"deit-s": (57.0, 59.0), "short": (50.0, 51.0), "middle": (60.0, 58.0), "long": (80.0, 79.0)}
"""Accuracy by seed; the transformer's lies between other convnets in one seed than in the other."""
STUDENTS = {"deit-s": (52.0, 52.5), "short": (51.0, 50.0), "middle": (54.0, 53.0), "long": (58.0, 59.0)}


def runs(row: str, column: str) -> tuple[str, ...]:
    return tuple(f"{row}/{column}/16/seed{seed}" for seed in range(2))


@pytest.fixture(scope="module")
def recipe() -> Table:
    places = [(row, column) for row in FAMILIES for column in (TEACHER, STUDENT)]
    cells = [Cell(row=r, column=c, runs=runs(r, c), read="class", evaluation_set="test") for r, c in places]
    return study.table_recipe("dial", cells, families=FAMILIES, teacher_a_seed=True)


def inputs(root: Path, teachers: dict[str, tuple[float, float]]) -> Inputs:
    accuracies = {TEACHER: teachers, STUDENT: STUDENTS}
    by_run = {
        run: {"class": accuracy}
        for column, of_rows in accuracies.items()
        for row, values in of_rows.items()
        for run, accuracy in zip(runs(row, column), values, strict=True)
    }
    return Inputs([study.sheet(root, "dial", by_run)])


def on_the_line(seed: int) -> float:
    """By NumPy: the student of a convnet as accurate as the transformer of a seed."""
    convnets = [row for row, family in FAMILIES.items() if family == "convnet"]
    xs, ys = ([table[row][seed] for row in convnets] for table in (TEACHERS, STUDENTS))
    return float(np.interp(TEACHERS["deit-s"][seed], xs, ys))


def test_a_convnet_as_accurate_as_the_transformer_is_read_off_seed_by_seed(recipe, tmp_path):
    table = computed(recipe, inputs(tmp_path, TEACHERS))
    (cell,) = table.frame[table.frame["column"] == EQUAL].itertuples()
    assert cell.row == "deit-s" and cell.n == 2 and cell.images == study.IMAGES
    expected = [on_the_line(seed) for seed in range(2)]
    assert cell.ours == pytest.approx(np.mean(expected)) and cell.std == pytest.approx(np.std(expected, ddof=1))
    (finding,) = findings([table])
    (gain,) = finding.comparisons
    assert gain.ours == pytest.approx(np.mean([expected[seed] - STUDENTS["deit-s"][seed] for seed in range(2)]))
    assert gain.low < gain.ours < gain.high and finding.remark.startswith(
        "The convnet’s student is read off a straight line"
    )


def test_a_seed_in_which_no_convnet_is_as_bad_is_left_out_and_told(recipe, tmp_path):
    worse = TEACHERS | {"deit-s": (45.0, 59.0)}
    found, facts = definition("dial").build(recipe, inputs(tmp_path, worse))
    assert found.scores["deit-s", EQUAL].seeds == (1,)
    assert facts == ["Seeds in which deit-s is outside the accuracies of all convnets, and left out: 0."]
    none, facts = definition("dial").build(recipe, inputs(tmp_path / "none", TEACHERS | {"deit-s": (90.0, 91.0)}))
    assert ("deit-s", EQUAL) not in none.scores and facts[0].endswith("left out: 0, 1.")


def test_one_network_may_teach_all_seeds(recipe, tmp_path):
    """Each seed's students are read off at the accuracies of the same teachers, which the result says."""
    cells = [
        cell.model_copy(update={"runs": cell.runs[:1]}) if cell.column == TEACHER else cell for cell in recipe.cells
    ]
    shared = study.table_recipe("dial", cells, families=FAMILIES)
    found, facts = definition("dial").build(shared, inputs(tmp_path, TEACHERS))
    xs, ys = ([table[row] for row in FAMILIES if row != "deit-s"] for table in (TEACHERS, STUDENTS))
    expected = [np.interp(57.0, [x for x, _ in xs], [y[seed] for y in ys]) for seed in range(2)]
    equal = found.scores["deit-s", EQUAL]
    assert equal.seeds == (0, 1) and equal.shared and not facts
    assert list(equal.by_seed()) == pytest.approx(expected)


def with_one_run(recipe: Table, place: tuple[str, str]) -> list[Cell]:
    """The cells, that at a row and column with its first run alone."""
    return [
        cell.model_copy(update={"runs": cell.runs[:1]}) if (cell.row, cell.column) == place else cell
        for cell in recipe.cells
    ]


def test_a_given_teacher_among_those_of_each_seed_is_that_of_all(recipe, tmp_path):
    given = ("short", TEACHER)
    cells = with_one_run(recipe, given)
    shared = study.table_recipe("dial", cells, families=FAMILIES, teacher_a_seed=True, given_teachers=["short"])
    found, facts = definition("dial").build(shared, inputs(tmp_path, TEACHERS))
    xs, ys = ([table[row] for row in FAMILIES if row != "deit-s"] for table in (TEACHERS, STUDENTS))
    own = [[x[0] if row == 0 else x[seed] for row, x in enumerate(xs)] for seed in range(2)]
    expected = [np.interp(TEACHERS["deit-s"][seed], own[seed], [y[seed] for y in ys]) for seed in range(2)]
    equal = found.scores["deit-s", EQUAL]
    assert equal.seeds == (0, 1) and equal.shared and not facts
    assert list(equal.by_seed()) == pytest.approx(expected)


def test_a_seed_that_a_teacher_lacks_is_left_out_and_not_told_as_outside(recipe, tmp_path):
    lacks = ("short", TEACHER)
    cells = with_one_run(recipe, lacks)
    fewer = study.table_recipe("dial", cells, families=FAMILIES, teacher_a_seed=True)
    found, facts = definition("dial").build(fewer, inputs(tmp_path, TEACHERS))
    assert found.scores["deit-s", EQUAL].seeds == (0,) and not facts


@given(
    st.lists(
        st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=6, unique_by=lambda point: point[0]
    ),
    st.floats(0, 50),
)
def test_between_points_is_a_straight_line_and_outside_is_nothing(points, x):
    xs, ys = np.array(points, dtype=float).T
    found = between(xs, np.stack([ys, -ys], axis=1), x)
    if not xs.min() <= x <= xs.max():
        assert found is None
        return
    expected = np.interp(x, np.sort(xs), ys[xs.argsort()])
    np.testing.assert_allclose(found, [expected, -expected], atol=1e-9)


def test_convnets_that_are_equal_count_half_each():
    assert between(np.array([50.0, 50.0]), np.array([[1.0], [0.0]]), 50.0) == [0.5]


def test_the_figure_has_a_line_of_convnets_and_a_point_of_the_transformer(recipe, tmp_path):
    table = computed(recipe, inputs(tmp_path, TEACHERS))
    (axes,) = definition("dial").draw(recipe, table.frame).axes
    shown = {bars.get_label(): bars.lines[0].get_xydata().tolist() for bars in axes.containers}
    means = {row: [np.mean(TEACHERS[row]), np.mean(STUDENTS[row])] for row in FAMILIES}
    assert sorted(shown.values(), key=len) == [
        [pytest.approx(means["deit-s"])],
        [pytest.approx(means[row]) for row in ("short", "middle", "long")],
    ]
    assert {text.get_text() for text in axes.texts} >= {"short", "middle", "long"}


def test_a_study_asks_for_teachers_and_students_and_nothing_at_the_higher_resolution():
    plan = plan_study("cifar10-dial", ROOT / "params")
    (job,) = (job for job in plan.of_section("tables") if job.name.startswith("tables/"))
    assert job.name == "tables/dial" and len(job.recipe["cells"]) == 12
    assert job.recipe["options"]["families"]["resnet-2"] == "convnet"
    assert not any("/60/" in run for cell in job.recipe["cells"] for run in cell["runs"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"convnets": ["regnety-4gf"]}, "tables.dial.convnets"),
        ({"convnets": ["regnety-4gf", "deit-s"]}, "tables.dial.convnets: 'deit-s' is a transformer"),
        ({"transformers": ["regnety-4gf"]}, "tables.dial.transformers: 'regnety-4gf' is a convnet"),
        (
            {"supervision": "labels"},
            "tables.dial.supervision: 'labels' takes no teacher, and the dial compares teachers",
        ),
        ({"student": "nobody"}, "there is no model 'nobody'"),
    ],
)
def test_what_is_no_dial_is_refused_with_its_key(changes, words, tmp_path):
    dial = {"student": "deit-ti", "supervision": "hard", "convnets": ["regnety-4gf", "regnety-16gf"]}
    dial |= {"transformers": ["deit-s"]} | changes
    (tmp_path / "fashion.yaml").write_bytes((ROOT / "params/fashion.yaml").read_bytes())
    content = {"extends": "fashion", "tables": {"dial": dial}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ParamsError) as error:
        plan_study("mine", tmp_path)
    assert words in str(error.value)
