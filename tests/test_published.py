"""Weights that others have published become a run's folder, or are refused by one message; no code of a file is run."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from deit.commands.import_weights import import_weights
from deit.networks import given, models
from deit.networks.recipes import Importing, Model
from deit.store.checkpoints import read_weights
from deit.store.job import Execution, Job
from deit.store.results import read_result

CLASSES = 12
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def model(name: str, **changes) -> Model:
    sizes = {"classes": CLASSES, "channels": 3, "resolution": 32, "stochastic_depth": 0.1}
    return Model.model_validate({"timm": name} | sizes | changes)


TAG = "deit_tiny_patch16_224.fb_in1k"
SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 1}
NARROW = SMALL | {"embed_dim": 8}
TOKEN = model("deit_tiny_distilled_patch16_224", arguments=SMALL)
LABELS = model("deit_tiny_patch16_224", arguments=SMALL)


def random_weights(wanted: Model, seed: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    net = models.create(wanted).to(memory_format=torch.contiguous_format)
    return {name: torch.randn_like(tensor) * 0.1 if tensor.is_floating_point() else tensor
            for name, tensor in net.state_dict().items()}  # fmt: skip


def imported(folder: Path, wanted: Model, **source) -> Path:
    """The folder of an import."""
    recipe = Importing(model=wanted, mean=MEAN, std=STD, source=source).model_dump(mode="json")
    job = Job(kind="import", name="given/x", recipe=recipe, behaviour={}, execution=Execution(data_root=str(folder)))
    import_weights(job, folder / "imported")
    return folder / "imported"


def refusal(folder: Path, wanted: Model, file: str, **source) -> str:
    with pytest.raises(SystemExit) as error:
        imported(folder, wanted, file=file, **source)
    assert not (folder / "imported").exists()
    message = str(error.value)
    assert message.startswith(f"{folder / file}: ") and "\n" not in message, message
    return message


WRITERS = {
    "authors.pth": lambda weights, path: torch.save({"model": weights}, path),
    "bare.pth": torch.save,
    "hub.safetensors": save_file,
}


@pytest.mark.parametrize("wanted", [LABELS, TOKEN, model("regnety_002")], ids=lambda wanted: wanted.timm)
@pytest.mark.parametrize("file", WRITERS)
def test_a_published_file_becomes_a_run(tmp_path, wanted, file):
    weights = random_weights(wanted)
    WRITERS[file](weights, tmp_path / file)
    sha256 = hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()
    result = read_result(imported(tmp_path, wanted, file=file, sha256=sha256[:8]))
    found = read_weights(result.file("weights.safetensors"))
    assert found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in weights)
    conventions = wanted.model_dump(include={"classes", "channels", "resolution"}) | {"mean": [*MEAN], "std": [*STD]}
    source = {"name": "given/x", "file": file, "sha256": sha256, "differs": []}
    assert result.json("source.json") == source | {"conventions": conventions | {"meaning": None}}
    by_name = timm.create_model(f"local-dir:{result.folder}", pretrained=True)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in by_name.state_dict().items())


def test_names_are_those_of_the_authors_files():
    """The keys of the authors' DeiT files, as their models.py builds them, for a network of one block."""
    block = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    layers = ("patch_embed.proj", *(f"blocks.0.{layer}" for layer in block), "norm", "head", "head_dist")
    keys = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")} | {
        "cls_token", "dist_token", "pos_embed",
    }  # fmt: skip
    assert keys == models.create(TOKEN.model_copy(update={"arguments": SMALL | {"depth": 1}})).state_dict().keys()


def test_keys_of_another_library_are_translated_by_timm(tmp_path):
    torch.manual_seed(0)
    theirs = torchvision.models.regnet_y_400mf(num_classes=CLASSES).eval()
    torch.save(theirs.state_dict(), tmp_path / "torchvision.pth")
    folder = imported(tmp_path, model("regnety_004"), file="torchvision.pth")
    ours = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    views = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(views), theirs(views))


class Bomb:
    def __reduce__(self):
        return os.mkdir, (str(Bomb.folder),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    Bomb.folder = tmp_path / "exploded"
    torch.save({"model": random_weights(LABELS), "args": Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"model": Bomb()}, protocol=2))
    for file in ("bomb.pth", "old.pth"):
        assert "refused" in refusal(tmp_path, LABELS, file)
    assert not Bomb.folder.exists()
    torch.load(tmp_path / "bomb.pth", weights_only=False)
    assert Bomb.folder.exists(), "it would have run"


def change(weights: dict[str, torch.Tensor], **changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in (weights | changes).items() if tensor is not None}


def another(**changes) -> dict[str, torch.Tensor]:
    return random_weights(LABELS.model_copy(update=changes))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda good: change(good, cls_token=None), "Missing key(s) in state_dict: \"cls_token\""),
        (lambda good: change(good, dist_token=good["cls_token"]), "Unexpected key(s) in state_dict: \"dist_token\""),
        (lambda good: random_weights(model("regnety_002")), "Missing key(s)"),
        (lambda good: another(classes=10), "says 10 classes, and the study has 12"),
        (lambda good: another(resolution=48), "pos_embed (1, 10, 16) for (1, 5, 16)"),
        (lambda good: another(arguments=NARROW), "blocks.0.attn"),
        (lambda good: [1, 2], "holds no state dict"),
        (lambda good: {"epoch": 3}, "holds no state dict"),
        (lambda good: {"model": {"cls_token": 3}}, "holds no state dict"),
    ],
)  # fmt: skip
def test_what_is_not_the_networks_is_named(tmp_path, content, words):
    torch.save(content(random_weights(LABELS)), tmp_path / "other.pth")
    assert words in refusal(tmp_path, LABELS, "other.pth")


