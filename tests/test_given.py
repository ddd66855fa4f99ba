"""Weights given to one model: the network answers as plain timm's does, or is refused by one message."""

import hashlib
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_runs import training_job
from torch import Tensor, nn
from torch.nn.functional import interpolate

from deit.commands.import_weights import import_weights
from deit.learn.training import begin_from
from deit.networks import models
from deit.networks.conventions import LUMA, Translated
from deit.networks.given import load_network, refuse_other_classes
from deit.networks.models import create, token_logits
from deit.networks.recipes import Conventions, Importing, Model
from deit.networks.start import start_from
from deit.see.recipes import Data
from deit.store.checkpoints import read_weights
from deit.store.job import Execution, Job
from deit.store.results import Result, new_folder, read_result

TAG = "regnety_002.pycls_in1k"
GREY = {"mean": (0.5,), "std": (0.25,)}
RGB = {"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.2, 0.3)}
TEACHER = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def model(name: str = "regnety_002", **changes) -> Model:
    sizes = {"classes": 4, "channels": 3, "resolution": 24, "stochastic_depth": 0.0}
    return Model.model_validate({"timm": name} | sizes | changes)


def data_of(channels: int) -> Data:
    statistics = GREY if channels == 1 else RGB
    return Data(name="tiny", reader="idx", classes=4, channels=channels, **statistics)


def plain(name: str = "regnety_002", seed: int = 0, **sizes) -> nn.Module:
    """timm's own network, with weights that are spread enough for its answers to differ."""
    torch.manual_seed(seed)
    net = timm.create_model(name, **sizes)
    for parameter in net.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return net.eval()


def imported(folder: Path, wanted: Model, source: dict, inputs: dict | None = None, **recipe) -> Result:
    statistics = GREY if wanted.channels == 1 else RGB
    recipe = Importing(model=wanted, **statistics, source=source, **recipe).model_dump(mode="json")
    job = Job(kind="import", name="given/x", recipe=recipe, inputs=inputs or {}, behaviour={})
    import_weights(job.model_copy(update={"execution": Execution(data_root=str(folder))}), folder / "imported")
    return read_result(folder / "imported")


def as_file(net: nn.Module, folder: Path) -> dict:
    save_file(net.state_dict(), folder / "net.safetensors")
    return {"file": "net.safetensors", "sha256": hashlib.sha256((folder / "net.safetensors").read_bytes()).hexdigest()}


# A network sees the study's views in its own way ----------------------------------------------------------------------


def pixels(channels: int) -> Tensor:
    return torch.rand(5, channels, 24, 24, generator=torch.Generator().manual_seed(1))


def normalised(images: Tensor, statistics: dict) -> Tensor:
    mean, std = (torch.tensor(statistics[key])[:, None, None] for key in ("mean", "std"))
    return (images - mean) / std


SIGHTS = {
    "the same": (3, RGB, 24, []),
    "its normalisation": (3, TEACHER, 24, ["sees views of mean [0.485, 0.456, 0.406] and std [0.229, 0.224, 0.225]"]),
    "its resolution": (3, RGB, 40, ["sees 40 pixels, resized from 24"]),
    "RGB of grey": (1, TEACHER, 40, ["sees 40 pixels, resized from 24", "sees RGB, made of grey"]),
}


@pytest.mark.parametrize("sight", SIGHTS)
def test_a_network_answers_as_plain_timm_on_the_same_pixels(tmp_path, sight):
    channels, statistics, resolution, differs = SIGHTS[sight]
    net = plain(num_classes=4)
    own = {"resolution": resolution, **statistics}
    run = imported(tmp_path, model(channels=channels), as_file(net, tmp_path) | own)
    assert sorted(run.json("source.json")["differs"]) == sorted(differs)
    study = data_of(channels)
    given = load_network(run, model(channels=channels), study).eval()
    images = pixels(channels)
    seen = images.expand(-1, 3, -1, -1)
    if resolution != 24:
        seen = interpolate(seen, (resolution, resolution), mode="bicubic", antialias=True)
    with torch.inference_mode():
        (said,) = token_logits(given, normalised(images, GREY if channels == 1 else RGB))
        expected = net(normalised(seen, statistics))
    torch.testing.assert_close(said, expected, atol=2e-4, rtol=1e-4)
    if sight == "the same":
        with torch.inference_mode():
            expected = net.to(memory_format=torch.channels_last)(normalised(seen, statistics))
        assert torch.equal(said, expected) and type(given) is type(net)


def test_a_grey_network_sees_rgb_as_grey(tmp_path):
    net = plain(num_classes=4, in_chans=1)
    run = imported(tmp_path, model(), as_file(net, tmp_path) | GREY)
    assert run.json("source.json")["differs"] == ["sees grey, made of RGB"]
    grey = (pixels(3) * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    with torch.inference_mode():
        (said,) = token_logits(load_network(run, model(), data_of(3)).eval(), normalised(pixels(3), RGB))
        torch.testing.assert_close(said, net(normalised(grey, GREY)), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(("own", "study"), [(3, 1), (1, 3)])
def test_a_network_of_other_channels_has_the_studys_statistics_where_nothing_tells_its_own(tmp_path, own, study):
    run = imported(tmp_path, model(channels=study), as_file(plain(num_classes=4, in_chans=own), tmp_path))
    noted = run.json("source.json")["conventions"]
    expected = [0.5] * 3 if own == 3 else [pytest.approx(0.4)]
    assert noted["mean"] == expected and len(noted["std"]) == own
    with torch.inference_mode():
        (said,) = token_logits(load_network(run, model(channels=study), data_of(study)).eval(), pixels(study))
    assert said.shape == (5, 4)


@pytest.mark.parametrize("size", [40, 16])
def test_resizing_is_pillows(size):
    net = Translated(nn.Identity(), conventions(size), conventions(24))
    ours = net.seen(pixels(1))[0, 0].numpy()
    theirs = Image.fromarray(pixels(1)[0, 0].numpy()).resize((size, size), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(ours, np.asarray(theirs), atol=1e-5)


def conventions(resolution: int) -> Conventions:
    return Conventions(classes=4, channels=1, resolution=resolution, **GREY)


MEANINGS = {"one class each": [[6], [0], [3], [1]], "several classes": [[6, 2], [0], [3], [1, 5, 4]]}


@pytest.mark.parametrize("meaning", MEANINGS)
def test_more_classes_are_mapped(tmp_path, meaning):
    net, classes = plain(num_classes=7), MEANINGS[meaning]
    run = imported(tmp_path, model(), as_file(net, tmp_path) | {"classes": classes} | RGB)
    used = sum(map(len, classes))
    assert run.json("source.json")["differs"] == [f"says 7 classes, {used} of which mean the study's 4"]
    with torch.inference_mode():
        (said,) = token_logits(load_network(run, model(), data_of(3)).eval(), normalised(pixels(3), RGB))
        probabilities = net(normalised(pixels(3), RGB)).softmax(1)
    expected = torch.stack([probabilities[:, each].sum(1) for each in classes], 1)
    torch.testing.assert_close(said.softmax(1), expected / expected.sum(1, keepdim=True))


def refused(tmp_path, wanted: Model, source: dict, **recipe) -> str:
    with pytest.raises(SystemExit) as error:
        imported(tmp_path, wanted, source, **recipe)
    assert not (tmp_path / "imported").exists() and "\n" not in str(error.value)
    return str(error.value)


def test_other_classes_are_refused_with_both_numbers(tmp_path):
    source = as_file(plain(num_classes=7), tmp_path)
    assert "says 7 classes, and the study has 4. Tell by the key `classes`" in refused(tmp_path, model(), source)
    wrong = source | {"classes": [[0], [1], [2], [7]]}
    assert "has no class 7, as it says 7" in refused(tmp_path, model(), wrong)


def test_statistics_of_other_channels_are_refused_with_their_key(tmp_path):
    source = as_file(plain(num_classes=4), tmp_path) | {"mean": (0.5,)}
    assert "weights.mean: has 1 value(s), and the network sees 3 channel(s)" in refused(tmp_path, model(), source)


def test_weights_without_a_head_start_trainings_and_teach_nobody(tmp_path):
    """As those of MAE, DINO and DINOv2: timm tells 0 classes of them."""
    net = plain(DEIT, num_classes=0, img_size=32, **SMALL)
    source = as_file(net, tmp_path)
    before, after, notes = started(deit(DEIT), net.state_dict())
    assert notes == ["a new head: the given weights have none"]
    new = {"head.weight", "head.bias"}
    assert all(torch.equal(after[name], (before if name in new else net.state_dict())[name]) for name in after)
    _, of_two, notes = started(deit(TOKEN), net.state_dict())
    assert len(notes) == 2 and torch.equal(of_two["blocks.0.attn.qkv.weight"], after["blocks.0.attn.qkv.weight"])
    run = imported(tmp_path, deit(DEIT), source, starts=True)
    kept = read_weights(run.file("weights.safetensors"))
    assert kept.keys() == net.state_dict().keys() and run.json("source.json")["conventions"]["classes"] == 0
    told = Conventions(classes=0, channels=3, resolution=32, **RGB)
    recipe = Importing(model=deit(DEIT), **RGB, source=source)
    with pytest.raises(SystemExit, match="net: has no classifier, and so says no classes"):
        refuse_other_classes(recipe, told, "net")
    assert refuse_other_classes(recipe.model_copy(update={"starts": True}), told, "net") is None


def test_another_network_and_another_file_are_refused(tmp_path):
    source = as_file(plain(num_classes=4), tmp_path)
    assert "Missing key(s)" in refused(tmp_path, model("resnet18"), source)
    assert "declare 12345678" in refused(tmp_path, model(), source | {"sha256": "12345678"})
    (tmp_path / "net.safetensors").unlink()
    assert "is missing" in refused(tmp_path, model(), source)


# From the hub, and from another study ---------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch) -> nn.Module:
    """A network in the hub's cache, laid out as its client does, and no way to the hub."""
    net = plain()
    repository = tmp_path / "hub" / f"models--timm--{TAG}"
    revision = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(revision, encoding="utf-8")
    (repository / "snapshots" / revision).mkdir(parents=True)
    save_file(net.state_dict(), repository / "snapshots" / revision / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return net


def test_a_tag_is_read_from_the_hubs_cache_as_timm_reads_it(tmp_path, hub):
    classes = [[1], [10], [100], [999]]
    run = imported(tmp_path, model(), {"timm": TAG, "classes": classes})
    theirs = timm.create_model(TAG, pretrained=True).eval()
    found = read_weights(run.file("weights.safetensors"))
    assert all(torch.equal(found[name], tensor) for name, tensor in theirs.state_dict().items())
    source = run.json("source.json")
    assert source["timm"] == TAG and len(source["sha256"]) == 64
    assert source["differs"][0] == "sees 224 pixels, resized from 24"
    seen = interpolate(pixels(3), (224, 224), mode="bicubic", antialias=True)
    with torch.inference_mode():
        (said,) = token_logits(load_network(run, model(), data_of(3)).eval(), normalised(pixels(3), RGB))
        expected = theirs(normalised(seen, TEACHER))[:, [1, 10, 100, 999]]
    torch.testing.assert_close(said, expected, atol=2e-4, rtol=1e-4)
    by_name = timm.create_model(f"local-dir:{run.folder}", pretrained=True)
    assert tuple(by_name.pretrained_cfg["mean"]) == TEACHER["mean"] and by_name.num_classes == 1000


def test_a_repository_of_the_hub_tells_its_network_itself(tmp_path, hub):
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub/models--me--teacher"
    (tmp_path / f"hub/models--timm--{TAG}").rename(repository)
    statistics = {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    config = {
        "architecture": "regnety_002",
        "num_classes": 1000,
        "pretrained_cfg": {"input_size": [3, 48, 48]} | statistics,
    }
    (repository / f"snapshots/{revision}/config.json").write_text(json.dumps(config), encoding="utf-8")
    source = {"timm": "hf-hub:me/teacher", "classes": [[1], [10], [100], [999]]}
    noted = imported(tmp_path, model(), source).json("source.json")
    assert noted["conventions"]["resolution"] == 48 and noted["conventions"]["mean"] == [0.5, 0.5, 0.5]
    shutil.rmtree(tmp_path / "imported")
    assert "is of regnety_002, and given to resnet18" in refused(tmp_path, model("resnet18"), source)


def test_a_tag_that_is_not_in_the_cache_is_one_message(tmp_path, hub):
    assert "could be had from the hub" in refused(tmp_path, model(), {"timm": "resnet18.a1_in1k"})


def test_a_run_of_another_study_brings_its_conventions(tmp_path):
    job = training_job(tmp_path / "images", model={"timm": "regnety_002", "arguments": {}})
    with new_folder(tmp_path / "run", job) as folder:
        net = create(job.resolved().model).to(memory_format=torch.contiguous_format)
        save_file(net.state_dict(), folder / "weights.safetensors")
    recipe = {"model": model(), **RGB, "source": {"study": "other", "run": "a/labels/14/seed0"}}
    recipe = Importing(**recipe).model_dump(mode="json")
    given = Job(kind="import", name="given/x", recipe=recipe, inputs={"run": job.digest}, behaviour={})
    import_weights(given, tmp_path / "imported", read_result(tmp_path / "run"))
    source = read_result(tmp_path / "imported").json("source.json")
    assert source["run"] == "a/labels/14/seed0" and source["conventions"]["resolution"] == 14
    assert source["conventions"]["mean"] == [0.5] and "sees grey, made of RGB" in source["differs"]
    other = given.model_copy(update={"recipe": recipe | {"model": model("resnet18").model_dump(mode="json")}})
    with pytest.raises(SystemExit, match="is of regnety_002 .* given to resnet18"):
        import_weights(other, tmp_path / "refused", read_result(tmp_path / "run"))


# Where trainings start ------------------------------------------------------------------------------------------------

SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2}
DEIT, TOKEN = "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"


def deit(name: str, **changes) -> Model:
    return model(name, **{"arguments": SMALL, "resolution": 32} | changes)


def started(wanted: Model, weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """The state before and after, and what is said."""
    torch.manual_seed(3)
    net = create(wanted)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    notes = start_from(net, weights)
    return before, net.state_dict(), notes


def test_the_same_network_starts_with_the_very_weights():
    weights = plain(DEIT, num_classes=4, img_size=32, **SMALL).state_dict()
    _, after, notes = started(deit(DEIT), weights)
    assert not notes and all(torch.equal(after[name], weights[name]) for name in weights)


def test_another_number_of_classes_gets_a_new_head():
    weights = plain(DEIT, num_classes=7, img_size=32, **SMALL).state_dict()
    before, after, notes = started(deit(DEIT), weights)
    new = {"head.weight", "head.bias"}
    assert notes == ["a new head for 4 classes: the given one has 7"]
    assert all(torch.equal(after[name], (before if name in new else weights)[name]) for name in weights)
    weights = plain(num_classes=7).state_dict()
    before, after, notes = started(model(), weights)
    assert notes == ["a new head.fc for 4 classes: the given one has 7"]
    assert torch.equal(after["head.fc.weight"], before["head.fc.weight"])


def test_a_position_embedding_is_resized_as_for_a_fine_tuning():
    weights = plain(DEIT, num_classes=4, img_size=32, **SMALL).state_dict()
    _, after, notes = started(deit(DEIT, resolution=48), weights)
    net = create(deit(DEIT, resolution=48))
    models.load_weights(net, weights)
    assert notes == ["pos_embed (1, 5, 16) brought to (1, 10, 16)"]
    assert torch.equal(after["pos_embed"], net.pos_embed)


def test_a_distilled_student_starts_from_an_undistilled_backbone():
    weights = plain(DEIT, num_classes=4, img_size=32, **SMALL).state_dict()
    before, after, notes = started(deit(TOKEN), weights)
    assert notes == ["a new distillation token, with its head and position: the given weights have none"]
    new = {"dist_token", "head_dist.weight", "head_dist.bias"}
    assert all(torch.equal(after[name], before[name]) for name in new)
    assert all(torch.equal(after[name], weights[name]) for name in weights if name != "pos_embed")
    assert torch.equal(after["pos_embed"][:, [0, *range(2, 6)]], weights["pos_embed"])
    assert torch.equal(after["pos_embed"][:, 1], before["pos_embed"][:, 1])


def test_an_undistilled_one_starts_from_a_distilled_one_without_its_token():
    weights = plain(TOKEN, num_classes=4, img_size=32, **SMALL).state_dict()
    _, after, notes = started(deit(DEIT), weights)
    assert notes == ["without the given weights' distillation token"]
    assert torch.equal(after["pos_embed"], weights["pos_embed"][:, [0, *range(2, 6)]])


def test_channels_are_adapted_as_timm_does():
    weights = plain(DEIT, num_classes=4, img_size=32, **SMALL).state_dict()
    _, after, notes = started(deit(DEIT, channels=1), weights)
    assert notes == ["patch_embed.proj.weight for 1 channels, made of that for 3"]
    torch.testing.assert_close(
        after["patch_embed.proj.weight"], weights["patch_embed.proj.weight"].sum(1, keepdim=True)
    )


def test_what_had_to_be_fitted_is_in_the_log_and_what_cannot_be_is_refused(tmp_path, caplog):
    save_file(plain(DEIT, num_classes=7, img_size=32, **SMALL).state_dict(), tmp_path / "weights.safetensors")
    with caplog.at_level(logging.INFO):
        begin_from(create(deit(DEIT)), tmp_path / "weights.safetensors", "students/x")
    assert "starts from given weights: a new head for 4 classes" in caplog.text
    with pytest.raises(SystemExit, match=r"students/x: cannot start from .*: .*size mismatch"):
        begin_from(
            create(deit(DEIT, arguments=SMALL | {"embed_dim": 8})), tmp_path / "weights.safetensors", "students/x"
        )


def test_weights_to_start_from_may_be_of_the_variant_with_a_token(tmp_path):
    source = as_file(plain(TOKEN, num_classes=7, img_size=32, **SMALL), tmp_path)
    run = imported(tmp_path, deit(DEIT), source, timm_distilled=TOKEN, starts=True)
    assert json.loads(run.file("config.json").read_bytes())["architecture"] == TOKEN
    assert "dist_token" in read_weights(run.file("weights.safetensors"))
