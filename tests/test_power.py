"""The power of planned seeds: against simulated studies that are judged as real ones are, and as users ask for it."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_study as study
from commands import power as command
from commands._power import WANTED, Part, part_of, power, seeds_for
from plan.runs import RunSettings
from study.params import load_study
from synthetic_tables import computed

from deit.tables.comparisons import p_values
from deit.tables.paper_findings import Claim, Pair
from deit.tables.predictions import Inputs
from deit.tables.statistics import Estimate
from deit.tables.verdicts import LEVEL

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports/published/fashion-full"


def claim(threshold: float = 0.0, side="above") -> Claim:
    return Claim(key="k", text="t", pairs=lambda layout: [], over="sizes", threshold=threshold, side=side)


def part(gain: float, spread: float = 1.0, image_error: float = 0.3, networks: int = 1) -> Part:
    return Part(gain=gain, spread=spread, image_error=image_error, networks=networks, df=networks)


def simulated(of: Claim, one: Part, seeds: int, claims: int, studies: int = 2000) -> tuple[float, float]:
    """Shares of studies in which a claim of one part holds, and is contradicted."""
    random, df = np.random.default_rng(1), one.df * (seeds - 1)
    seed_error = one.spread / math.sqrt(one.networks * seeds)
    means = one.gain + random.normal(0, math.hypot(seed_error, one.image_error), studies)
    errors = seed_error * np.sqrt(random.chisquare(df, studies) / df)
    found = [
        p_values(of, Estimate(mean=float(mean), seed_error=float(error), image_error=one.image_error, df=df))
        for mean, error in zip(means, errors, strict=True)
    ]
    return tuple(np.mean(np.array(found) <= LEVEL / claims, axis=0))


@pytest.mark.long
@pytest.mark.parametrize(
    ("of", "one", "verdict"),
    [
        (claim(), part(1.5), 0),
        (claim(), part(1.5, networks=3), 0),
        (claim(), part(-2.0), 1),
        (claim(-0.5), part(0.4), 0),
        (claim(0.5, "within"), part(0.1, spread=0.2, image_error=0.1), 0),
        (claim(0.5, "within"), part(-1.8, networks=2), 1),
    ],
)
@pytest.mark.parametrize("claims", [1, 12])
def test_power_is_the_share_of_studies_with_that_verdict(of, one, verdict, claims):
    expected = simulated(of, one, 4, claims)[verdict]
    assert 0.01 < expected < 0.999 and power(of, [one], 4, claims) == pytest.approx(expected, abs=0.04)


def test_a_claim_of_parts_holds_where_all_do_and_falls_with_one():
    good, better, bad = part(2.0), part(3.0), part(-3.0)
    both = power(claim(), [good], 5, 3) * power(claim(), [better], 5, 3)
    assert power(claim(), [good, better], 5, 3) == pytest.approx(both)
    assert power(claim(), [good, bad], 5, 3) == pytest.approx(power(claim(), [bad], 5, 6)), "Bonferroni inside a claim"


def test_the_seeds_for_a_power_are_the_fewest():
    fewest = seeds_for(claim(), [part(1.2)], 12)
    assert power(claim(), [part(1.2)], fewest - 1, 12) < WANTED <= power(claim(), [part(1.2)], fewest, 12)
    assert power(claim(), [part(9.0)], 1, 1) == 0, "one seed decides nothing"
    assert seeds_for(claim(), [part(0.3)], 1) is None, "images alone leave it open"


def test_a_part_takes_the_comparisons_that_are_most_like_it():
    columns = ["better_row", "better_column", "worse_row", "worse_column", "difference", "seed_error", "n", "df"]
    rows = [("hard", "ti", "soft", "ti", 1.0, 0.5, 4, 3.0), ("hard", "s", "soft", "s", 3.0, 0.5, 4, 6.0),
            ("token", "s", "soft", "s", 9.0, 5.0, 4, 3.0), ("hard", "b", "soft", "b", 7.0, math.nan, 1, 0.0),
            ("", "", "", "", 2.0, 0.1, 4, 9.0)]  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns).assign(image_error=0.2, part="")

    def pair(row: str, column: str, network: str = "") -> Pair:
        return Pair(what="", better=(row, column), worse=("soft", column), network=network)

    found = part_of([pair("hard", "s")], frame)
    assert (found.gain, found.spread, found.image_error, found.networks, found.df) == (3.0, 1.0, 0.2, 1, 2.0)
    assert part_of([pair("hard", "huge"), pair("hard", "big")], frame).gain == 2.0, "the same rows, at other sizes"
    whole = part_of([pair("hard", "s"), pair("hard", "ti")], frame)
    assert whole == Part(gain=2.0, spread=0.2, image_error=0.2, networks=1, df=3.0), "the mean of these two"
    several = part_of([pair("hard", "ti", "ti"), pair("hard", "s", "s")], frame[frame["better_row"] != ""])
    assert (several.gain, several.networks, several.df) == (2.0, 2, 2)
    assert part_of([pair("x", "y")], frame).gain == pytest.approx(13 / 3)
    assert part_of([pair("hard", "s")], frame[frame["n"] < 2]) is None


def test_every_claim_is_told_with_its_rule_and_the_power_of_its_seeds():
    claims = list(command.planned(RunSettings(load_study("fashion-full", ROOT / "params")), REPORT))
    assert len(claims) == 15 and {one.seeds for one in claims} == {5} and all(one.parts for one in claims)
    told = command.text(claims)
    assert (
        "Table 3: Hard distillation beats no distillation.\n    mean over sizes: above 0\n    5 seeds: power 9" in told
    )
    (hard,) = (one.parts for one in claims if one.claim.key == "hard_over_none")
    assert hard[0].gain == pytest.approx(1.43, abs=0.005) and hard[0].networks == 3


def test_a_study_of_one_seed_and_a_claim_that_the_report_does_not_have():
    claims = list(command.planned(RunSettings(load_study("imagenet-ablation", ROOT / "params")), REPORT))
    assert claims and all(one.parts is None for one in claims if one.table in ("ablation", "epochs"))
    assert ": —\n" in command.text(claims)


def test_a_report_of_today_tells_seeds_from_images(tmp_path):
    folders = study.build(tmp_path)
    inputs = Inputs([folder for section in ("predictions", "tokens") for folder in folders[section]])
    table = computed(study.tables()["table_3"], inputs)
    table.comparisons.to_csv(tmp_path / "table_3_comparisons.csv", index=False)
    rows = command.comparisons(tmp_path, "table_3")
    one = rows[(rows["finding"] == "hard_over_none") & ~rows["decides"]].iloc[0]
    assert (one["seed_error"], one["better_row"]) == (0, "hard") and one["image_error"] > 0.5
    older = table.comparisons.drop(columns=["seed_error", "image_error", "part", "decides"])
    older.to_csv(tmp_path / "table_3_comparisons.csv", index=False)
    one = command.comparisons(tmp_path, "table_3").iloc[1]
    assert one["image_error"] == 0 and one["seed_error"] == pytest.approx(
        (one["high"] - one["low"]) / 2 / 12.7062, 1e-4
    )


def test_a_folder_without_a_report_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["power", "fashion", "--from", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no comparisons of a report. Name another with --from."):
        command.main()
