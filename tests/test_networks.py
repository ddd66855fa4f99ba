"""Networks are built before any training: what each kind of timm's families can do, and what is refused and how."""

import csv
import shutil

import pytest
import timm
import torch
from plan.plan import CHECKED
from plan.studies import plan_study
from safetensors.torch import load_file

from deit.commands.check_networks import check_networks
from deit.networks import models
from deit.networks.check import Unfit, check
from deit.networks.recipes import CheckedNetwork, CheckingNetworks, Model
from deit.store.checkpoints import read_weights, save_weights
from deit.store.job import Job

PATCHES = {"embed_dim": 32, "depth": 2, "num_heads": 2}
KINDS = {
    "a ViT": ("vit_tiny_patch16_224", PATCHES),
    "a ViT without a class token": ("vit_medium_patch16_gap_240", PATCHES),
    "a ViT of parallel blocks": ("vit_small_patch16_18x2_224", PATCHES),
    "a DeiT with a token": ("deit_tiny_distilled_patch16_224", PATCHES),
    "a RegNet": ("regnety_002", {}),
    "a ResNet": ("test_resnet", {}),
    "a VGG": ("vgg11", {}),
    "a DenseNet": ("densenet121", {}),
    "a Swin": ("swin_tiny_patch4_window7_224", {"embed_dim": 12}),
    "a BEiT": ("beit_base_patch16_224", PATCHES),
    "a CaiT": ("cait_xxs24_224", PATCHES),
    "a CoaT": ("coat_tiny", {}),
    "an EVA": ("eva02_tiny_patch14_224", {"embed_dim": 48, "depth": 2, "num_heads": 2, "patch_size": 16}),
}
UNABLE = {
    "a LeViT": ("levit_128s", "cannot go on from weights of 64 pixels"),
    "an MLP-Mixer": ("gmlp_ti16_224", "cannot go on from weights of 64 pixels"),
}


def network(name: str, arguments: dict, resolution: int, **changes) -> CheckedNetwork:
    model = Model(timm=name, arguments=arguments, classes=7, channels=3, resolution=resolution, stochastic_depth=0.0)
    heads = 2 if "distilled" in name else 1
    return CheckedNetwork(**{"model": model, "heads": heads, "trained": True} | changes)


def both(name: str, arguments: dict) -> tuple[CheckedNetwork, CheckedNetwork]:
    """A network at the lower resolution, and at the higher, where it starts from the lower."""
    return network(name, arguments, 64), network(name, arguments, 96, initial="m/64")


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_family_can_be_trained_kept_and_resized(kind):
    low, high = both(*KINDS[kind])
    first, second = check("m/64", low, None), check("m/96", high, low)
    assert second["multiply_adds"] > 1.5 * first["multiply_adds"] and second["parameters"] >= first["parameters"]


SPARED = {
    "a Swin": {"relative_position_bias_table"},
    "a BEiT": {"cls_token", "relative_position_bias_table"},
    "a CaiT": {"pos_embed", "cls_token"},
    "an EVA": {"pos_embed", "cls_token"},
    "a ViT without a class token": {"pos_embed"},
}


@pytest.mark.parametrize("kind", SPARED)
def test_weight_decay_spares_what_a_family_names(kind):
    net = models.create(both(*KINDS[kind])[0].model)
    undecayed = [group for group in models.parameter_groups(net, 0.05) if not group["weight_decay"]]
    kept = {id(tensor) for group in undecayed for tensor in group["params"]}
    large = {name: tensor for name, tensor in net.named_parameters() if tensor.ndim > 1}
    spared = {name.rpartition(".")[2] for name, tensor in large.items() if id(tensor) in kept}
    there = {name.rpartition(".")[2] for name in large}
    assert SPARED[kind] & there <= spared <= {name.rpartition(".")[2] for name in net.no_weight_decay()}


@pytest.mark.parametrize("kind", ["a ViT", "a ViT without a class token", "a ViT of parallel blocks"])
def test_a_transformer_has_the_dimensions_of_table_1(kind):
    net = models.create(both(*KINDS[kind])[0].model)
    assert models.dimensions(net) == {"embedding_dimension": 32, "heads": 2, "layers": 2}


@pytest.mark.parametrize("kind", UNABLE)
def test_what_a_family_cannot_is_refused_by_name_with_a_remedy(kind):
    name, words = UNABLE[kind]
    low, high = both(name, {})
    check("m/64", low, None)
    with pytest.raises(Unfit, match=rf"^m/96 \({name} at 96 pixels\): {words}.*Choose another network \(models.m\)"):
        check("m/96", high, low)


@pytest.mark.parametrize("kind", ["a Swin", "a BEiT", "a CaiT"])
def test_a_fine_tuning_starts_from_what_was_learned(kind):
    """Only what depends on the resolution is changed, and that is not left as it was drawn."""
    low, high = both(*KINDS[kind])
    torch.manual_seed(0)
    learned = models.create(low.model).state_dict()
    learned = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in learned.items()}
    net = models.create(high.model)
    models.load_weights(net, learned)
    for name, tensor in net.state_dict().items():
        if tensor.shape == learned[name].shape:
            assert torch.equal(tensor, learned[name]), name
        else:
            assert tensor.mean() > 0.9, name


@pytest.mark.parametrize(
    ("name", "images", "counted"), [("deit_base_patch16_224", 224, 17.56e9), ("resnet50", 224, 4.09e9)]
)
def test_multiply_adds_are_the_published_ones(name, images, counted):
    big = network(name, {}, images)
    big = big.model_copy(update={"model": big.model.model_copy(update={"classes": 1000}), "trained": False})
    assert check("m/224", big, None)["multiply_adds"] == pytest.approx(counted, rel=0.005)


