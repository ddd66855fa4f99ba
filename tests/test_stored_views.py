"""A stored view is the view: the same bits, the same weights, and no other stream's."""

import pytest
import tiny_runs
import torch
from tiny_runs import run, same, stream_of, training_job

from deit.see.recipes import StoringViews
from deit.see.stored_views import StoredViews, open_stream, store
from deit.store.job import Execution


def stored(job, folder, execution: Execution | None = None):
    """A folder with all views of a training."""
    recipe = job.resolved()
    storing = StoringViews(
        **recipe.model_dump(include={"data", "views", "stream_seed"}), epochs=recipe.optimisation.epochs
    )
    folder.mkdir()
    store(folder, storing, open_stream(storing, job.execution.data_root), execution or Execution())
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_stored_groups_equal_made_ones_in_any_order(tmp_path, root, workers):
    job = training_job(root)
    folder = stored(job, tmp_path / "views", Execution(workers=workers))
    made, read = stream_of(job), StoredViews(folder, job.resolved())
    keys = [
        (epoch, step, group)
        for epoch in range(job.resolved().optimisation.epochs)
        for step in range(made.steps_per_epoch)
        for group in range(made.groups_per_batch)
    ]
    for key in reversed(keys):
        one, other = made[key], read[key]
        assert all(map(torch.equal, one[:-1], other[:-1])) and one.mixing == other.mixing, key


def test_a_run_from_stored_views_ends_with_the_same_bits(tmp_path, root, monkeypatch):
    job = training_job(root)
    made = run(job, tmp_path / "made")
    folder = stored(job, tmp_path / "views")
    monkeypatch.setattr(tiny_runs, "stream_of", lambda job: StoredViews(folder, job.resolved()))
    monkeypatch.setattr("deit.see.views.Renderer.__call__", lambda *_: pytest.fail("a view was made again"))
    assert same(run(job, tmp_path / "read"), made)


def test_views_of_another_stream_are_refused(tmp_path, root):
    folder = stored(training_job(root), tmp_path / "views")
    other = training_job(root, stream_seed=99).resolved()
    with pytest.raises(SystemExit, match="another stream"):
        StoredViews(folder, other)