def of_type(name: str, dtype: torch.dtype):
    return lambda good: change(good, **{name: good[name].to(dtype)})


def with_number(number: float):
    return lambda good: change(good, cls_token=good["cls_token"].index_fill(2, torch.tensor([3]), number))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda good: {}, "holds no tensor"),
        (lambda good: {"model": {}}, "holds no tensor"),
        (lambda good: {"foreign": torch.zeros(3)}, "Missing key(s) in state_dict"),
        (lambda good: good | {1: good["head.bias"]}, "holds no state dict"),
        (with_number(float("nan")), "cls_token holds 1 of 16 numbers that are not finite"),
        (with_number(float("-inf")), "cls_token holds 1 of 16 numbers that are not finite"),
        (of_type("cls_token", torch.int64), "cls_token is torch.int64, and the network has a floating type there"),
        (of_type("cls_token", torch.bool), "cls_token is of torch.bool"),
        (of_type("cls_token", torch.complex64), "cls_token is of torch.complex64"),
        (of_type("cls_token", torch.float8_e4m3fn), "cls_token is of torch.float8_e4m3fn"),
        (lambda good: change(good, cls_token=good["cls_token"].to_sparse()), "torch.sparse_coo"),
        (lambda good: change(good, cls_token=good["cls_token"].double() / 3), "32 bits cannot hold exactly"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_as_it_is_is_refused_and_nothing_is_fetched(tmp_path, monkeypatch, content, words):
    refuse_the_network(monkeypatch)
    torch.save(content(random_weights(LABELS)), tmp_path / "other.pth")
    assert words in refusal(tmp_path, LABELS, "other.pth")


def refuse_the_network(monkeypatch) -> None:
    def asked(*args, **kwargs):
        raise SystemExit("the hub was asked for weights")

    for name in ("load_state_dict_from_hf", "load_custom_from_hf", "load_state_dict_from_url", "download_cached_file"):
        monkeypatch.setattr(f"timm.models._builder.{name}", asked)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_keep_their_values(tmp_path, dtype):
    weights = {name: tensor.bfloat16().half().to(dtype) for name, tensor in random_weights(LABELS).items()}
    torch.save(weights, tmp_path / "other.pth")
    found = read_weights(imported(tmp_path, LABELS, file="other.pth") / "weights.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in found.values())
    assert all(torch.equal(found[name].double(), weights[name].double()) for name in weights)


def test_a_counter_is_a_whole_number(tmp_path):
    wanted = model("regnety_002")
    good = random_weights(wanted)
    counter = next(name for name in good if name.endswith("num_batches_tracked"))
    torch.save(change(good, **{counter: good[counter].float()}), tmp_path / "other.pth")
    message = refusal(tmp_path, wanted, "other.pth")
    assert f"{counter} is torch.float32, and the network has whole numbers there" in message


def test_missing_and_foreign_keys_are_both_told_however_many(tmp_path):
    good = random_weights(LABELS)
    renamed = {f"x.{name}" if "blocks" in name else name: tensor for name, tensor in good.items()}
    torch.save(renamed, tmp_path / "other.pth")
    message = refusal(tmp_path, LABELS, "other.pth")
    assert "Missing key(s)" in message and "Unexpected key(s)" in message and message.count("(24 in all)") == 2


def test_a_damaged_missing_or_other_file_is_named(tmp_path):
    assert "is missing" in refusal(tmp_path, LABELS, "none.pth")
    for file, write in WRITERS.items():
        write(random_weights(LABELS), tmp_path / file)
        assert "declare 12345678" in refusal(tmp_path, LABELS, file, sha256="12345678")
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:1000])
        assert "Get" in refusal(tmp_path, LABELS, file)


def test_the_hub_is_asked_by_name(tmp_path, monkeypatch):
    save_file(random_weights(LABELS), tmp_path / "model.safetensors")
    asked = []
    monkeypatch.setattr(given, "download_from_hf", lambda *names: asked.append(names) or tmp_path / names[1])
    told = {"classes": CLASSES, "channels": 3, "resolution": 32, "mean": MEAN, "std": STD}
    monkeypatch.setattr(given, "told_by_timm", lambda name: (LABELS.timm, told))
    source = json.loads((imported(tmp_path, LABELS, timm=TAG) / "source.json").read_text(encoding="utf-8"))
    assert asked == [(f"timm/{TAG}", "model.safetensors")]
    assert source["timm"] == TAG and len(source["sha256"]) == 64


def test_no_network_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(SystemExit, match=rf"^{TAG}: no model.safetensors could be had.*name it by `file`"):
        imported(tmp_path, LABELS, timm=TAG)
    with pytest.raises(SystemExit, match=r"^deit_tiny_patch16_224.fb_in2k: .*Invalid pretrained tag"):
        imported(tmp_path, LABELS, timm="deit_tiny_patch16_224.fb_in2k")
