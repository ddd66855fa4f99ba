"""claims.json of a report: each claim as data that others can cite and check, with the runs that it rests on."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from deit.tables.computed import PaperTable
from deit.tables.verdicts import Finding
from jobs.report_runs import runs_of

TEST = "one-sided: Student’s t for the spread over seeds, normal for the choice of images; Holm’s correction for {}"


def claim_records(found: Sequence[Finding], tables: Sequence[PaperTable], plan: pd.DataFrame) -> list[dict]:
    """A record a claim; null for what does not exist. `plan` has a row a job, with kind, name and digest."""
    by_name = {table.name: table for table in tables}
    networks = plan[plan["kind"].isin(("train", "import"))]
    digests = dict(zip(networks["name"], networks["digest"], strict=True))
    families = Counter(finding.family for finding in found if finding.comparisons)
    return [
        known(dataclasses.asdict(finding))
        | {
            "family": finding.family,
            "test": TEST.format(f"{families[finding.family]} claims on {finding.family}"),
            "runs": {name: digests.get(name) for name in runs_behind(finding, by_name[finding.table])},
        }
        for finding in found
    ]


def runs_behind(finding: Finding, table: PaperTable) -> list[str]:
    """The runs of all cells that a claim compares, sorted."""
    places = {place for comparison in finding.comparisons for place in comparison.places}
    return sorted({run for place in places for run in runs_of(table.recipe, *place)})


def known(value: Mapping) -> dict:
    """A record with None for what is nan, as JSON has no such number."""

    def plain(part: object) -> object:
        if isinstance(part, Mapping):
            return {key: plain(one) for key, one in part.items()}
        if isinstance(part, list | tuple):
            return [plain(one) for one in part]
        return None if isinstance(part, float) and math.isnan(part) else part

    return {key: plain(part) for key, part in value.items()}
