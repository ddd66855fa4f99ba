"""How long the jobs that are left will take, by those that have ended.

A job takes the time of its start, which is that of jobs that compute next to nothing, and that of its multiply-adds:
forward for what a network is asked, three times as many for what it learns. As many jobs run beside each other as so
far.
"""

import csv
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from statistics import mean

from plan.lookup import Lookup

from cost.speeds import VIEWS_OF, model_of
from deit.networks.recipes import Predicting
from deit.store.job import Job

FORWARD_AND_BACKWARD = 3
"""Times the multiply-adds of a forward pass."""


def clock(seconds: float) -> str:
    """0:03:20"""
    return str(timedelta(seconds=round(seconds)))


class TimeLeft:
    """Of one call of Snakemake, which runs the jobs of these digests."""

    def __init__(self, lookup: Lookup, digests: Iterable[str]):
        self.lookup, self.began = lookup, time.monotonic()
        self.waiting = set(digests)
        self.ended: dict[str, float] = {}
        """Digest -> seconds that the job took."""
        self.works: dict[str, float] = {}
        """Digest -> multiply-adds; empty while those of the networks are not known."""

    def learn(self, digest: str, seconds: float) -> None:
        """A job has ended."""
        self.waiting.discard(digest)
        self.ended[digest] = seconds
        self.works = self.works or self.count()

    def count(self) -> dict[str, float]:
        plan = self.lookup.plan
        table = Path(plan.output_of(plan.networks), "networks.csv")
        if not table.exists():
            return {}
        with table.open(newline="", encoding="utf-8") as file:
            networks = {row["network"]: int(row["multiply_adds"]) for row in csv.DictReader(file)}
        digests = [*self.waiting, *self.ended]
        return {digest: work(self.lookup.job_of(digest), self.lookup, networks) for digest in digests}

    def seconds(self, running: dict[str, float]) -> float | None:
        """`running`: digest -> seconds since its start. None while nothing that computes has ended."""
        computed = [digest for digest in self.ended if self.works.get(digest)]
        if not computed:
            return None
        starts = [seconds for digest, seconds in self.ended.items() if digest not in computed]
        start = mean(starts) if starts else 0.0
        computing = sum(max(self.ended[digest] - start, 0.0) for digest in computed)
        pace = computing / sum(self.works[digest] for digest in computed)
        each = {digest: start + pace * self.works[digest] - running.get(digest, 0.0) for digest in self.waiting}
        busy = sum(self.ended.values()) + sum(running.values())
        abreast = max(busy / (time.monotonic() - self.began), 1.0)
        return sum(max(seconds, 0.0) for seconds in each.values()) / abreast


def work(job: Job, lookup: Lookup, networks: dict[str, int]) -> float:
    """Multiply-adds of a job that shows images to networks, 0 of any other; by `networks`, those of one image."""
    if job.execution.made_by or job.execution.copy_of:
        return 0.0
    if job.kind == "pass":
        alone = {"execution": job.execution.model_copy(update={"made_by": ""})}
        return sum(work(member.model_copy(update=alone), lookup, networks) for member in lookup.members(job))
    if job.kind in ("train", "cache"):
        recipe = job.resolved()
        passes = FORWARD_AND_BACKWARD if job.kind == "train" else 1
        return passes * VIEWS_OF[job.kind](recipe) * networks.get(f"{model_of(job)}/{recipe.views.resolution}", 0)
    if job.kind == "predict":
        return predicting(job.resolved(), networks)
    return 0.0


def predicting(recipe: Predicting, networks: dict[str, int]) -> float:
    images = sum(one.held_out or one.split.images for one in recipe.evaluation_sets.values())
    models = [run.run.split("/")[0] for run in recipe.runs]
    return images * sum(networks.get(f"{model}/{recipe.view.resolution}", 0) for model in models)
