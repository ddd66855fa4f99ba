"""Published reports computed anew from what every run decided on every image, without the statistics of deit.tables.

A report's cells.csv names the runs of each cell, decisions-<set>.parquet what they decided. From these alone: every
accuracy with its interval, every difference that a claim compares with its spread and p-values, and, by Holm's
correction, every verdict in claims.json. Claims on other numbers than accuracies (disagreements, cosines) are left out.
"""

import itertools
import json
import math
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_study as study
from jobs.report_claims import claim_records
from jobs.report_data import CELLS, write_data
from other_statistics import interval, moments, p_value

from deit.store.frames import read_frame
from deit.tables.computed import KEYS, TEXT, PaperTable, save
from deit.tables.predictions import Inputs
from deit.tables.recipes import Cell
from deit.tables.verdicts import findings

ROOT = Path(__file__).parents[1]
REPORTS = sorted(path.parent for path in ROOT.glob("reports/published/*/index.html"))
OLDER = {"fashion-full"}
"""A report of before there were decisions in them."""
OTHER_NUMBERS = ("table_4", "token_analysis")
ONE_DESIGN = {"table_2": "column", "table_3": "column", "soft": "column", "epochs": "table", "ablation": "column"}
"""Table -> over what its trainings are one design, in which each is measured from the median of the others."""


class Report:
    """A report's files."""

    def __init__(self, folder: Path):
        self.folder = folder
        cells = read_frame(folder / "cells.csv", text=CELLS)
        self.cells = dict(list(cells.groupby(["table", "row", "column"], sort=False)))

    @cache  # noqa: B019
    def decisions(self, name: str) -> tuple[pd.DataFrame, np.ndarray]:
        """What was decided of N images, and their true classes (N, K) bool."""
        frame = pd.read_parquet(self.folder / name)
        true = np.zeros((len(frame), 1 + max(max(classes) for classes in frame["targets"])), dtype=bool)
        for number, classes in enumerate(frame["targets"]):
            true[number, classes] = True
        return frame, true

    @cache  # noqa: B019
    def hits(self, table: str, row: str, column: str) -> dict[int, np.ndarray] | None:
        """Seed -> whether each image was decided rightly (N,); None where there is no such cell."""
        if column == "of_an_equal_convnet":
            return self.between_convnets(row)
        if (table, row, column) not in self.cells:
            return None
        found = {}
        for cell in self.cells[table, row, column].itertuples():
            frame, true = self.decisions(cell.decisions)
            decided = np.minimum(frame[f"{cell.run} {cell.read}"].to_numpy(), true.shape[1] - 1)
            known = frame[f"{cell.run} {cell.read}"].to_numpy() < true.shape[1]
            found[int(cell.run.rpartition("/seed")[2])] = (true[np.arange(len(true)), decided] & known).astype(float)
        return found

    def between_convnets(self, row: str) -> dict[int, np.ndarray]:
        """Of the dial: students of a convnet as accurate as the teacher of this row, by weights of NumPy's."""
        names = [name for table, name, column in self.cells if (table, column) == ("dial", "teacher") and name != row]
        convnets = [name for name in names if "deit" not in name]
        found = {}
        for seed in self.hits("dial", row, "pretrained"):
            x, *xs = (self.of_seed("dial", name, "teacher", seed).mean() for name in (row, *convnets))
            xs = np.array(xs)
            order = xs.argsort()
            if xs.min() <= x <= xs.max():
                weights = [np.interp(x, xs[order], unit[order]) for unit in np.eye(len(xs))]
                students = [self.hits("dial", name, "pretrained")[seed] for name in convnets]
                found[seed] = sum(weight * one for weight, one in zip(weights, students, strict=True))
        return found

    def of_seed(self, table: str, row: str, column: str, seed: int) -> np.ndarray:
        """Of a single network, where all seeds have the same one."""
        hits = self.hits(table, row, column)
        return hits[seed] if len(hits) > 1 else next(iter(hits.values()))

    def runs(self, table: str, row: str, column: str) -> frozenset[str]:
        return frozenset(self.cells[table, row, column]["run"])


