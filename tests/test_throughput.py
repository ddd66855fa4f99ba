"""Throughput: counts, statistics and the search for the batch; how fast a machine is cannot be a test."""

import csv
import math

import pytest
import timm
import torch

from deit.commands.measure_throughput import measure_throughput
from deit.networks import throughput
from deit.networks.recipes import Model
from deit.networks.throughput import COLUMNS, largest_batch, measure, pass_seconds
from deit.store.job import Job

CPU = torch.device("cpu")
SIZES = {"embed_dim": 32, "depth": 1, "num_heads": 2, "patch_size": 7}
PLAIN = Model(
    timm="deit_tiny_patch16_224", arguments=SIZES, classes=10, channels=1, resolution=28, stochastic_depth=0.1
)
DISTILLED = PLAIN.model_copy(update={"timm": "deit_tiny_distilled_patch16_224"})


@pytest.mark.parametrize("model", [PLAIN, DISTILLED])
def test_a_row_is_complete_and_finite(model):
    row = measure(model, batch=4, repeats=3, device=CPU)
    assert tuple(row) == COLUMNS[1:]
    reference = timm.create_model(model.timm, img_size=28, in_chans=1, num_classes=10, **model.arguments)
    assert row["parameters"] == sum(p.numel() for p in reference.parameters())
    assert 0 < row["images_per_second"] < math.inf and 0 <= row["std"] < math.inf
    assert (row["batch"], row["precision"]) == (4, "fp32")
    assert row["device"]
    assert (row["embedding_dimension"], row["heads"], row["layers"]) == (32, 2, 1)


def test_mean_and_deviation_are_those_of_the_passes(monkeypatch):
    monkeypatch.setattr(throughput, "pass_seconds", lambda net, views, repeats: [0.5, 0.25, 1.0][:repeats])
    row = measure(PLAIN, batch=2, repeats=3, device=CPU)
    assert row["images_per_second"] == pytest.approx((4 + 8 + 2) / 3)
    assert row["std"] == pytest.approx(((4 - 14 / 3) ** 2 + (8 - 14 / 3) ** 2 + (2 - 14 / 3) ** 2) ** 0.5 / 2**0.5)
    assert math.isnan(measure(PLAIN, batch=2, repeats=1, device=CPU)["std"])


def test_the_cpu_has_a_batch_of_its_own(monkeypatch):
    monkeypatch.setattr(throughput, "pass_seconds", lambda net, views, repeats: [len(views)] * repeats)
    assert measure(PLAIN, batch=0, repeats=2, device=CPU)["batch"] == 64


class Counting(torch.nn.Module):
    """Notes what it is given, and has memory for `limit` images."""

    def __init__(self, limit=None):
        super().__init__()
        self.limit, self.batches, self.gradients = limit, [], []

    def forward(self, views):
        self.batches.append(len(views))
        self.gradients.append(torch.is_grad_enabled())
        if self.limit is not None and len(views) > self.limit:
            raise torch.cuda.OutOfMemoryError
        return views


def test_every_pass_shows_the_whole_batch_without_gradients():
    net = Counting()
    seconds = pass_seconds(net, torch.zeros(3, 1, 2, 2), repeats=4)
    assert len(seconds) == 4 and all(second > 0 for second in seconds)
    assert net.batches == [3] * (throughput.WARM_UP_PASSES + 4)
    assert not any(net.gradients)


@pytest.mark.parametrize(("limit", "batch"), [(1, 1), (2, 2), (23, 16), (32, 32)])
def test_the_largest_batch_is_the_last_power_of_two_that_fits(limit, batch):
    net = Counting(limit)
    assert largest_batch(net, (1, 2, 2), CPU) == batch
    assert net.batches == [2**power for power in range(len(net.batches))]


def test_a_model_too_large_for_the_gpu_is_a_clear_error():
    with pytest.raises(SystemExit, match="Use a larger GPU"):
        largest_batch(Counting(limit=0), (1, 2, 2), CPU)


def test_one_job_measures_all_models_in_order(tmp_path):
    models = {"Ti": PLAIN, "Ti distilled": DISTILLED}
    recipe = {
        "models": {label: model.model_dump() for label, model in models.items()},
        "batch": 2,
        "repeats": 2,
    }
    job = Job(kind="throughput", name="throughput", recipe=recipe, behaviour={})
    measure_throughput(job, tmp_path / "measured")
    with (tmp_path / "measured" / "throughput.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == list(models)
    assert tuple(rows[0]) == COLUMNS
    # The second token and its position are 32 numbers each, its head 32 x 10 + 10.
    assert int(rows[1]["parameters"]) - int(rows[0]["parameters"]) == 2 * 32 + 330
