"""Every number of every table, recomputed from the parquet files by pandas alone; nothing here is from deit.tables.

Read as the design says: a run's parquet has an image, its targets and the five first decisions of each head; the mean
squares of seeds and images come from group means, the quantile of Student's t from summing up its density.
"""

import math
from functools import cache
from itertools import product

import pandas as pd
import pytest
import synthetic_study as study

from deit.tables.recipes import Cell, Table

T_975 = 12.7062047362
"""Of Student's t with one degree of freedom."""


def beyond(t: float, df: float, points: int = 4000) -> float:
    """P(T > t) by summing up the density over the angle, t = sqrt(df) tan(angle): a power of a cosine."""

    def power_of_cosine(least: float) -> float:
        width = (math.pi / 2 - least) / points
        return sum(math.sin(width * (point + 0.5)) ** (df - 1) for point in range(points)) * width

    return power_of_cosine(math.atan(t / math.sqrt(df))) / power_of_cosine(-math.pi / 2)


@cache
def t_975(df: float) -> float:
    """The t beyond which 2.5 % lie."""
    low, high = 1.9, 13.0
    for _ in range(40):
        t = (low + high) / 2
        low, high = (t, high) if beyond(t, df) > 0.025 else (low, t)
    return low


def recomputed(values: pd.DataFrame, spread: tuple[float, float] | None = None) -> dict[str, float]:
    """Mean, 95 % interval and n of a frame with the columns seed, image and value.

    `spread`: the variance of one seed's value and its degrees of freedom, where others than the frame tell of it.
    """
    seeds, images = values["seed"].nunique(), values["image"].nunique()
    assert len(values) == seeds * images
    mean, of_seed = values["value"].mean(), values.groupby("seed")["value"].mean()
    found = {"mean": mean, "n": seeds, "images": images, "std": of_seed.std()}
    if seeds == 1:
        return found | {"low": math.nan, "high": math.nan}
    of_image = values.groupby("image")["value"].mean()
    fitted = values["seed"].map(of_seed) + values["image"].map(of_image) - mean
    ms_seed = images * ((of_seed - mean) ** 2).sum() / (seeds - 1)
    ms_image = seeds * ((of_image - mean) ** 2).sum() / (images - 1)
    ms_error = ((values["value"] - fitted) ** 2).sum() / ((seeds - 1) * (images - 1))
    variance, df = spread or (ms_seed / images, 1.0)
    parts = t_975(df) ** 2 * images * variance + 1.9599639845**2 * max(ms_image - ms_error, 0)
    half = math.sqrt(parts / (seeds * images))
    assert seeds == 2
    return found | {"low": mean - half, "high": mean + half, "df": df}


def welch(values: dict, runs: dict, better: tuple, worse: tuple) -> tuple[int, tuple[float, float]] | None:
    """Trainings of a column, and the variance of a difference of two of them in one seed with its degrees of freedom.

    None where the column has fewer than four trainings of these seeds, or the two are heads of one.
    """
    if better[1] != worse[1] or runs[better] == runs[worse]:
        return None
    heads = [better, worse, *(place for place in values if "token" not in place[0] or place[0] == "token_fusion")]
    one_each = {runs[place]: place for place in reversed(heads) if place[1] == better[1]}
    means = pd.DataFrame({place: values[place].groupby("seed")["value"].mean() for place in one_each.values()})
    means = means.loc[values[better]["seed"].unique()].dropna(axis=1)
    if len(means) < 2 or means.shape[1] < 4:
        return None
    one, other = ((means[side] - means.drop(columns=[side]).median(axis=1)).var() for side in (better, worse))
    return means.shape[1], (one + other, (len(means) - 1) * (one + other) ** 2 / (one**2 + other**2))