def difference(report: Report, table: str, row) -> dict[int, np.ndarray]:
    """Of the two cells of a comparison, or of its one, in points, by the seeds that both have.

    A teacher that is a single network meets its students of every seed.
    """
    better = report.hits(table, row.better_row, row.better_column)
    if not row.worse_row:
        return {seed: 100 * hits for seed, hits in better.items()}
    worse = report.hits(table, row.worse_row, row.worse_column)
    if len(worse) == 1 and "teacher" in (row.worse_row, row.worse_column):
        worse = dict.fromkeys(better, *worse.values())
    return {seed: 100 * (better[seed] - worse[seed]) for seed in better if seed in worse}


def of_one(report: Report, table: str, row) -> tuple[float, float, float, float]:
    """A comparison of two cells; its spread by seeds from the whole design where enough trainings share it."""
    better, worse = (row.better_row, row.better_column), (row.worse_row, row.worse_column)
    values = difference(report, table, row)
    mean, of_seeds, of_images, df = moments(values)
    if math.isnan(row.pooled):
        return mean, of_seeds, of_images, df
    places = [(r, c) for t, r, c in report.cells if t == table and (ONE_DESIGN[table] == "table" or c == better[1])]
    heads = [place for place in places if "token" not in place[0] or place[0] == "token_fusion"]
    one_each = {report.runs(table, *place): place for place in reversed([better, worse, *heads])}
    means = pd.DataFrame(
        {
            place: {seed: 100 * hits.mean() for seed, hits in report.hits(table, *place).items() if seed in values}
            for place in one_each.values()
        }
    ).dropna(axis=1)
    assert means.shape[1] == row.pooled
    one, other = (means[side] - means.drop(columns=[side]).median(axis=1) for side in (better, worse))
    one, other = one.var(), other.var()
    return (
        mean,
        math.sqrt((one + other) / len(means)),
        of_images,
        (len(means) - 1) * (one + other) ** 2 / (one**2 + other**2),
    )


def of_mean(report: Report, table: str, rows: pd.DataFrame) -> tuple[float, float, float, float]:
    """The mean of several comparisons: the spreads of different networks add up, in Table 3 those of its sizes."""
    several = [
        (row.better_column.removesuffix("-finetuned") if table == "table_3" else "", difference(report, table, row))
        for row in rows.itertuples()
    ]
    seeds = [seed for seed in several[0][1] if all(seed in values for _, values in several)]

    def mean(which: list[dict]) -> tuple[float, float, float, float]:
        return moments({seed: sum(values[seed] for values in which) / len(which) for seed in seeds})

    total, of_seeds, of_images, df = mean([values for _, values in several])
    names = dict.fromkeys(name for name, _ in several)
    if len(names) == 1 or len(seeds) == 1:
        return total, of_seeds, of_images, df
    of_networks = [[values for name, values in several if name == network] for network in names]
    parts = [((len(group) / len(several)) * mean(group)[1]) ** 2 for group in of_networks]
    return total, math.sqrt(sum(parts)), of_images, sum(parts) ** 2 / sum(part**2 / (len(seeds) - 1) for part in parts)


def p_values(row, mean: float, of_seeds: float, of_images: float, df: float) -> tuple[float, float]:
    """Of the claim being false, and of its being true."""

    def above(threshold: float) -> float:
        return p_value(mean - threshold, df, of_seeds, of_images)

    def below(threshold: float) -> float:
        return p_value(threshold - mean, df, of_seeds, of_images)

    if row.side == "above":
        return above(row.threshold), below(row.threshold)
    within = max(above(-row.threshold), below(row.threshold))
    return within, min(1.0, 2 * min(above(row.threshold), below(-row.threshold)))


def computed(report: Report, table: str, frame: pd.DataFrame) -> Iterator[tuple]:
    """(row of the comparisons, mean, error by seeds, error by images, df) of all that were measured."""
    for _, part in frame.groupby(["finding", "part"], sort=False):
        single = part[part["better_row"] != ""]
        for row in part[part["n"] > 0].itertuples():
            yield row, *(of_one(report, table, row) if row.better_row else of_mean(report, table, single))


