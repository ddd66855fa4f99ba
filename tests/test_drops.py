"""What a network drops is drawn by (seed, step, layer, position): by nothing else, at the rates that were asked for."""

import copy

import numpy as np
import pytest
import timm
import torch
from tiny_runs import BATCH, CPU, DEIT, DISTILLED, REGNETY, run, same, stream_of, training_job
from training_runs import SGD, close, stop_at

from deit.learn import training
from deit.learn.teacher import Answers, Seen
from deit.networks.check import Unfit, check
from deit.networks.distributed import Place
from deit.networks.drops import Drops, Paths, Units
from deit.networks.recipes import CheckedNetwork, Model
from deit.store.checkpoints import ResumeState

DROPOUT = {"pos_drop_rate": 0.2, "proj_drop_rate": 0.3, "attn_drop_rate": 0.2, "drop_rate": 0.4}
DROPS = DISTILLED | {"arguments": DEIT["arguments"] | DROPOUT, "classes": 4}
VIEWS = 64


@pytest.mark.parametrize(
    ("model", "loss"),
    [(DEIT, "labels"), (DROPS, "two-class-tokens"), (REGNETY | {"stochastic_depth": 0.5}, "labels")],
    ids=["deit", "drops", "regnety"],
)
def test_the_size_of_a_forward_pass_changes_no_draw(tmp_path, root, model, loss):
    changes = {"model": model, "optimisation": SGD | {"epochs": 1}}
    jobs = [training_job(root, loss, {"groups_per_forward": size}, **changes) for size in (0, 1, 3)]
    first, *others = (run(job, tmp_path / f"{size}") for size, job in enumerate(jobs))
    assert all(close(first, other) for other in others)


@pytest.mark.parametrize("world", [2, 4])
def test_the_number_of_ranks_changes_no_draw(root, world):
    def words(place: Place) -> torch.Tensor:
        job = training_job(root)
        stream = stream_of(job)
        one = training.set_up(job, stream, ResumeState(root, job.digest), CPU, None, None)
        share = stream.groups_per_batch // place.world
        groups = [stream[0, 1, number] for number in range(place.rank * share, (place.rank + 1) * share)]
        one.step = 1
        seen = Seen(torch.cat([group.positions for group in groups]), *stream.finish_all(groups, CPU.device), share)
        return training.shown(one, seen, Answers(0, seen, CPU)).words

    alone = words(CPU)
    assert len(alone.unique()) == alone.numel() == 2 * BATCH  # a layer a branch of the second block
    assert torch.equal(torch.cat([words(Place(CPU.device, rank, world)) for rank in range(world)], 1), alone)


def test_an_interruption_changes_no_draw(tmp_path, root, monkeypatch):
    job = training_job(root, "two-class-tokens", {"save_minutes": 1e-9}, model=DROPS)

    def crash():
        raise MemoryError

    with monkeypatch.context() as patch:
        stop_at(patch, 2, crash)
        with pytest.raises(MemoryError):
            run(job, tmp_path / "crashed")
    assert same(run(job, tmp_path / "crashed"), run(job, tmp_path / "undisturbed"))


def dropped(layer: torch.nn.Module, values: torch.Tensor, seed: int = 0, step: int = 0) -> torch.Tensor:
    """What a layer makes of values (B, ...) at the first positions of a step."""
    net = torch.nn.Sequential(copy.deepcopy(layer))
    drops = Drops(net, seed, len(values), torch.device("cpu"))
    drops.show(drops.of_step(step, np.arange(len(values))))
    return net(values)


@pytest.mark.parametrize("layer", [timm.layers.DropPath(0.3), torch.nn.Dropout(0.3)], ids=["paths", "units"])
@pytest.mark.parametrize("shape", [(4096, 40), (2048, 8, 3, 3)])
def test_a_part_is_dropped_and_the_mean_stays(layer, shape):
    kept = dropped(layer, torch.ones(shape))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.7])
    paths = isinstance(layer, timm.layers.DropPath)
    assert (kept.flatten(1).std(1).max() == 0) == paths
    count = shape[0] if paths else kept.numel()
    assert abs(kept.mean() - 1) < 4 * (0.3 / 0.7 / count) ** 0.5


