"""The section `seeds` of a params file: its keys, and what can be wrong in them."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from deit.bounds import Name, Once, Recipe
from study.models import Models, unknown_model
from study.problem import Problem

TEACHERS_STREAM = 1_000_000
"""Seed of the stream on which convnet teachers are trained: never that of a student, whose views they label later."""
Seed = Annotated[int, Field(ge=0, lt=TEACHERS_STREAM)]
SeedList = Annotated[list[Seed], Field(min_length=1), *Once]


class Seeds(Recipe):
    default: SeedList
    """Seeds of every student, each a run of its own: initialisation and stochastic depth, and the views where `streams`
    says so. The paper has one seed a cell; its ablation gives ±0.2 over three. Convnets have one, 0, unless `teachers`
    says otherwise."""
    models: dict[Name, SeedList] = {}
    """Model -> other seeds, in place of the default. Where `teachers` is one, that is the network of the first."""
    streams: Literal["shared", "per-seed"]
    """shared: all seeds see the same views, so one teacher cache serves them and the seed varies initialisation and
    stochastic depth only; per-seed: each seed has views, and caches, of its own."""
    teachers: Literal["one", "per-seed"] = "one"
    """one: students of all seeds learn from one network, so nothing is said of other teachers of its kind; per-seed:
    each teacher is trained once a seed, convnets too, and a student learns from that of its own seed. It costs a
    training, an adaptation and caches more for each teacher and seed. Given weights are one network all the same."""


def seed_problems(seeds: Seeds, models: Models) -> Iterator[Problem]:
    for name, those in seeds.models.items():
        key = f"seeds.models.{name}"
        yield from unknown_model(models, key, name)
        if name in models and models[name].kind == "convnet" and those != [0] and seeds.teachers == "one":
            text = f"'{name}' is a convnet, and a convnet has one seed, 0"
            remedy = "remove the key, or set seeds.teachers: per-seed, so that each seed's students have their own."
            yield Problem(key, text, remedy, (f"models.{name}.kind", "seeds.teachers"))