def check(folder: Path) -> dict[str, str]:
    """Recomputes all of a report; returns the verdicts that were."""
    report = Report(folder)
    tables = [table for table in dict.fromkeys(table for table, _, _ in report.cells) if table not in OTHER_NUMBERS]
    for table in tables:
        check_cells(report, table)
    claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    p_of: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for table in {claim["table"] for claim in claims}:
        frame = read_frame(folder / f"{table}_comparisons.csv", text=TEXT)
        for row, *numbers in computed(report, table, frame) if table in tables else ():
            found = check_comparison(row, *numbers)
            if row.decides:
                p_of.setdefault((table, row.finding), []).append(found)
        for row in frame[frame["decides"]].itertuples():
            if row.n == 0 or table not in tables:
                p_of.setdefault((table, row.finding), []).append((row.p_holds, row.p_contradicted))
    return check_verdicts(claims, p_of)


def check_cells(report: Report, table: str) -> None:
    frame = read_frame(report.folder / f"{table}.csv", text=KEYS).set_index(list(KEYS))
    for row, column in frame.index[frame["images"].notna()]:
        hits = report.hits(table, row, column) or report.hits(table, row, only_column(report, table, row))
        mean, of_seeds, of_images, df = moments({seed: 100 * one for seed, one in hits.items()})
        cell = frame.loc[(row, column)]
        assert (cell["ours"], cell["n"]) == (pytest.approx(mean), len(hits)), (table, row, column)
        if len(hits) > 1:
            assert (cell["low"], cell["high"]) == pytest.approx(interval(mean, of_seeds, of_images, df), abs=1e-4)


def only_column(report: Report, table: str, row: str) -> str:
    """Of a row's only cell: in the figure of accuracy over throughput that is the network's family."""
    (column,) = (column for at, name, column in report.cells if (at, name) == (table, row))
    return column


def check_comparison(row, mean: float, of_seeds: float, of_images: float, df: float) -> tuple[float, float]:
    """Holds a row of the comparisons against what was computed; returns the p-values, nan with one seed."""
    where = f"{row.finding}, {row.what}"
    assert row.difference == pytest.approx(mean, abs=1e-5), where
    if row.n == 1:
        return math.nan, math.nan
    assert (row.low, row.high) == pytest.approx(interval(mean, of_seeds, of_images, df), abs=1e-4), where
    ours = p_values(row, mean, of_seeds, of_images, df)
    assert (row.p_holds, row.p_contradicted) == pytest.approx(ours, rel=1e-3, abs=1e-9), where
    return ours


def check_verdicts(claims: list[dict], p_of: dict[tuple[str, str], list[tuple[float, float]]]) -> dict[str, str]:
    """By Holm's correction in each family, of the weakest part for a claim, and of the strongest against it.

    A part that was not tested leaves a claim without the first, and the second to the others.
    """
    raw = {}
    for key, ps in p_of.items():
        against = [p for _, p in ps if not math.isnan(p)]
        raw[key] = float(np.max([p for p, _ in ps])), len(against) * min(against, default=math.nan)
    verdicts = {}
    for family in {claim["family"] for claim in claims}:
        of_family = [claim for claim in claims if claim["family"] == family]
        holds, against = ([raw.get((claim["table"], claim["key"]), (math.nan, math.nan))[side] for claim in of_family]
                          for side in range(2))  # fmt: skip
        for claim, *ps in zip(of_family, corrected(holds), corrected(against), strict=True):
            assert [claim["p_holds"], claim["p_contradicted"]] == [one and pytest.approx(one, rel=1e-3, abs=1e-9)
                                                                   for one in ps], claim["key"]  # fmt: skip
            verdict = "undecided" if claim["comparisons"] else "not measured"
            for p, name in zip(ps, ("holds", "contradicted"), strict=True):
                if verdict == "undecided" and p is not None and p <= 0.05:
                    verdict = name
            assert claim["verdict"] == verdict, claim["key"]
            verdicts[claim["key"]] = verdict
    return verdicts


def corrected(p_values: list[float]) -> list[float | None]:
    """By Holm; None stays of a test that was not made."""
    order = sorted((p, number) for number, p in enumerate(p_values) if not math.isnan(p))
    found, least = [None] * len(p_values), 0.0
    for rank, (p, number) in enumerate(order):
        found[number] = least = max(least, min(1.0, (len(order) - rank) * p))
    return found


