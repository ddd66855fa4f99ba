"""No order comes from a set, that is from PYTHONHASHSEED, or from the file system."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LISTS = {"glob", "rglob", "iglob", "iterdir", "listdir", "scandir", "walk"}
"""Functions that give names in the order of the file system."""
ORDERLESS = {"sorted", "any", "all", "sum", "len", "set", "frozenset"}
"""What does not pass an order on."""
ORDERED = {
    "src/deit/see/folders.py:entries": "images and classes are sorted when all are found",
    "src/deit/see/decode_check.py:decode_all": "removes them",
    "src/deit/store/finished.py:files_below": "a set is made of them",
    "src/deit/see/folders.py:refuse_nested": "names one of them in a message",
    "src/deit/store/results.py:publish": "waits for each",
    "src/deit/store/copies.py:copy_result": "waits for each",
    "workflow/commands/keep.py:refuse_beside_jobs": "any of them stops it",
    "workflow/commands/keep.py:remove_locks": "removes them",
    "workflow/jobs/launch.py:is_finished": "passes none of the names on",
    "workflow/jobs/launch.py:set_back_what_is_to_come": "changes the time of each",
    "workflow/jobs/report.py:clear": "sorted before it removes them",
    "workflow/call/images_here.py:holds_images": "any of them will do",
    "workflow/call/begin.py:mark": "removes them",
    "workflow/plan/memory.py:earlier_logs": "sorted by their numbers",
}
"""File:function where a listing is not sorted at once -> why that is right."""


def unsorted_listings(source: str) -> Iterator[str]:
    """The functions in which a listing is used, or a set is iterated, in the order in which it comes."""
    tree = ast.parse(source)
    above = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in LISTS and ast.unparse(node.func) != "ast.walk":
            outer = list(parents(node, above))
            if not any(isinstance(each, ast.SetComp) or called(each) in ORDERLESS for each in outer):
                yield next((each.name for each in outer if isinstance(each, ast.FunctionDef)), "")
        if is_set(node) and passes_order(node, above[node]):
            yield f"the set {ast.unparse(node)}"


def called(node: ast.AST) -> str:
    """Name of the function or method that a call calls."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def parents(node: ast.AST, above: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in above:
        node = above[node]
        yield node


def is_set(node: ast.AST) -> bool:
    return isinstance(node, ast.Set | ast.SetComp) or called(node) in ("set", "frozenset")


def passes_order(node: ast.AST, user: ast.AST) -> bool:
    if isinstance(user, ast.For | ast.comprehension):
        return user.iter is node
    return called(user) in ("list", "tuple", "enumerate", "zip", "map", "iter", "dict", "fromkeys", "join")


def sources() -> list[Path]:
    return sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("workflow/**/*.py")])


def test_every_listing_is_sorted_or_needs_no_order():
    found = {
        f"{path.relative_to(ROOT)}:{function}"
        for path in sources()
        for function in unsorted_listings(path.read_text(encoding="utf-8"))
    }
    assert found == ORDERED.keys()


@pytest.mark.parametrize(
    "source",
    ["list(path.iterdir())", "[x for x in os.listdir(y)]", "for x in {1, 2}: pass", "[*map(f, set(x))]", "list({*x})"],
)
def test_an_order_that_is_not_ours_is_found(source):
    assert len(list(unsorted_listings(f"def f():\n    {source}"))) == 1


@pytest.mark.parametrize("source", ["sorted(path.iterdir())", "any(os.scandir(x))", "sorted({1, 2})", "x in {1, 2}"])
def test_an_order_that_is_ours_is_not(source):
    assert not list(unsorted_listings(source))


PLAN = """
from commands.cost import SPEEDS, Node, plan_with_passes, read_speeds, report
plan = plan_with_passes("imagenet")
for digest, job in plan.jobs.items():
    print(digest, job.model_dump_json())
print(report(plan, [8, 32], Node(read_speeds(SPEEDS))))
"""


def test_a_plan_is_the_same_whatever_the_hash_seed():
    """Every job, in order, with all that it is given; and what it costs."""
    plans = {
        subprocess.run(
            [sys.executable, "-c", PLAN],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": "src:workflow"},
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
        for seed in range(2)
    }
    assert len(plans) == 1 and len(plans.pop().splitlines()) > 100
