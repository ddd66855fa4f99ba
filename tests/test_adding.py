"""The recipes of CONTRIBUTING's "Adding", followed to the letter."""

import re
import sys
from pathlib import Path

import pytest
import torch
from tiny_runs import run, same, training_job

from deit.learn import objectives, recipes
from deit.learn.objectives import Objective, objective_loss
from deit.learn.optimizers import optimizer_of
from deit.networks.models import create

CONTRIBUTING = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture
def smooth(tmp_path, monkeypatch) -> str:
    """The objective that CONTRIBUTING adds, in a folder beside those of the package."""
    section = CONTRIBUTING.partition("### An objective\n")[2]
    (source,) = re.findall(r"```python\n(.*?)```", section.partition("\n### ")[0], re.DOTALL)
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives/smooth.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(tmp_path / "objectives")])
    forget()
    yield "smooth"
    forget()
    sys.modules.pop("deit.learn.objectives.smooth", None)


def forget() -> None:
    objectives.names.cache_clear()
    objectives.objective_class.cache_clear()


def test_an_objective_is_one_file(tmp_path, smooth):
    objective = Objective.model_validate({"loss": smooth, "temperature": 3.0})
    assert Objective.model_validate(objective.model_dump()) == objective
    logits, targets = torch.randn(5, 4), torch.rand(5, 4)
    expected = torch.nn.functional.cross_entropy(logits / 3, targets)
    torch.testing.assert_close(objective_loss(objective, (logits,), targets, None), expected)
    warm, one = ({"objective": {"temperature": degrees}} for degrees in (3.0, 1.0))
    weights = run(training_job(tmp_path / "data", smooth, **warm), tmp_path / "warm")
    plain = run(training_job(tmp_path / "data", "labels"), tmp_path / "plain")
    assert not same(weights, plain)
    assert same(run(training_job(tmp_path / "data", smooth, **one), tmp_path / "one"), plain)


def test_an_optimiser_of_timm_is_a_line(tmp_path, monkeypatch):
    assert "nadamc" not in recipes.OPTIMIZERS
    monkeypatch.setitem(recipes.OPTIMIZERS, "nadamc", ("betas", "eps"))
    changes = {"optimizer": "nadamc", "betas": [0.8, 0.9], "learning_rate": 0.001}
    job = training_job(tmp_path / "data", optimisation=changes)
    optimizer = optimizer_of(create(job.resolved().model), job.resolved().optimisation)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
    weights = run(job, tmp_path / "run")
    assert all(tensor.isfinite().all() for tensor in weights.values())
