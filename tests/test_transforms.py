"""The transforms of a view: timm's own, bit for bit, drawn from the view's key alone."""

import copy
import random
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageOps
from pydantic import ValidationError
from streams import (
    DATA,
    FASHION,
    UNMIXED,
    VIEWS,
    Numbers,
    Square,
    colour,
    stream,
    views_of,
)
from timm.data import create_transform
from timm.data.auto_augment import AugmentOp

from deit.see import views as module
from deit.see.datasets import training_images
from deit.see.recipes import AUGMENTATION, EvaluationView, TrainingData, Views
from deit.see.views import (
    evaluation_transform,
    keyed,
    stream_digest,
    training_transform,
)


def stock(views: Views, data: TrainingData):
    """timm's transform as anyone would make it."""
    return create_transform(
        (data.channels, views.resolution, views.resolution),
        is_training=True,
        scale=views.scale,
        ratio=views.ratio,
        hflip=views.flip,
        color_jitter=views.color_jitter or 0,
        auto_augment=views.randaugment or None,
        interpolation=views.interpolation or "bicubic",
        mean=data.mean,
        std=data.std,
        re_prob=views.erasing,
        re_mode="pixel",
    )


@pytest.mark.parametrize("data", [DATA, colour()], ids=["grey", "colour"])
@pytest.mark.parametrize(
    "changes",
    [
        {"randaugment": "rand-m5-mstd0.5-inc1"},
        {"randaugment": "rand-m5-mstd0.5-inc1", "resolution": 28, "erasing": 1},
        {"randaugment": "", "erasing": 0, "flip": 0},
        {"randaugment": "original-mstd0.5", "resolution": 40},
        {"randaugment": "original", "erasing": 1},
        {"randaugment": "3a", "color_jitter": 0.3, "erasing": 0},
        {"randaugment": "", "color_jitter": 0.3},
        {"randaugment": "rand-m5-mstd0.5-inc1", "interpolation": "bilinear", "resolution": 40},
        {"randaugment": "original-mstd0.5", "interpolation": "bilinear", "resolution": 40},
        {"randaugment": "3a", "interpolation": "bilinear", "erasing": 0},
    ],
)
def test_views_are_timms_own_bit_for_bit(fashion, data, changes):
    """At a magnitude of 5 no posterize is left without bits."""
    views = UNMIXED.model_copy(update=changes)
    images = training_images(data, FASHION)
    subject, transform = stream(images, views, data=data), stock(views, data)
    positions, seen = subject[1, 2, 3].positions, views_of(subject, (1, 2, 3))
    order = module.epoch_order(subject.seed, 1, len(images))
    seeds = keyed(module.AUGMENTATION, 5, 1, positions.numpy()[:, None], np.arange(3)).tolist()
    for view, number, (python, numpy, pytorch) in zip(seen, order[positions // 3], seeds, strict=True):
        random.seed(python), np.random.seed(numpy >> 32), torch.manual_seed(pytorch)
        assert torch.equal(view, transform(images.image(number)))


def test_three_augment_greys_solarises_or_blurs_each_view(fashion):
    """The three of DeiT III's augment.py, by plain Pillow; without the jitter that follows them."""
    bare = {"randaugment": "3a", "erasing": 0, "flip": 0, "scale": (1.0, 1.0), "ratio": (1.0, 1.0), "resolution": 60}
    subject = stream(Square(90), UNMIXED.model_copy(update=bare), data=colour())
    found = Counter()
    for group in range(4):
        shown = subject[0, 0, group]
        numbers = module.epoch_order(subject.seed, 0, 90)[shown.positions.numpy() // 3]
        for pixels, number in zip(shown.pixels, numbers, strict=True):
            image, view = Square(90).image(int(number)), pixels.permute(1, 2, 0).numpy()
            if np.array_equal(view, np.asarray(image.convert("L").convert("RGB"))):
                found["grey"] += 1
            elif np.array_equal(view, np.asarray(ImageOps.solarize(image))):
                found["solarised"] += 1
            else:
                radii = [radius / 20 for radius in range(2, 41)]
                blurred = [np.asarray(image.filter(ImageFilter.GaussianBlur(radius))) for radius in radii]
                assert min(np.abs(view.astype(int) - one).mean() for one in blurred) < 1
                found["blurred"] += 1
    assert found.keys() == {"grey", "solarised", "blurred"} and min(found.values()) >= 4


@pytest.mark.parametrize("interpolation", [None, "bilinear"])
@pytest.mark.parametrize("resolution", [60, 40])
def test_a_simple_crop_is_cut_from_the_whole_image_with_a_border_of_four_reflected_pixels(
    fashion, resolution, interpolation
):
    bare = {"randaugment": "", "erasing": 0, "flip": 0, "crop": "simple", "resolution": resolution}
    bare["interpolation"], size = interpolation, (resolution, resolution)
    resample = Image.Resampling.BILINEAR if interpolation else Image.Resampling.BICUBIC
    subject = stream(Square(90), UNMIXED.model_copy(update=bare), data=colour())
    shown, places = subject[0, 0, 0], set()
    numbers = module.epoch_order(subject.seed, 0, 90)[shown.positions.numpy() // 3]
    for pixels, number in zip(shown.pixels, numbers, strict=True):
        whole = Square(90).image(int(number)).resize(size, resample)
        padded = np.pad(np.asarray(whole), ((4, 4), (4, 4), (0, 0)), mode="reflect")
        corners = [(y, x) for y in range(9) for x in range(9)]
        view = pixels.permute(1, 2, 0).numpy()
        (place,) = [(y, x) for y, x in corners if np.array_equal(padded[y : y + resolution, x : x + resolution], view)]
        places.add(place)
    assert len(places) > 2


def test_options_that_are_not_used_leave_the_digest_of_a_stream():
    before = VIEWS.model_dump(exclude={"crop", "color_jitter", "interpolation"})
    assert stream_digest(DATA, Views.model_validate(before), 0) == stream_digest(DATA, VIEWS, 0)
    assert stream_digest(DATA, VIEWS, 0) == "57dab3e9ca"
    bicubic, bilinear = (Views.model_validate(before | {"interpolation": how}) for how in ("bicubic", "bilinear"))
    assert bicubic == VIEWS and stream_digest(DATA, bilinear, 0) != stream_digest(DATA, VIEWS, 0)


def test_thousands_of_views_raise_nothing_though_some_are_posterized_to_no_bits(fashion):
    """With Pillow 13, timm's own posterize raises on about one view in a thousand."""
    subject, bits = stream(fashion, UNMIXED.model_copy(update={"mix_group": 64, "batch": 256})), []

    def watched(image, bits_to_keep, **options):
        bits.append(bits_to_keep)
        return module.posterize_to_black(image, bits_to_keep, **options)

    for operation in module.augment_operations(subject.render.augment):
        if operation.aug_fn is module.posterize_to_black:
            operation.aug_fn = watched
    groups = [views_of(subject, (0, step, group)) for step in range(15) for group in range(4)]
    assert all(bool(torch.isfinite(group).all()) for group in groups)
    assert 0 in bits and set(bits) <= {0, 1, 2}


def test_a_posterize_of_no_bits_is_black():
    views = UNMIXED.model_copy(update={"randaugment": "rand-m10-inc1"})
    for mode, data in {"L": DATA, "RGB": colour()}.items():
        operations = list(module.augment_operations(training_transform(data, views)))
        posterize = next(operation for operation in operations if operation.name == "PosterizeIncreasing")
        always = copy.copy(posterize)
        always.prob = 1.0
        image = Image.effect_noise((28, 28), 60).convert(mode)
        assert always(image).getextrema() == Image.new(mode, (28, 28)).getextrema()
        always.magnitude = 5
        assert max(np.unique(np.asarray(always(image)) & 63)) == 0, "two bits stay"


def test_timms_own_operations_are_not_touched():
    training_transform(DATA, VIEWS)
    assert AugmentOp("PosterizeIncreasing").aug_fn.__module__ == "timm.data.auto_augment"


@pytest.mark.parametrize("configuration", ["v0-mstd0.5", "v0r-mstd0.5", "original-mstd0.5", "rand-m9-n3-mstd0.5"])
def test_no_policy_is_left_with_timms_posterize(configuration):
    views = VIEWS.model_copy(update={"randaugment": configuration})
    operations = list(module.augment_operations(training_transform(DATA, views)))
    posterizes = [operation for operation in operations if operation.name.startswith("Posterize")]
    assert posterizes and all(operation.aug_fn is module.posterize_to_black for operation in posterizes)


@settings(max_examples=150, deadline=None)
@given(configuration=st.from_regex(AUGMENTATION, fullmatch=True))
def test_timm_builds_every_augmentation_that_a_recipe_may_name(configuration):
    views = Views.model_validate(VIEWS.model_dump() | {"randaugment": configuration})
    for data in (DATA, colour()):
        operations = list(module.augment_operations(training_transform(data, views)))
        assert bool(operations) == bool(configuration)


WRONG = ("v1", "orginal", "original-m9", "rand-x9", "rand-m", "randaugment", "rand-m9-mstd.5", "v0-mstdx", "v0-", " ")


@pytest.mark.parametrize("configuration", [*WRONG, "rand-m9-tweigths", "rand-m9 -inc1", "rand-mstd0.5-inc", "v0\n"])
def test_a_wrong_augmentation_is_refused_also_where_timm_would_overlook_it(configuration):
    with pytest.raises(ValidationError, match=r"randaugment\n  should be rand-m9-mstd0\.5-inc1, original-mstd0\.5"):
        Views.model_validate(VIEWS.model_dump() | {"randaugment": configuration})


@pytest.mark.parametrize("data", [DATA, colour()], ids=["grey", "colour"])
def test_every_operation_works_and_fills_with_the_mean(data):
    """Grey images have one mean, so a fill colour of one part."""
    mode, mean = {1: "L", 3: "RGB"}[data.channels], tuple(round(255 * value) for value in data.mean)
    white = Image.new(mode, (28, 28), (255,) * data.channels)
    for operation in module.augment_operations(training_transform(data, VIEWS)):
        operation.prob = 1.0
        assert operation(white).mode == mode and operation(white).size == (28, 28)
        if operation.name in ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"):
            colours = {colour for _, colour in operation(white).getcolors(28 * 28)}
            assert (mean if data.channels == 3 else mean[0]) in colours


def test_erasing_leaves_normal_noise_of_which_each_view_has_its_own():
    views = UNMIXED.model_copy(update={"erasing": 1, "randaugment": "", "flip": 0, "resolution": 28})
    seen = views_of(stream(Numbers(100), views), (0, 0, 0))
    plain = views_of(stream(Numbers(100), views.model_copy(update={"erasing": 0})), (0, 0, 0))
    noise = [erased[erased != whole] for erased, whole in zip(seen, plain, strict=True)]
    assert all(0.01 < len(part) / 28**2 < 0.4 for part in noise)
    together = torch.cat(noise)
    assert abs(together.mean()) < 0.15 and abs(together.std() - 1) < 0.1
    assert len(set(together.tolist())) > 0.99 * len(together)


def test_evaluation_shows_the_centre_of_the_resized_image(fashion):
    transform = evaluation_transform(DATA, EvaluationView(resolution=28, crop=0.875))
    image = fashion.image(3)
    resized = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC), dtype=np.float32)[2:30, 2:30]
    expected = (torch.from_numpy(resized)[None] / 255 - 0.286) / 0.353
    torch.testing.assert_close(transform(image), expected)
    assert evaluation_transform(colour(), EvaluationView(resolution=16, crop=1))(image.convert("RGB")).shape == (
        3,
        16,
        16,
    )
