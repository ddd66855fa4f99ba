"""The spread over seeds that several trainings tell of: published analyses, simulated studies, and what counts."""

import math

import numpy as np
import pytest

from deit.tables import blocks
from deit.tables.paper_findings import Pair
from deit.tables.recipes import Cell, Table
from deit.tables.scores import Scores, difference
from deit.tables.student_t import quantile, upper_tail

# Student's two soporifics as independent samples: R's t.test(extra ~ group, data = sleep), Welch's test, prints
# t = -1.8608, df = 17.776, p-value = 0.07939 and the interval -3.3654832 0.2054832.
SLEEP = np.array(
    [[0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]]
)
# Montgomery, Design and Analysis of Experiments, the vascular graft experiment: yields at four pressures (rows) of six
# batches of resin (blocks). R's aov prints sums of squares 178.2, 192.2 and 109.9 (residual, 15 degrees of freedom).
GRAFTS = np.array(
    [
        [90.3, 89.2, 98.2, 93.9, 87.4, 97.9],
        [92.5, 89.5, 90.6, 94.7, 87.0, 95.8],
        [85.5, 90.8, 89.6, 86.2, 88.0, 93.4],
        [82.5, 89.5, 85.6, 87.4, 78.9, 90.7],
    ]
)
F_99 = {(3, 5): 10.925, (3, 10): 6.226, (5, 5): 5.412, (5, 10): 3.970}
"""Upper 1 % points of F for (S - 1, (M - 2)(S - 1)) degrees of freedom, from printed tables; by S and M."""
STUDIES = 20_000
UNEQUAL = {  # standard deviations of the trainings but for the first two, 1 where there are others
    "equal": (1, 1, 1),
    "one of the pair": (3, 1, 1),
    "the pair": (3, 3, 1),
    "another": (1, 1, 3),
    "another diverges": (1, 1, 20),
}


def test_about_others_that_do_not_vary_it_is_welchs_test():
    error, df = blocks.spread(np.vstack([SLEEP, np.zeros((4, 10))]))
    gain = SLEEP[1].mean() - SLEEP[0].mean()
    assert gain / error == pytest.approx(1.8608, abs=5e-5)
    assert df == pytest.approx(17.776, abs=5e-4)
    assert 2 * upper_tail(gain / float(error), float(df)) == pytest.approx(0.07939, abs=5e-6)
    half = quantile(0.975, float(df)) * error
    assert (-gain - half, -gain + half) == pytest.approx((-3.3654832, 0.2054832), abs=5e-7)


def test_what_moves_all_alike_is_no_spread():
    random = np.random.default_rng(0)
    hits, of_seed = random.integers(0, 1000, (6, 4)), random.integers(-500, 500, 4)
    assert blocks.spread(hits + of_seed) == pytest.approx(blocks.spread(hits), rel=1e-12)
    error, df = blocks.spread(np.array([[700], [640], [810], [500]]) + of_seed)
    assert (error, df) == (0, 3)


def simulated(seeds: int, trainings: int, deviations: tuple[float, ...]) -> np.ndarray:
    """Studies without any difference (STUDIES, M, S): independent normal numbers, and a seed that moves all."""
    random = np.random.default_rng(seeds + trainings)
    first, second, third = deviations
    of_training = np.array([first, second, third] + [1.0] * (trainings - 3))
    numbers = random.normal(size=(STUDIES, trainings, seeds)) * of_training[:, None]
    return numbers + random.normal(0, 5, (STUDIES, 1, seeds))


def rejected(numbers: np.ndarray, error: np.ndarray, df: np.ndarray, level: float) -> float:
    """The share of studies that two-sided tests at this level say differ."""
    grid = np.linspace(df.min(), df.max(), 100)
    bounds = np.interp(df, grid, [quantile(1 - level / 2, float(one)) for one in grid])
    gain = numbers[:, 0].mean(axis=-1) - numbers[:, 1].mean(axis=-1)
    return float(np.mean(np.abs(gain) > bounds * error))


@pytest.mark.parametrize("case", UNEQUAL)
@pytest.mark.parametrize(("seeds", "trainings"), [(3, 5), (3, 10), (5, 5), (5, 10)])
def test_however_trainings_vary_it_is_no_more_often_wrong_than_it_says(seeds, trainings, case):
    numbers = simulated(seeds, trainings, UNEQUAL[case])
    error, df = blocks.spread(numbers)
    assert rejected(numbers, error, df, 0.05) <= 0.055
    assert rejected(numbers, error, df, 0.0025) <= 0.0035  # the standard deviation of 20,000 studies is 0.0004


@pytest.mark.parametrize("seeds", [3, 5])
def test_two_that_vary_oppositely_are_not_much_more_often_told_apart(seeds):
    """Against the assumption: what is left of the two has a correlation of -0.5."""
    numbers = simulated(seeds, 5, UNEQUAL["equal"])
    of_seed = numbers[:, 2:].mean(axis=1)
    first, second = numbers[:, 0] - of_seed, numbers[:, 1] - of_seed
    numbers[:, 1] = of_seed - 0.5 * first + math.sqrt(0.75) * second
    assert rejected(numbers, *blocks.spread(numbers), 0.05) <= 0.065


def residual_mean_square(numbers: np.ndarray) -> np.ndarray:
    """Of the two-way analysis of variance without replication, as in the textbooks. (..., M, S) -> (...)"""
    trainings, seeds = numbers.shape[-2:]
    of_training, of_seed = numbers.mean(axis=-1, keepdims=True), numbers.mean(axis=-2, keepdims=True)
    residual = numbers - of_training - of_seed + of_seed.mean(axis=-1, keepdims=True)
    return np.square(residual).sum(axis=(-2, -1)) / ((trainings - 1) * (seeds - 1))


