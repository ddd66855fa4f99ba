"""The recipes of CONTRIBUTING's "Adding", followed to the letter."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from in_process import working_in
from plan.studies import plan_study
from smoke_study import run_command
from tiny_runs import run, same, training_job

from deit.learn import objectives, recipes
from deit.learn.objectives import Objective, objective_loss
from deit.learn.optimizers import optimizer_of
from deit.networks.models import create
from deit.store.checkpoints import WEIGHTS, read_weights
from deit.store.results import read_result

ROOT = Path(__file__).parents[1]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def code_of(recipe: str, language: str) -> str:
    """The one block of code of a recipe."""
    section = CONTRIBUTING.partition(f"### {recipe}\n")[2].partition("\n### ")[0]
    (source,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return source


@pytest.fixture
def smooth(tmp_path, monkeypatch) -> str:
    """The objective that CONTRIBUTING adds, in a folder beside those of the package."""
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives/smooth.py").write_text(code_of("An objective", "python"), encoding="utf-8")
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


def test_a_network_is_params_alone(tmp_path):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    (tmp_path / "workflow").symlink_to(ROOT / "workflow")
    own = {"extends": "smoke"} | yaml.safe_load(code_of("A network", "yaml"))
    (tmp_path / "params/mine.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    with working_in(tmp_path):
        plan, others = plan_study("mine"), plan_study("smoke")
        new = {job.name: job for digest, job in plan.jobs.items() if digest not in others.jobs and job.kind == "train"}
        assert "students/deit-b/hard-from-resnet10t/15/seed0" in new and all("resnet10t" in name for name in new)
        teacher = new["teachers/resnet10t/labels/15/seed0"]
        plan.write({})
        needed = [plan.output_of(plan.networks), *sum(teacher.execution.folders.values(), [])]
        for job in [job for job in plan.jobs.values() if job.execution.output in needed] + [teacher]:
            run_command(plan, job)
        result = read_result(Path(teacher.execution.output))
        result.verify()
        assert "conv1.0.weight" in read_weights(result.file(WEIGHTS)), "a ResNet with a deep stem"
