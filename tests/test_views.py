"""Views against timm's stock transforms, and the promise that a view depends on its key alone."""

import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from streams import DATA, FASHION, UNMIXED, VIEWS, Numbers, colour, digest, digest_of, sha256, stream, views_of

from deit.see import views as module
from deit.see.datasets import training_images
from deit.see.loading import Keys, mix_groups
from deit.see.views import (
    keyed,
    stream_digest,
    transform_versions,
)
from deit.store.job import Execution

# Purity --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_worker_processes_do_not_matter(fashion, workers):
    subject, keys = stream(fashion), Keys(622, 627, 312, [1, 2, 3])  # over the end of an epoch
    with mix_groups(subject, keys, Execution(workers=workers)) as made:
        assert [digest_of(subject, group) for group in made] == [digest(stream(fashion), key) for key in keys]


def test_groups_made_together_are_each_as_alone(fashion):
    subject, keys = stream(fashion), [(3, 5, 2), (3, 5, 1), (0, 311, 1), (3, 5, 3), (3, 5, 2)]
    together = [digest_of(subject, group) for group in subject.__getitems__(keys)]
    assert together == [digest(subject, key) for key in keys]


@pytest.mark.parametrize("changes", [{}, {"mix_probability": 0.5}, {"erasing": 0}, {"switch_probability": 0}])
def test_groups_finished_together_are_each_as_alone(fashion, changes):
    """Mixup, cutmix, neither; boxes or none: all of a batch at once, to the same bits."""
    subject = stream(fashion, VIEWS.model_copy(update=changes))
    groups = [subject[key] for key in [(0, 0, 0), (3, 5, 1), (3, 5, 2), (0, 311, 1), (7, 2, 3), (9, 9, 0)]]
    views, targets = subject.finish_all(groups, torch.device("cpu"))
    alone = [subject.finish(group, torch.device("cpu")) for group in groups]
    assert torch.equal(views, torch.cat([seen for seen, _ in alone]))
    assert torch.equal(targets, torch.cat([wanted for _, wanted in alone]))


@pytest.mark.parametrize("together, decoded", [(1, 96), (2, 64), (4, 48), (12, 32)])
def test_an_image_is_decoded_once_for_the_views_that_are_made_together(together, decoded):
    """Of 96 views in 12 groups, three of an image."""
    asked, numbers = [], Numbers(200)
    subject = stream(numbers, VIEWS.model_copy(update={"batch": 96}))
    subject.images.image = lambda index: asked.append(index) or Numbers.image(numbers, index)
    for first in range(0, 12, together):
        subject.__getitems__([(0, 0, group) for group in range(first, first + together)])
    assert len(asked) == decoded


def test_a_loader_hands_over_a_third_of_the_bytes(fashion):
    subject = stream(fashion, VIEWS.model_copy(update={"resolution": 28}))
    groups = [subject[0, step, 0] for step in range(20)]
    handed = sum(part.nbytes for group in groups for part in group[:-1])
    assert groups[0].pixels.dtype == torch.uint8
    assert handed < sum(subject.finish(group, torch.device("cpu"))[0].nbytes for group in groups) / 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_finishes_views_with_the_same_bits(fashion):
    subject = stream(fashion, VIEWS.model_copy(update={"resolution": 28}))
    for step in range(20):
        group = subject[0, step, 0]
        on_cpu, on_gpu = (subject.finish(group, torch.device(device)) for device in ("cpu", "cuda"))
        assert all(torch.equal(one, other.cpu()) for one, other in zip(on_cpu, on_gpu, strict=True))


group_keys = st.tuples(st.integers(0, 400), st.integers(0, 311), st.integers(0, 3))


@settings(max_examples=15, deadline=None)
@given(keys=st.lists(group_keys, min_size=2, max_size=4), seed=st.integers(0, 2**32 - 1))
def test_neither_the_order_of_access_nor_global_generators_matter(fashion, keys, seed):
    subject = stream(fashion)
    once = {key: digest(subject, key) for key in keys}
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    assert {key: digest(subject, key) for key in reversed(keys)} == once


AUTOAUGMENT = ("v0", "v0-mstd0.5", "original", "original-mstd0.5")


