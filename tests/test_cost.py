"""The simulated cluster, and the page that quotes it."""

import subprocess
import sys
from pathlib import Path

import cost
import pytest
from plan import plan_study

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def imagenet():
    return plan_study("imagenet", ROOT / "params")


def test_no_cluster_is_faster_than_the_longest_chain_or_than_its_gpus(imagenet):
    chain = max(cost.minutes_of(imagenet, chain) for chain in cost.chain_after(imagenet).values())
    work = sum(cost.gpus(job) * job.execution.minutes for job in imagenet.jobs.values())
    times = {size: cost.simulated(imagenet, size) for size in (8, 32, 128, 10_000)}
    assert times[10_000] == chain
    assert sorted(times.values(), reverse=True) == list(times.values())
    for size, minutes in times.items():
        assert max(chain, work / size) <= minutes <= chain + work / size


def test_the_longest_chain_follows_the_plan(imagenet):
    chain = max(cost.chain_after(imagenet).values(), key=lambda chain: cost.minutes_of(imagenet, chain))
    assert all(maker in cost.needs(imagenet)[user] for maker, user in zip(chain, chain[1:], strict=False))
    assert [imagenet.jobs[digest].kind for digest in chain][-2:] == ["table", "report"]


def test_a_run_larger_than_the_cluster_is_named(imagenet):
    with pytest.raises(SystemExit, match="asks for more than 4 GPUs"):
        cost.simulated(imagenet, 4)


def test_a_study_that_does_not_exist_is_one_message():
    command = [sys.executable, "workflow/cost.py", "imagenett"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode and "did you mean 'imagenet'?" in run.stderr and "Traceback" not in run.stderr


def test_the_page_quotes_the_command():
    command = [sys.executable, "workflow/cost.py", "imagenet"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs/cluster.md").read_text()
    assert page.split("<!-- cost: begin -->\n")[1].split("<!-- cost: end -->")[0] == printed
