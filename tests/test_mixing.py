"""Mixing against timm's own Mixup, and labels against pixels by arithmetic."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data import Mixup

from deit.see.finishing import mixed, mixed_targets
from deit.see.mixing import draw_mixing
from deit.see.recipes import Views

CLASSES = 7
PLAIN = {"resolution": 12, "batch": 8, "mix_group": 8, "repeats": 1, "scale": (0.1, 1), "ratio": (0.75, 1.3)}
PLAIN |= {"flip": 0, "randaugment": "", "erasing": 0, "mixup": 0.8, "cutmix": 1.0}
RECIPE = Views(**PLAIN, mix_probability=1, switch_probability=0.5, label_smoothing=0)


def recipe(**changes) -> Views:
    return RECIPE.model_copy(update=changes)


def constant_views() -> tuple[torch.Tensor, torch.Tensor]:
    """Views (8, 1, 12, 12) of a constant value each, 0 ... 7, and labels of 7 classes."""
    return torch.arange(8.0)[:, None, None, None].expand(8, 1, 12, 12).clone(), torch.tensor([0, 1, 2, 3, 4, 5, 6, 0])


def mix(views, labels, recipe: Views, key: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixed copies of views, and targets."""
    mixing = [draw_mixing(recipe, key)]
    return mixed(views, mixing), mixed_targets(labels, mixing, CLASSES, recipe.label_smoothing)


keys = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(key=keys, smoothing=st.sampled_from([0.0, 0.1]), switch=st.sampled_from([0.0, 0.5, 1.0]))
def test_timm_draws_the_same_from_the_same_seed(key, smoothing, switch):
    views = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(key % 99))
    labels = torch.arange(8) % CLASSES
    ours = mix(views, labels, recipe(label_smoothing=smoothing, switch_probability=switch), key)
    options = {"prob": 1.0, "switch_prob": switch, "label_smoothing": smoothing, "num_classes": CLASSES}
    np.random.seed(key)
    theirs = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, **options)(views.clone(), labels)
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


@settings(max_examples=60, deadline=None)
@given(key=keys)
def test_mixup_pixels_and_labels_share_one_lambda(key):
    views, labels = constant_views()
    seen, targets = mix(views, labels, recipe(switch_probability=0), key)
    weight = float((seen[0, 0, 0, 0] - 7) / (0 - 7))
    partner = torch.arange(7.0, -1, -1)
    expected = weight * torch.arange(8.0) + (1 - weight) * partner
    torch.testing.assert_close(seen, expected[:, None, None, None].expand_as(seen), rtol=0, atol=1e-5)
    for view in range(1, 7):
        assert targets[view, labels[view]] == pytest.approx(weight, abs=1e-5)
        assert targets[view, labels[7 - view]] == pytest.approx(1 - weight, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(key=keys)
def test_cutmix_labels_are_the_shares_of_the_area(key):
    views, labels = constant_views()
    mixed, targets = mix(views, labels, recipe(mixup=0), key)
    for view in range(1, 7):
        own, partner = (mixed[view] == view).float().mean(), (mixed[view] == 7 - view).float().mean()
        assert own + partner == 1
        assert targets[view, labels[view]] == pytest.approx(float(own), abs=1e-6)
        assert targets[view, labels[7 - view]] == pytest.approx(float(partner), abs=1e-6)
    rows, columns = (mixed[1, 0] != 1).any(1), (mixed[1, 0] != 1).any(0)
    assert (mixed[1, 0] != 1).sum() == rows.sum() * columns.sum(), "the cut is a rectangle"


@settings(max_examples=40, deadline=None)
@given(key=keys, smoothing=st.floats(0, 1), mixup=st.sampled_from([0.0, 0.8]), cutmix=st.sampled_from([0.0, 1.0]))
def test_targets_sum_to_one_and_are_not_negative(key, smoothing, mixup, cutmix):
    options = recipe(label_smoothing=smoothing, mixup=mixup, cutmix=cutmix)
    _, targets = mix(*constant_views(), options, key)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    assert targets.shape == (8, CLASSES) and targets.min() >= 0


@pytest.mark.parametrize("changes", [{"mix_probability": 0}, {"mixup": 0, "cutmix": 0}])
def test_without_mixing_views_stay_and_targets_are_smoothed_labels(changes):
    views, labels = constant_views()
    views, labels = views[:5], labels[:5]
    mixed, targets = mix(views, labels, recipe(label_smoothing=0.1, **changes), 0)
    assert torch.equal(mixed, views)
    expected = torch.nn.functional.one_hot(labels, CLASSES) * 0.9 + 0.1 / CLASSES
    torch.testing.assert_close(targets, expected)


def test_the_shares_of_mixed_groups_and_of_cutmix_are_the_probabilities():
    views, labels = constant_views()
    options = recipe(mix_probability=0.6, switch_probability=0.25)
    groups = [mix(views, labels, options, key)[0] for key in range(2000)]
    mixed = [group for group in groups if not torch.equal(group, views)]
    cut = [group for group in mixed if bool((group == group.round()).all())]
    assert len(mixed) / len(groups) == pytest.approx(0.6, abs=0.04)
    assert len(cut) / len(mixed) == pytest.approx(0.25, abs=0.05)


def test_a_draw_leaves_the_global_generator_and_is_the_same_again():
    np.random.seed(5)
    expected = np.random.rand(3)
    np.random.seed(5)
    first = draw_mixing(RECIPE, 11)
    assert np.array_equal(np.random.rand(3), expected)
    assert draw_mixing(RECIPE, 11) == first != draw_mixing(RECIPE, 12)