def test_channels_lie_last_where_kernels_have_two_dimensions():
    net = models.create(network("lambda_resnet26t", {}, 64).model).eval()
    flat = [tensor for tensor in net.state_dict().values() if tensor.dim() == 4]
    assert any(tensor.dim() == 5 for tensor in net.state_dict().values())  # of its lambda layers
    assert flat and all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in flat)
    plain = timm.create_model("lambda_resnet26t", num_classes=7).eval()
    plain.load_state_dict(net.state_dict())
    views = torch.randn(2, 3, 64, 64)
    assert torch.allclose(plain(views), net(views), atol=1e-5)


def test_no_stochastic_depth_is_none_where_timms_default_is_another():
    swin = models.create(network("swin_tiny_patch4_window7_224", {"embed_dim": 12}, 64).model)
    rates = [part.drop_prob for part in swin.modules() if type(part).__name__ == "DropPath"]
    with torch.device("meta"):
        theirs = timm.create_model("swin_tiny_patch4_window7_224")
    assert not any(rates) and theirs.layers[3].blocks[1].drop_path1.drop_prob


def test_stochastic_depth_of_a_network_without_it_is_refused_with_the_key():
    model = network("vgg11", {}, 64).model.model_copy(update={"stochastic_depth": 0.1})
    with pytest.raises(ValueError, match="vgg11 has no stochastic depth; set stochastic_depth: 0.0"):
        models.create(model)


def test_shared_tensors_are_saved_under_each_name_and_load_into_plain_timm(tmp_path):
    coat = models.create(network("coat_tiny", {}, 64).model)
    weights = coat.state_dict()
    assert len({tensor.data_ptr() for tensor in weights.values()}) < len(weights)
    save_weights(tmp_path / "weights.safetensors", weights)
    found = read_weights(tmp_path / "weights.safetensors")
    assert found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in weights)
    plain = timm.create_model("coat_tiny", num_classes=7, img_size=64)
    plain.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    views = torch.randn(1, 3, 64, 64)
    assert torch.equal(models.laid_out(plain).eval()(views), coat.eval()(views))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": network("vit_tiny_patch16_224.imagenett", {}, 64).model}, "Invalid pretrained tag.*models.deit-ti"),
        ({"heads": 2}, r"has 1 head\(s\), and its supervision needs 2.*models.deit-ti.timm_distilled"),
        ({"model": network("vit_tiny_patch61_224", {}, 64).model}, "Unknown model.*Correct models.deit-ti"),
    ],
)
def test_the_message_names_network_resolution_and_key(changes, words):
    with pytest.raises(Unfit, match=words) as refused:
        check("deit-ti-token+wide/64", network("vit_tiny_patch16_224", PATCHES, 64, **changes), None)
    assert str(refused.value).startswith("deit-ti-token+wide/64 (vit_tiny_patch") and "\n" not in str(refused.value)


def test_the_command_names_all_that_are_unfit_and_writes_what_are_fit(tmp_path):
    good, bad = network("vit_tiny_patch16_224", PATCHES, 64), network("vit_tiny_patch61_224", {}, 64)

    def job(**networks: CheckedNetwork) -> Job:
        recipe = CheckingNetworks(networks=networks).model_dump(mode="json")
        return Job(kind="networks", name="networks/all", recipe=recipe, behaviour={})

    with pytest.raises(SystemExit) as refused:
        check_networks(job(a=bad, b=good, c=bad), tmp_path / "refused")
    assert [line.split()[0] for line in str(refused.value).splitlines()] == ["a", "c"]
    assert not (tmp_path / "refused").exists()
    check_networks(job(b=good), tmp_path / "fit")
    (row,) = csv.DictReader((tmp_path / "fit/networks.csv").open(encoding="utf-8"))
    assert row["network"] == "b" and int(row["parameters"]) > 0 and int(row["multiply_adds"]) > 0


# The plan -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("study", ["fashion-full", "imagenet", "imagenet-ablation", "deit3", "released"])
def test_every_training_and_import_waits_for_the_check_of_its_network(study):
    plan = plan_study(study)
    checked = plan.jobs[plan.networks]
    asked = [network.model for network in checked.resolved().networks.values()]
    makers = [job for job in plan.jobs.values() if job.kind in CHECKED]
    for job in makers:
        assert job.execution.after == [checked.execution.output] and plan.networks not in job.inputs.values()
        assert job.resolved().model in asked, job.name
    assert makers and not any(job.execution.after for job in plan.jobs.values() if job.kind not in CHECKED)
    high = {name: one.initial for name, one in checked.resolved().networks.items() if one.initial}
    assert bool(high) == (study != "released") and set(high.values()) <= checked.resolved().networks.keys()


def test_another_network_renames_no_training_but_the_check(tmp_path):
    shutil.copy("params/fashion.yaml", tmp_path)
    for study, models_of_table in {"before": "[deit-ti, deit-s]", "after": "[deit-ti, deit-s, deit-b]"}.items():
        text = f"extends: fashion\ntables: {{table_1: {{models: {models_of_table}}}}}\n"
        (tmp_path / f"{study}.yaml").write_text(text, encoding="utf-8")
    before, after = (plan_study(study, tmp_path) for study in ("before", "after"))
    trained = [{job.digest for job in plan.jobs.values() if job.kind == "train"} for plan in (before, after)]
    assert trained[0] == trained[1] and before.networks != after.networks