@pytest.fixture(scope="module")
def unpublished(noisy, tmp_path_factory) -> Path:
    """The data of a report on the study that nobody trained, whose seeds and images are noisy."""
    folder, tables = tmp_path_factory.mktemp("report"), [*noisy["tables"].values()]
    for table in tables:
        save(table, folder)
    write_data(tables, Inputs(noisy["folders"]), folder)
    plan = pd.DataFrame(columns=["kind", "name", "digest"])
    claims = claim_records(findings(tables), tables, plan)
    (folder / "claims.json").write_text(json.dumps(claims), encoding="utf-8")
    return folder


def test_a_report_can_be_computed_from_its_decisions(unpublished):
    assert len(check(unpublished)) > 8


def test_two_data_sets_whose_sets_have_one_name_are_two_files(tmp_path):
    """As in a transfer: images are numbered alike, and their true classes are others."""
    runs = [f"a/labels{to}/16/seed0" for to in ("", "-to-other")]
    classes = [[[image % 10] for image in range(study.IMAGES)], [[image % 7] for image in range(study.IMAGES)]]
    folder = study.sheet(tmp_path, "both", {run: {"class": 60.0} for run in runs})
    study.write_predictions(folder / runs[1] / "test.parquet", {"class": 60.0}, classes[1])
    cells = [Cell(row="a", column=column, runs=(run,), read="class", evaluation_set="test")
             for column, run in zip("ab", runs, strict=True)]  # fmt: skip
    table = PaperTable(study.table_recipe("table_3", cells), pd.DataFrame(), pd.DataFrame(), [])
    write_data([table], Inputs([study.sealed(folder)]), tmp_path)
    for column, expected in zip("ab", classes, strict=True):
        (row,) = Report(tmp_path).cells["table_3", "a", column].itertuples()
        assert [list(one) for one in pd.read_parquet(tmp_path / row.decisions)["targets"]] == expected


@pytest.mark.parametrize("place", ["cell", "comparison", "verdict", "decision"])
def test_a_report_that_was_tampered_with_cannot(unpublished, tmp_path, place):
    shutil.copytree(unpublished, tmp_path, dirs_exist_ok=True)
    if place == "cell":
        change(tmp_path / "table_3.csv", "ours", 0.1)
    elif place == "comparison":
        change(tmp_path / "table_3_comparisons.csv", "difference", 0.1)
    elif place == "verdict":
        path = tmp_path / "claims.json"
        path.write_text(path.read_text(encoding="utf-8").replace('"undecided"', '"holds"'), encoding="utf-8")
    else:
        frame = pd.read_parquet(tmp_path / "decisions-test.parquet")
        frame.iloc[:, 2:] = frame.iloc[::-1, 2:].to_numpy()
        frame.to_parquet(tmp_path / "decisions-test.parquet")
    with pytest.raises(AssertionError):
        check(tmp_path)


def change(path: Path, column: str, by: float) -> None:
    frame = read_frame(path, text=TEXT)
    frame.loc[0, column] += by
    frame.to_csv(path, index=False)


@pytest.mark.parametrize("folder", [path for path in REPORTS if path.name not in OLDER], ids=lambda path: path.name)
def test_a_published_report_can_be_computed_from_its_decisions(folder):
    """One has no claims, and cells alone."""
    claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    assert check(folder).keys() == {claim["key"] for claim in claims}
    assert claims or folder.name == "fashion-transfer"