@pytest.mark.parametrize("probability", [1e-6, 0.999999, 1.0])
def test_the_ends_of_a_probability(probability):
    kept = dropped(torch.nn.Dropout(probability), torch.ones(64, 100))
    assert kept.isfinite().all() and (kept != 0).float().mean() == pytest.approx(1 - probability, abs=1e-3)


def test_views_units_layers_steps_and_seeds_are_independent():
    """Each pair of masks agrees as often as independent ones do: in 58 % of places at a rate of 0.3."""
    net = torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Dropout(0.3))
    drops = Drops(net, 0, VIEWS, torch.device("cpu"))
    drops.show(drops.of_step(0, np.arange(VIEWS)))
    ones = torch.ones(VIEWS, 20000)
    first, second, again = net[0](ones), net[1](ones), net[0](ones)
    others = [dropped(torch.nn.Dropout(0.3), ones, *key) for key in ((0, 1), (1, 0))]
    assert torch.equal(dropped(torch.nn.Dropout(0.3), ones), first)
    masks = {"layer": second, "call": again, "step": others[0], "seed": others[1]}
    masks |= {"view": first.roll(1, 0), "unit": first.roll(1, 1), "far unit": first.roll(4096, 1)}
    for what, other in masks.items():
        alike = ((first > 0) == (other > 0)).float().mean(1)
        assert abs(alike.mean() - 0.58) < 5e-3, what
        assert (alike - 0.58).abs().max() < 0.03, what


def test_windows_and_calls_are_independent_and_belong_to_their_view():
    net = torch.nn.Sequential(timm.layers.DropPath(0.3))
    drops = Drops(net, 0, 20000, torch.device("cpu"))

    def masks(positions: np.ndarray) -> torch.Tensor:
        """(windows and calls, views)"""
        drops.show(drops.of_step(0, positions))
        return torch.cat([net(torch.ones(4 * len(positions))).view(-1, 4).T > 0 for _ in range(3)])

    of_all = masks(np.arange(20000))
    alike = (of_all[:, None] == of_all).float().mean(2)
    assert (alike[~torch.eye(12, dtype=torch.bool)] - 0.58).abs().max() < 0.015
    assert torch.equal(masks(np.arange(100, 300)), of_all[:, 100:300])


def test_a_network_may_cut_views_into_windows():
    model = Model(timm="mobilevit_s", classes=4, channels=3, resolution=256, stochastic_depth=0.1)
    check("net/256", CheckedNetwork(model=model, heads=1, trained=True), None)


def test_only_layers_that_drop_are_replaced_and_weights_keep_their_names():
    net = timm.create_model("vit_tiny_patch16_224", depth=3, drop_path_rate=0.2, proj_drop_rate=0.1)
    names = list(net.state_dict())
    drops = Drops(net.train(), 0, 2, torch.device("cpu"))
    kinds = [type(layer) for layer in drops.layers]
    assert (kinds.count(Paths), kinds.count(Units)) == (4, 9)
    assert list(net.state_dict()) == names and net.blocks[0].attn.fused_attn
    assert Drops(net.eval(), 0, 2, torch.device("cpu")).layers == []


@pytest.mark.parametrize(
    ("timm_name", "arguments", "words"),
    [
        ("vit_tiny_patch16_224", {"patch_drop_rate": 0.1}, "randn"),
        ("resnet18", {"drop_block_rate": 0.1}, "bernoulli_"),
        ("resnet18", {"drop_rate": 0.1}, "bernoulli_"),
    ],
)
def test_a_network_that_draws_otherwise_is_refused_before_it_is_trained(timm_name, arguments, words):
    model = Model(timm=timm_name, arguments=arguments, classes=4, channels=3, resolution=224, stochastic_depth=0.0)
    with pytest.raises(Unfit, match=rf"draws random numbers .*{words}.* models\.net\.arguments"):
        check("net/224", CheckedNetwork(model=model, heads=1, trained=True), None)
    plain = model.model_copy(update={"arguments": {}, "stochastic_depth": 0.1})
    check("net/224", CheckedNetwork(model=plain, heads=1, trained=True), None)
