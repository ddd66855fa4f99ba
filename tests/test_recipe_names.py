"""What a recipe adds to the name of its result: what it says, and the modules that it chooses."""

from deit.bounds import Recipe
from deit.store.job import Job
from deit.store.reach import Code


class Shape(Recipe):
    width: int
    depth: int | None = None


def job(**recipe) -> Job:
    return Job(kind="train", name="x", recipe=Shape(**recipe).model_dump(mode="json"), behaviour={})


def test_an_option_that_is_none_says_nothing():
    without = Job(kind="train", name="x", recipe={"width": 1}, behaviour={})
    assert job(width=1).digest == without.digest != job(width=1, depth=2).digest


class Sort(Recipe):
    name: str

    @property
    def module(self) -> str:
        return f"deit.see.{self.name}"


class Holder(Recipe):
    sorts: dict[str, Sort]
    first: Sort | None = None


def test_a_recipe_names_the_modules_that_it_chooses():
    holder = Holder(sorts={"a": Sort(name="views")}, first=Sort(name="mixing"))
    assert sorted(holder.chosen()) == ["deit.see.mixing", "deit.see.views"]
    assert "src/deit/see/mixing.py" in Code().made_by(["deit.commands.train", *holder.chosen()]).behaviour