@pytest.mark.parametrize("data", [DATA, colour()], ids=["grey", "colour"])
@pytest.mark.parametrize("configuration", AUTOAUGMENT)
def test_autoaugment_draws_from_the_key_alone(data, configuration):
    """Fresh streams, another order, generators elsewhere: the same views. Another seed, epoch or group: others."""
    images = training_images(data, FASHION)
    views = VIEWS.model_copy(update={"randaugment": configuration})
    keys, subject = [(0, 0, 0), (1, 2, 3), (7, 5, 1)], stream(images, views, data=data)
    once = [digest(subject, key) for key in keys]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    again = stream(images, views, data=data)
    assert [digest(again, key) for key in reversed(keys)] == once[::-1]
    others = [digest(subject, (0, 0, 1)), digest(subject, (1, 0, 0)), digest(stream(images, views, 6, data), (0, 0, 0))]
    assert len({*once, *others}) == 6
    assert subject[0, 0, 0].pixels.shape == (8, data.channels, 16, 16)


@pytest.mark.parametrize("configuration", AUTOAUGMENT)
def test_a_view_by_autoaugment_depends_on_its_own_position_only(fashion, configuration):
    """Not on the views made before it in its group, whose policies draw differently often."""
    views = UNMIXED.model_copy(update={"randaugment": configuration})
    whole, halves = stream(fashion, views), stream(fashion, views.model_copy(update={"mix_group": 4}))
    shown = {}
    for subject in (whole, halves):
        for group in range(subject.groups_per_batch):
            positions = subject[3, 0, group].positions.tolist()
            for position, view in zip(positions, views_of(subject, (3, 0, group)), strict=True):
                assert torch.equal(view, shown.setdefault(position, view))
    assert len(shown) == VIEWS.batch


def test_global_generators_are_left_as_they_were(fashion):
    def draws() -> tuple:
        return random.random(), np.random.rand(), float(torch.rand(1))

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    stream(fashion)[0, 0, 0]
    assert draws() == expected


def test_a_stream_can_be_sent_to_a_process(fashion):
    subject = stream(fashion)
    assert digest(pickle.loads(pickle.dumps(subject)), (2, 1, 0)) == digest(subject, (2, 1, 0))


@settings(max_examples=10, deadline=None)
@given(key=group_keys)
def test_seed_epoch_and_position_all_matter(fashion, key):
    epoch, step, group = key
    others = [
        digest(stream(fashion, seed=6), key),
        digest(stream(fashion), (epoch + 1, step, group)),
        digest(stream(fashion), (epoch, step, group ^ 1)),
    ]
    assert digest(stream(fashion), key) not in others


def test_an_unmixed_view_depends_on_its_position_not_on_the_size_of_its_group(fashion):
    def epoch_of(mix_group: int) -> torch.Tensor:
        views = UNMIXED.model_copy(update={"mix_group": mix_group})
        subject = stream(fashion, views)
        keys = [(3, 0, group) for group in range(subject.groups_per_batch)]
        positions = torch.cat([subject[key].positions for key in keys])
        return torch.cat([views_of(subject, key) for key in keys])[positions.argsort()]

    assert torch.equal(epoch_of(8), epoch_of(4)) and torch.equal(epoch_of(8), epoch_of(2))


# Order, repeats, groups ----------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(-(2**63), 2**63), epoch=st.integers(0, 2000), images=st.integers(1, 500))
def test_the_order_is_a_permutation(seed, epoch, images):
    assert sorted(module.epoch_order(seed, epoch, images)) == list(range(images))


def test_orders_differ_and_are_uniform():
    orders = np.array([module.epoch_order(seed, epoch, 6) for seed in range(30) for epoch in range(100)])
    counts = np.array([(orders == image).sum(0) for image in range(6)])
    assert np.all(abs(counts - 500) < 5 * np.sqrt(500 * 5 / 6)), "each image is equally often at each place"
    assert len({tuple(order) for order in orders}) > 700, "of 720 orders"