def provenance(name: str) -> dict:
    (path,) = (ROOT / "reports/published" / name).glob("provenance-*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_correlation_of_two_sizes_is_that_which_is_told():
    """docs/report.md: the mean over the ten differences of five methods, at the lower resolution."""
    small = Report(ROOT / "reports/published/cifar10-small")
    rows = ("labels", "soft", "soft_mean", "hard", "token_fusion")
    means = {
        (row, size): np.array([hits.mean() for _, hits in sorted(small.hits("table_3", row, size).items())])
        for row, size in itertools.product(rows, ("deit-ti", "deit-s"))
    }
    found = [
        np.corrcoef(*(means[one, size] - means[other, size] for size in ("deit-ti", "deit-s")))[0, 1]
        for one, other in itertools.combinations(rows, 2)
    ]
    told = re.search(r"In\s+`cifar10-small`[^.]*\s(-?0\.\d\d)", (ROOT / "docs/report.md").read_text(encoding="utf-8"))
    assert told and float(told[1]) == round(np.mean(found), 2)


@pytest.mark.parametrize("claim", ["hard_over_none", "hard_over_soft", "hard_over_soft_mean", "fusion_not_below_heads"])
def test_what_holds_on_natural_images_holds_paired_by_seed_too(claim):
    """Where sizes that share a seed's teacher and views are not taken for independent; Holm's first step for all 13."""
    small = Report(ROOT / "reports/published/cifar10-small")
    frame = read_frame(small.folder / "table_3_comparisons.csv", text=TEXT)
    of_claim = frame[(frame["finding"] == claim) & (frame["better_row"] != "")]
    for _, part in of_claim.groupby("part", sort=False):
        several = [difference(small, "table_3", row) for row in part.itertuples()]
        paired = {seed: sum(values[seed] for values in several) / len(several) for seed in several[0]}
        mean, of_seeds, of_images, df = moments(paired)
        assert len(several) > 1 and 13 * p_value(mean - part["threshold"].iloc[0], df, of_seeds, of_images) < 0.05


@pytest.mark.parametrize(
    ("column", "run"), [("teacher", "teachers/deit-s/labels"), ("pretrained", "students/deit-ti/hard-from-deit-s")]
)
def test_trainings_made_again_on_another_cpu_lie_within_their_intervals(column, run):
    """Results of the same names in two reports, which two machines made; docs/report.md tells of them."""
    small, dial = (Report(ROOT / "reports/published" / name) for name in ("cifar10-small", "cifar10-dial"))
    first, second = provenance("cifar10-small"), provenance("cifar10-dial")
    assert not {*first["machines"]} & {*second["machines"]}
    table = read_frame(small.folder / "table_2.csv", text=TEXT).set_index(["row", "column"])
    low, high = table.loc[("deit-s", column), ["low", "high"]]
    for seed, again in dial.hits("dial", "deit-s", column).items():
        name = f"{run}/48/seed{seed}"
        assert first["results"][name] == second["results"][name]
        before = small.hits("table_2", "deit-s", column)[seed]
        assert low < 100 * again.mean() < high and (before != again).mean() < 0.08
        assert abs(again.mean() - before.mean()) < 0.00055


def test_the_stronger_teacher_is_the_published_reports():
    """docs/report.md: each seed's student beside that of the weaker teacher, whose trainings on labels are the same."""
    page = (ROOT / "docs/report.md").read_text(encoding="utf-8").partition("**cifar10-strong**")[2].partition("\n\n")[0]
    strong, small = (Report(ROOT / "reports/published" / name) for name in ("cifar10-strong", "cifar10-small"))
    taught = np.array([hits.mean() for hits in strong.hits("table_5", "resnet", "test").values()])
    told = re.search(r"reaches ([\d.]+) % in place of ([\d.]+)", page)
    weaker = np.array([hits.mean() for hits in small.hits("table_5", "resnet", "test").values()])
    assert told.groups() == (f"{100 * taught.mean():.1f}", f"{100 * weaker.mean():.1f}") and taught.min() > 0.85
    for row, name in (("hard", "hard distillation"), ("token_fusion", "the token")):
        here, there = (report.hits("table_3", row, "deit-ti") for report in (strong, small))
        mean, of_seeds, of_images, df = moments({seed: 100 * (here[seed] - there[seed]) for seed in range(5)})
        numbers = (mean, *interval(mean, of_seeds, of_images, df))
        told = re.search(rf"{name} (?:is )?at (−?[\d.]+)(?: points)? \[(−?[\d.]+), (−?[\d.]+)\]", page)
        assert told.groups() == tuple(f"{number:.1f}".replace("-", "−") for number in numbers), name
    here, there = (report.hits("table_3", "labels", "deit-ti") for report in (strong, small))
    assert sum(len(hits) for hits in here.values()) == 50_000
    assert all((here[seed] == there[seed]).all() for seed in range(5))