@pytest.mark.parametrize(("seeds", "trainings"), F_99)
def test_why_spreads_are_not_pooled(seeds, trainings):
    """The residual mean square, with a guard: a pair keeps its own spread if an F test at 1 % finds it larger."""
    assert residual_mean_square(GRAFTS) * 15 == pytest.approx(109.9, abs=0.05)
    wrong = {}
    for case in ("equal", "the pair"):
        numbers = simulated(seeds, trainings, UNEQUAL[case])
        own = (numbers[:, 0] - numbers[:, 1]).var(axis=-1, ddof=1) / 2
        pool, df = residual_mean_square(numbers), (trainings - 1) * (seeds - 1)
        rest = (df * pool - (seeds - 1) * own) / (df - (seeds - 1))
        guarded = own / rest > F_99[seeds, trainings]
        error = np.sqrt(2 * np.where(guarded, own, pool) / seeds)
        wrong[case] = rejected(numbers, error, np.where(guarded, seeds - 1, df), 0.0025)
        assert case != "equal" or np.mean(guarded) == pytest.approx(0.01, abs=0.003)
    assert wrong["equal"] < 0.0035 and wrong["the pair"] > 0.02, wrong


IMAGES = tuple(map(str, range(50)))
HEADS = {"token_class": "class", "token_distillation": "distillation", "token_fusion": "fusion"}


def table(name: str = "table_3", seeds: dict[str, range] | None = None) -> tuple[Table, dict]:
    """Two columns with five trainings each, one with three heads; and the hits behind the cells."""
    random, cells, scores = np.random.default_rng(1), [], {}
    for column in ("deit-ti", "deit-s"):
        for row in ("labels", "soft", "hard", *HEADS, "other"):
            over = (seeds or {}).get(row, range(3))
            method = "token" if row in HEADS else row
            runs = tuple(f"{column}/{method}/16/seed{seed}" for seed in over)
            cells.append(Cell(row=row, column=column, runs=runs, read=HEADS.get(row, "class"), evaluation_set="test"))
            values = random.random((len(over), 50)) < 0.6
            scores[row, column] = Scores(seeds=tuple(over), values=values, images=IMAGES, scale=100)
    return Table(table=name, cells=tuple(cells)), scores


def judged(better: tuple, worse: tuple | None, name: str = "table_3", **seeds: range):
    """The design's hits, and what is estimated from it."""
    recipe, scores = table(name, seeds)
    pair = Pair(what="", better=better, worse=worse)
    own = difference("", scores[better], scores[worse]) if worse else scores[better]
    return blocks.design(recipe, scores, pair, own), *blocks.estimate_of(recipe, scores, pair, own), own, scores


def test_each_training_of_a_column_counts_once():
    hits, found, pooled, own, scores = judged(("hard", "deit-s"), ("labels", "deit-s"))
    rows = sorted(scores[row, "deit-s"].values.sum(axis=1).tolist() for row in ("labels", "soft", "hard", "other"))
    fusion = scores["token_fusion", "deit-s"].values.sum(axis=1).tolist()
    assert pooled == len(hits) == 5 and sorted(hits.tolist()) == sorted([*rows, fusion])
    error, df = blocks.spread(hits)
    assert (found.seed_error, found.df) == pytest.approx((100 * error / 50, df)) and 2 <= found.df <= 4
    assert (found.mean, found.image_error) == (own.estimate().mean, own.estimate().image_error)


def test_a_pair_is_read_by_its_own_heads():
    hits, *_, scores = judged(("token_class", "deit-s"), ("hard", "deit-s"))
    first = sorted(scores[row, "deit-s"].values.sum(axis=1).tolist() for row in ("token_class", "hard"))
    assert len(hits) == 5 and sorted(hits[:2].tolist()) == first


def test_the_epochs_table_is_one_design():
    assert judged(("hard", "deit-s"), ("labels", "deit-ti"), "epochs")[2] == 10


@pytest.mark.parametrize(
    ("better", "worse", "name", "seeds"),
    [
        (("hard", "deit-s"), ("hard", "deit-ti"), "table_3", {}),  # across columns
        (("token_class", "deit-s"), ("token_fusion", "deit-s"), "table_3", {}),  # two heads of one training
        (("hard", "deit-s"), None, "table_3", {}),
        (("hard", "deit-s"), ("soft", "deit-s"), "table_4", {}),
        (("hard", "deit-s"), ("soft", "deit-s"), "table_3", {"other": range(2), "labels": range(1, 3)}),
        (("hard", "deit-s"), ("soft", "deit-s"), "table_3", {"hard": range(1), "soft": range(1)}),
    ],
)
def test_other_comparisons_keep_their_own_spread(better, worse, name, seeds):
    _, found, pooled, own, _ = judged(better, worse, name, **seeds)
    assert pooled is None and (found == own.estimate() or math.isnan(found.error))


def test_a_training_of_more_seeds_counts_by_those_of_the_pair():
    hits, _, pooled, *_ = judged(("hard", "deit-s"), ("soft", "deit-s"), other=range(5))
    assert pooled == 5 and hits.shape == (5, 3)


def test_the_note_says_over_how_many_trainings():
    assert blocks.note([]) == []
    (text,) = blocks.note([4, 5, 4])
    assert "(4 or 5 in all; Welch’s t)" in text and "vary independently" in text