@settings(max_examples=40, deadline=None)
@given(
    mix_group=st.integers(1, 6),
    groups=st.integers(1, 8),
    images=st.integers(1, 150),
    repeats=st.integers(1, 5),
    epoch=st.integers(0, 3),
)
def test_each_epoch_shows_every_position_once_and_each_image_so_often(mix_group, groups, images, repeats, epoch):
    batch, repeats = mix_group * groups, min(repeats, groups)
    plain = {"mix_group": mix_group, "batch": batch, "repeats": repeats, "randaugment": "", "erasing": 0}
    subject = stream(Numbers(images), VIEWS.model_copy(update=plain | {"mix_probability": 0, "flip": 0}))
    assert subject.views_per_epoch == images // batch * batch == subject.steps_per_epoch * batch
    order, shown = module.epoch_order(subject.seed, epoch, images), {}
    for step in range(subject.steps_per_epoch):
        in_step = np.stack([subject.positions(step, group) for group in range(groups)])
        assert sorted(in_step.flat) == list(range(step * batch, (step + 1) * batch))
        for group in in_step:
            numbers = order[group // repeats]
            assert len(set(numbers)) == mix_group, "repeats of an image never share a group"
            shown |= dict(zip(group.tolist(), numbers.tolist(), strict=True))
    counts = np.bincount([shown[p] for p in range(subject.views_per_epoch)], minlength=images)
    assert (counts == repeats).sum() == subject.views_per_epoch // repeats
    assert counts.max(initial=0) <= repeats and counts.sum() == subject.views_per_epoch


def test_a_position_shows_its_image_with_its_label():
    data = DATA.model_copy(update={"mean": (0.0,), "std": (1.0,)})
    bare = {"randaugment": "", "erasing": 0, "mix_probability": 0, "label_smoothing": 0, "resolution": 28}
    subject = stream(Numbers(200), VIEWS.model_copy(update=bare), data=data)
    order = module.epoch_order(subject.seed, 4, 200)
    for group in range(4):
        shown = subject[4, 2, group]
        positions, (views, targets) = shown.positions, subject.finish(shown, torch.device("cpu"))
        assert torch.equal(positions, torch.arange(8) * 4 + 64 + group) and positions.dtype == torch.int64
        numbers = order[positions.numpy() // 3]
        assert np.array_equal((views[:, 0, 5, 5] * 255).round().numpy(), numbers)
        assert np.array_equal(targets.argmax(1).numpy(), numbers % 10)


# Keys and digests ----------------------------------------------------------------------------------------------------


def test_the_hash_is_splitmix64():
    """First numbers of splitmix64 from the seed 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64")."""
    golden = 0x9E3779B97F4A7C15
    states = [(1234567 + turn * golden) % 2**64 for turn in range(5)]
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert [int(keyed(state)[0]) for state in states] == expected


@given(words=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=4))
def test_an_array_of_keys_is_each_key_by_itself(words):
    *before, last = words
    together = keyed(*before, np.array([last, 0, 1]))
    assert together.tolist() == [int(keyed(*before, value)[0]) for value in (last, 0, 1)]


def test_keys_do_not_collide():
    keys = keyed(module.AUGMENTATION, 0, np.arange(50)[:, None, None], np.arange(2000)[:, None], np.arange(3))
    assert len(np.unique(keys)) == keys.size == 300_000


def test_a_stream_digest_sees_what_makes_views_and_no_path():
    once = stream_digest(DATA, VIEWS, 0)
    renamed = DATA.split.model_copy(update={"files": {"images": "elsewhere/a.gz"}, "folder": "train.tar"})
    assert stream_digest(DATA.model_copy(update={"split": renamed}), VIEWS, 0) == once
    other = DATA.split.model_copy(update={"md5": {"images": "0" * 32}})
    changed = [
        stream_digest(DATA, VIEWS, 1),
        stream_digest(DATA, VIEWS.model_copy(update={"flip": 0.4}), 0),
        stream_digest(DATA.model_copy(update={"split": other}), VIEWS, 0),
        stream_digest(DATA.model_copy(update={"held_out": 1}), VIEWS, 0),
    ]
    assert len({once, *changed}) == 5


def test_a_stream_digest_sees_versions(monkeypatch):
    once = stream_digest(DATA, VIEWS, 0)
    monkeypatch.setattr(module, "version", lambda name: "0.0+cpu")
    assert stream_digest(DATA, VIEWS, 0) != once
    assert transform_versions()["torch"] == "0.0"


GOLDEN_VERSIONS = {
    "python": "3.11",
    "numpy": "2.4.6",
    "pillow": "13.0.0",
    "timm": "1.0.31",
    "torch": "2.14.1",
    "torchvision": "0.29.1",
}
GOLDEN_VIEWS = {
    "mixed 16 (0, 0, 0)": "cbfdd90d7c200087",
    "mixed 16 (0, 311, 3)": "2f057804604e6c08",
    "mixed 16 (299, 17, 1)": "77fc8da2ace614f2",
    "plain 28 (0, 0, 0)": "9d5f213a17dbc448",
    "plain 28 (0, 311, 3)": "cbd653851750967e",
    "plain 28 (299, 17, 1)": "69f3ffef86ec0ba6",
}
needs_avx2 = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"),
    reason="erasing's normal noise differs in its last bits on processors without AVX2",
)