def decided(root, cell: Cell) -> pd.DataFrame:
    """seed, image, target and decision of a cell's runs."""
    parts = []
    for run in cell.runs:
        (path,) = root.glob(f"predictions/**/{run}/{cell.evaluation_set}.parquet")
        sheet = pd.read_parquet(path)
        first = sheet[f"{cell.read}_top5"].str[0]
        parts.append(
            pd.DataFrame(
                {
                    "seed": int(run[-1]),
                    "image": sheet["image"],
                    "decision": first,
                    "hit": [
                        decision in list(targets) for decision, targets in zip(first, sheet["targets"], strict=True)
                    ],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def outcomes(root, recipe: Table) -> dict[tuple[str, str], pd.DataFrame]:
    """Place of a cell -> seed, image, value, in the unit of the table."""
    cells = {(cell.row, cell.column): cell for cell in recipe.cells}
    if recipe.table != "table_4":
        found = {place: decided(root, cell) for place, cell in cells.items()}
        return {place: frame.assign(value=100.0 * frame["hit"]) for place, frame in found.items()}
    by_row = {row: decided(root, cell) for (row, _), cell in cells.items() if cell.runs}
    found = {}
    for row, column in product(by_row, by_row):
        if row != column:
            keys = ["seed", "image"] if by_row[row]["seed"].nunique() == by_row[column]["seed"].nunique() else ["image"]
            both = by_row[row].merge(by_row[column], on=keys, suffixes=("", "_other"))
            if "seed_other" in both and both["seed_other"].nunique() > 1:
                both["seed"] = both["seed_other"]
            found[row, column] = both.assign(value=(both["decision"] != both["decision_other"]).astype(float))
    truth = {row: frame.assign(value=1.0 - frame["hit"]) for row, frame in by_row.items()}
    found |= {("ground_truth", row): frame for row, frame in truth.items()}
    return found | {(row, "ground_truth"): frame for row, frame in truth.items()}


TABLES = ("table_2", "table_3", "table_4", "table_5")


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_is_what_the_predictions_say(noisy, name):
    table = noisy["tables"][name]
    values, compared = outcomes(noisy["root"], table.recipe), 0
    for row in table.frame.dropna(subset=["images"]).itertuples():
        expected = recomputed(values[row.row, row.column])
        assert (row.n, row.images) == (expected["n"], expected["images"])
        found = (row.ours, row.std, row.low, row.high)
        assert found == pytest.approx([expected[key] for key in ("mean", "std", "low", "high")], nan_ok=True, abs=1e-7)
        compared += 1
    assert compared == len(values)


@pytest.mark.parametrize("name", TABLES[:3])
def test_every_comparison_is_what_the_predictions_say(noisy, name):
    table = noisy["tables"][name]
    values = outcomes(noisy["root"], table.recipe)
    runs = {(cell.row, cell.column): cell.runs for cell in table.recipe.cells}
    assert len(table.comparisons) > 1 and (table.comparisons["n"] == 2).any()
    assert table.comparisons["pooled"].notna().any() == (name == "table_3")
    for row in table.comparisons[table.comparisons["better_row"] != ""].itertuples():
        both = subtracted(values, row)
        sides = (row.better_row, row.better_column), (row.worse_row, row.worse_column)
        pooled, spread = (name == "table_3" and welch(values, runs, *sides)) or (math.nan, None)
        expected = recomputed(both, spread)
        assert (row.n, row.images) == (expected["n"], expected["images"])
        assert (row.df, row.pooled) == pytest.approx((expected.get("df", row.n - 1), pooled), nan_ok=True)
        assert (row.difference, row.low, row.high) == pytest.approx(
            [expected[key] for key in ("mean", "low", "high")], nan_ok=True, abs=1e-3 if spread else 1e-7
        )
        paper = table.frame.set_index(["row", "column"])["paper"]
        there = paper[row.better_row, row.better_column] - paper[row.worse_row, row.worse_column]
        assert row.paper == pytest.approx(there, nan_ok=True)
        if row.n > 1 and row.side == "above":
            assert (row.low > row.threshold) == (row.p_holds < 0.025)
            assert (row.high < row.threshold) == (row.p_contradicted < 0.025)


def subtracted(values: dict, row) -> pd.DataFrame:
    """seed, image and value of a comparison: its better side minus its worse."""
    better, worse = values[row.better_row, row.better_column], values[row.worse_row, row.worse_column]
    keys = ["image"] if row.worse_column == "teacher" else ["seed", "image"]
    both = better.merge(worse, on=keys, suffixes=("", "_worse"))
    return both.assign(value=both["value"] - both["value_worse"])


def test_every_mean_is_that_of_its_comparisons_and_each_size_adds_its_own_spread(noisy):
    """By sums of squares of each size; its columns, pre-trained and fine-tuned, are averaged seed by seed first."""
    table, judged = noisy["tables"]["table_3"], 0
    values = outcomes(noisy["root"], table.recipe)
    for _, rows in table.comparisons.groupby(["finding", "part"], sort=False):
        mean, below = rows.iloc[0], list(rows.iloc[1:].itertuples())
        assert (
            mean.decides
            and not rows["decides"].iloc[1:].any()
            and mean.what.endswith(f"mean over {OVER[mean.finding]}")
        )
        every = pd.concat(subtracted(values, row)[["seed", "image", "value"]] for row in below)
        averaged = every.groupby(["seed", "image"], as_index=False)["value"].mean()
        sizes: dict[str, list[pd.DataFrame]] = {}
        for row in below:
            sizes.setdefault(row.better_column.removesuffix("-finetuned"), []).append(subtracted(values, row))
        variances = []
        for group in sizes.values():
            of_seed = pd.concat(group).groupby("seed")["value"].mean()
            variances.append((len(group) / len(below)) ** 2 * of_seed.var())
        spread = sum(variances), sum(variances) ** 2 / sum(variance**2 for variance in variances)  # of two seeds
        expected = recomputed(averaged, spread if len(sizes) > 1 else None)
        found = mean.difference, mean.low, mean.high, mean.df, mean.n
        assert found == pytest.approx([expected[key] for key in ("mean", "low", "high", "df", "n")], rel=2e-5)
        assert mean.difference == pytest.approx(sum(row.difference for row in below) / len(below))
        assert mean.paper == pytest.approx(sum(row.paper for row in below) / len(below), nan_ok=True)
        judged += 1
    assert judged == len(OVER) + 1, "one claim has two parts"


OVER = dict.fromkeys(
    ("hard_over_soft", "soft_equals_none", "token_over_hard", "fusion_not_below_heads", "distillation_over_class"),
    "sizes and resolutions",
) | {"hard_over_none": "sizes", "finetuning_helps": "methods and sizes"}


def test_token_comparisons_are_paired_over_seeds(noisy):
    table = noisy["tables"]["token_analysis"]
    runs = [pd.read_json(path, typ="series") for path in sorted(noisy["root"].glob("tokens/**/tokens.json"))]
    rows = ["input", "layer_1", "layer_2", "layer_3", "layer_4"]
    layers = {run["run"]: dict(zip(rows, [run["input_cosine"], *run["layers"]], strict=True)) for run in runs}
    token = [layers[run] for run in study.seeds("deit-ti", "token")]
    rising = table.comparisons[table.comparisons["finding"] == "tokens_grow_alike"]
    assert len(rising) == 4
    for row in rising.itertuples():
        gains = pd.Series([cosines[row.better_row] - cosines[row.worse_row] for cosines in token])
        half = T_975 * gains.std() / math.sqrt(2)
        expected = gains.mean(), gains.mean() - half, gains.mean() + half
        assert (row.difference, row.low, row.high) == pytest.approx(expected, abs=1e-9)
        assert row.p_holds == pytest.approx(0.5 - math.atan(gains.mean() / (half / T_975)) / math.pi)  # Cauchy