@needs_avx2
def test_golden_views(fashion):
    """A change here gives every training other views, and makes every cache of teacher logits stale."""
    versions = transform_versions()
    if versions != GOLDEN_VERSIONS:
        changed = {name: (GOLDEN_VERSIONS.get(name), found) for name, found in versions.items()}
        changed = {name: pair for name, pair in changed.items() if pair[0] != pair[1]}
        pytest.fail(f"versions changed: {changed}. Compare the views, then record versions and digests anew.")
    views = {"mixed 16": VIEWS, "plain 28": UNMIXED.model_copy(update={"resolution": 28})}
    found = {
        f"{name} {key}": digest(stream(fashion, recipe), key)
        for name, recipe in views.items()
        for key in [(0, 0, 0), (0, 311, 3), (299, 17, 1)]
    }
    assert found == GOLDEN_VIEWS, "equal parameters give other views than before: raise views.SCHEME, record anew"


class Patterns(Numbers):
    """Images in colour, 60 x 50 pixels of 8 x 8 random colours."""

    def image(self, index: int) -> Image.Image:
        colours = np.random.RandomState(index).randint(0, 256, (8, 8, 3)).astype(np.uint8)
        return Image.fromarray(colours).resize((60, 50), Image.Resampling.BICUBIC)


KINDS = {
    "bare": {"mix_probability": 0, "erasing": 0},
    "erased": {"mix_probability": 0, "erasing": 1},
    "mixup": {"switch_probability": 0, "erasing": 0.5},
    "cutmix": {"switch_probability": 1, "erasing": 0.5},
    "either": {"mix_probability": 0.7},
}
FROZEN = {
    "bare grey 28 (0, 0, 0)": "ad2198b632cef1b6",
    "bare grey 28 (3, 4, 2)": "5fdeb1f43c4b9508",
    "bare colour 224 (0, 0, 0)": "1f7b8465cfba9f99",
    "bare colour 224 (3, 4, 2)": "143b23813500771f",
    "erased grey 28 (0, 0, 0)": "cf19ded75502a7cc",
    "erased grey 28 (3, 4, 2)": "3207ce43e0bd0d9c",
    "erased colour 224 (0, 0, 0)": "b43c933ca91f989b",
    "erased colour 224 (3, 4, 2)": "68b44172f28fd892",
    "mixup grey 28 (0, 0, 0)": "8a07325e15ee02fe",
    "mixup grey 28 (3, 4, 2)": "b904f26979af5092",
    "mixup colour 224 (0, 0, 0)": "ffb93051ee23383c",
    "mixup colour 224 (3, 4, 2)": "79685d8dc728b4ce",
    "cutmix grey 28 (0, 0, 0)": "4d21b7c9d078028f",
    "cutmix grey 28 (3, 4, 2)": "60363dbb65d873f0",
    "cutmix colour 224 (0, 0, 0)": "6a7889c4ce0bc6dc",
    "cutmix colour 224 (3, 4, 2)": "478dc3ae328aadc8",
    "either grey 28 (0, 0, 0)": "db5ca8047c8d0493",
    "either grey 28 (3, 4, 2)": "16ff8719e531c265",
    "either colour 224 (0, 0, 0)": "67074e792f910447",
    "either colour 224 (3, 4, 2)": "647256f85ff037ea",
}


@needs_avx2
@pytest.mark.parametrize("kind", KINDS)
def test_views_are_those_of_the_first_scheme(fashion, kind):
    """Digests of views and targets (float32) as they were when the loader normalised, erased and mixed them itself."""
    grey = VIEWS.model_copy(update=KINDS[kind] | {"resolution": 28})
    colourful = VIEWS.model_copy(update=KINDS[kind] | {"resolution": 224, "batch": 16, "mix_group": 4})
    streams = {"grey 28": stream(fashion, grey), "colour 224": stream(Patterns(90), colourful, data=colour())}
    found = {
        f"{kind} {name} {key}": sha256(*subject.finish(subject[key], torch.device("cpu")))
        for name, subject in streams.items()
        for key in [(0, 0, 0), (3, 4, 2)]
    }
    assert found == {name: value for name, value in FROZEN.items() if name.startswith(kind)}
