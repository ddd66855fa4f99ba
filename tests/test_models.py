import inspect

import pytest
import timm
import torch
from timm.models import build_model_with_cfg
from torch.nn.parallel import DistributedDataParallel

from deit.networks.models import (
    TokenHeads,
    create,
    fused,
    input_tokens,
    layer_tokens,
    load_weights,
    parameter_count,
    parameter_groups,
    token_logits,
)
from deit.networks.recipes import NOT_OF_THE_NETWORK, Model

SIZES = {"embed_dim": 32, "num_heads": 2, "depth": 3, "patch_size": 7}
REGNET = {"depth": 4, "w0": 16, "wa": 20.0, "wm": 1.8, "group_size": 8, "stem_width": 16}


def recipe(timm_name="deit_tiny_distilled_patch16_224", **changes) -> Model:
    arguments = REGNET if timm_name.startswith("regnet") else SIZES
    values = {"arguments": arguments, "classes": 10, "channels": 1, "resolution": 28, "stochastic_depth": 0.0}
    return Model(timm=timm_name, **{**values, **changes})


def seeded(model: Model, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    net = create(model)
    for parameter in net.parameters():  # zero biases would hide mistakes
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return net


@pytest.fixture
def views():
    return torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name, exact, millions",
    [
        ("deit_tiny_patch16_224", 5_717_416, 5.72),
        ("deit_small_patch16_224", 22_050_664, 22.05),
        ("deit_base_patch16_224", 86_567_656, 86.57),
        ("deit_tiny_distilled_patch16_224", 5_910_800, 5.91),
        ("deit_small_distilled_patch16_224", 22_436_432, 22.44),
        ("deit_base_distilled_patch16_224", 87_338_192, 87.34),
    ],
)
def test_parameter_counts_of_table_1(name, exact, millions):
    with torch.device("meta"):
        net = create(recipe(name, arguments={}, classes=1000, channels=3, resolution=224))
    assert parameter_count(net) == exact
    assert round(exact / 1e6, 2) == millions


def test_the_token_costs_what_table_1_says():
    """A token (D), its position (D) and a head (K D + K), for D = 192 and K = 1000."""
    assert 5_910_800 - 5_717_416 == 2 * 192 + 1000 * 192 + 1000


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_initialisation_is_the_papers(name):
    torch.manual_seed(0)
    net = create(recipe(name, arguments={**SIZES, "embed_dim": 1024}))
    drawn = [net.cls_token, net.pos_embed, net.head.weight, net.blocks[0].attn.qkv.weight]
    drawn += list(input_tokens(net)) if "distilled" in name else []
    for parameter in drawn:
        assert parameter.std().item() == pytest.approx(0.02, rel=0.1)
    assert net.head.bias.abs().max() == 0


def test_creation_depends_on_the_seed_alone():
    weights = [seeded(recipe(), seed).state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not torch.equal(weights[0]["cls_token"], weights[2]["cls_token"])


def test_every_block_drops_at_one_rate_where_that_is_asked():
    name, changes = "deit3_small_patch16_224", {"stochastic_depth": 0.2, "arguments": SIZES}
    made = [create(recipe(name, uniform_stochastic_depth=alike, **changes)) for alike in (None, True)]
    linear, alike = (
        [getattr(branch, "drop_prob", 0.0) for block in net.blocks for branch in (block.drop_path1, block.drop_path2)]
        for net in made
    )
    assert alike == [0.2] * 2 * SIZES["depth"]
    assert linear[:2] == [0, 0] and linear == sorted(linear) and linear[-1] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="resnet18 is no vision transformer; remove uniform_stochastic_depth"):
        create(recipe("resnet18", uniform_stochastic_depth=True, arguments={}))


def test_arguments_reach_timm():
    net = create(recipe(stochastic_depth=0.2))
    assert [block.drop_path1.drop_prob for block in net.blocks[1:]] == pytest.approx([0.1, 0.2])
    assert net.patch_embed.grid_size == (4, 4) and net.num_features == 32
    regnet = create(recipe("regnety_040"))
    assert [stage["num_chs"] for stage in regnet.feature_info] == [16, 16, 32, 48, 96]
    assert regnet.stem.conv.in_channels == 1


def test_a_list_reaches_timm_and_survives_a_recipe_file():
    stages = {"layers": [1, 1, 2, 1], "channels": [8, 16, 24, 32]}
    values = {"timm": "resnet18", "arguments": stages, "classes": 10, "channels": 3, "resolution": 48}
    model = Model.model_validate_json(Model(**values, stochastic_depth=0.0).model_dump_json())
    net = create(model)
    assert [len(stage) for stage in (net.layer1, net.layer2, net.layer3, net.layer4)] == [1, 1, 2, 1]
    assert net.num_features == 32


@pytest.mark.parametrize(
    "model, part",
    [
        (recipe("deit_tiny_patch16"), "Unknown model"),
        (recipe(arguments={**SIZES, "width": 3}), "'width'"),
        (recipe(arguments={**SIZES, "num_heads": 5}), "divisible by num_heads"),
        (recipe("regnety_040", arguments={**REGNET, "depth": 2}), "four widths"),
    ],
)
def test_what_timm_refuses_is_named(model, part):
    with pytest.raises(ValueError, match=part) as caught:
        create(model)
    assert model.timm in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        recipe(arguments={**SIZES, "checkpoint_path": "weights.pth"}),
        recipe(arguments={**SIZES, "pretrained": True}),
        recipe(arguments={**SIZES, "num_classes": 3}),
        recipe("local-dir:somewhere"),
        recipe("hf-hub:timm/deit_tiny_patch16_224"),
        recipe("timm/deit_tiny_patch16_224"),
    ],
)
def test_weights_and_networks_that_no_digest_knows_are_refused(model, monkeypatch):
    monkeypatch.setattr(timm, "create_model", None)
    with pytest.raises(ValueError, match=r"(remove it|without source or path)"):
        create(model)


def test_every_argument_of_timms_builder_is_named():
    """What create_model and build_model_with_cfg take themselves never reaches a network."""
    builders = (timm.create_model, build_model_with_cfg)
    taken = {name for builder in builders for name in inspect.signature(builder).parameters}
    assert taken - {"model_name", "kwargs"} <= set(NOT_OF_THE_NETWORK)


@pytest.mark.parametrize("training", [True, False])
def test_logits_equal_timms_own(views, training):
    """The two heads in training are timm's distilled training; their mean is timm's inference."""
    net = seeded(recipe(stochastic_depth=0.3)).train(training)
    torch.manual_seed(5)
    logits = token_logits(net, views)
    net.set_distilled_training(True)
    torch.manual_seed(5)
    theirs = net(views)
    ours = logits if training else fused(logits, "fusion_logits")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert [head.shape for head in logits] == [(4, 10), (4, 10)]
    assert not torch.equal(*logits)


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "regnety_040"])
def test_one_head_is_the_model_itself(views, name):
    net = seeded(recipe(name)).eval()
    (logits,) = token_logits(net, views)
    assert torch.equal(logits, net(views))


def test_weights_load_into_plain_timm(views):
    net = seeded(recipe()).eval()
    plain = timm.create_model(
        "deit_tiny_distilled_patch16_224", num_classes=10, in_chans=1, img_size=28, **SIZES
    ).eval()
    plain.load_state_dict(TokenHeads(net).net.state_dict())
    torch.testing.assert_close(plain(views), fused(token_logits(net, views), "fusion_logits"), rtol=0, atol=0)


@pytest.mark.parametrize("training", [True, False])
def test_wrapped_forward_gives_both_heads(views, training, tmp_path):
    """Under torch.compile (no graph break) and DistributedDataParallel; every parameter gets a gradient."""
    net = seeded(recipe()).train(training)
    expected = token_logits(net, views)
    compiled = torch.compile(TokenHeads(net), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(views), expected)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        parallel = DistributedDataParallel(TokenHeads(net))
        logits = parallel(views)
        torch.testing.assert_close(logits, expected, rtol=0, atol=0)
        (logits[0].sum() + logits[1].square().sum()).backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_fused_by_hand():
    """Softmaxes (.8, .2) and (.1, .9): the class head says 0, the distillation head 1, their sum 1."""
    logits = (torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.1, 0.9]]).log())
    assert fused(logits, "class").argmax() == 0 and fused(logits, "distillation").argmax() == 1
    torch.testing.assert_close(fused(logits, "fusion"), torch.tensor([[0.45, 0.55]]))
    torch.testing.assert_close(fused(logits, "fusion_logits").softmax(-1), torch.tensor([[0.4, 0.6]]))


def test_the_two_fusions_differ():
    """One very sure head outweighs a mean of logits, not a mean of probabilities."""
    logits = (torch.tensor([[0.0, 12.0, -9.0]]), torch.tensor([[2.0, -20.0, -9.0]]))
    assert fused(logits, "fusion").argmax() == 1
    assert fused(logits, "fusion_logits").argmax() == 0


@pytest.mark.parametrize("how", ["distillation", "fusion", "fusion_logits"])
def test_one_head_cannot_be_fused(how):
    with pytest.raises(ValueError, match=how):
        fused((torch.zeros(2, 3),), how)


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
@pytest.mark.parametrize("resolution", [14, 49])
def test_resize_equals_the_released_codes(views, name, resolution):
    source, target = seeded(recipe(name)), seeded(recipe(name, resolution=resolution), seed=1)
    load_weights(target, source.state_dict())
    tokens, side = source.num_prefix_tokens, resolution // 7
    # The lines of the released main.py, with its names.
    pos_tokens = source.pos_embed[:, tokens:].reshape(-1, 4, 4, 32).permute(0, 3, 1, 2)
    pos_tokens = torch.nn.functional.interpolate(pos_tokens, size=(side, side), mode="bicubic", align_corners=False)
    pos_tokens = pos_tokens.permute(0, 2, 3, 1).flatten(1, 2)
    assert torch.equal(target.pos_embed, torch.cat((source.pos_embed[:, :tokens], pos_tokens), dim=1))
    source.set_input_size(resolution)
    source.pos_embed = target.pos_embed  # timm's own would be antialiased
    larger = torch.randn(2, 1, resolution, resolution)
    torch.testing.assert_close(target.eval()(larger), source.eval()(larger), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "regnety_040"])
def test_loading_at_the_same_resolution_changes_nothing(views, name):
    source, target = seeded(recipe(name)), seeded(recipe(name), seed=1)
    source(views)  # a convnet's running statistics move
    load_weights(target, source.state_dict())
    for mine, theirs in zip(target.state_dict().values(), source.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_convnet_loads_at_another_resolution():
    source, target = seeded(recipe("regnety_040")), seeded(recipe("regnety_040", resolution=48), seed=1)
    load_weights(target, source.state_dict())
    larger = torch.randn(2, 1, 48, 48)
    assert torch.equal(target.eval()(larger), source.eval()(larger))


@pytest.mark.parametrize(
    "other, part",
    [
        (recipe("deit_tiny_patch16_224"), "dist_token"),
        (recipe("deit_tiny_patch16_224", resolution=49), "dist_token"),
        (recipe("regnety_040"), "patch_embed"),
        (recipe(classes=9), "head"),
        (recipe(arguments={**SIZES, "embed_dim": 16}), "pos_embed"),
    ],
)
def test_foreign_weights_are_refused(other, part):
    with pytest.raises(RuntimeError, match=part):
        load_weights(create(recipe()), create(other).state_dict())


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "regnety_040"])
def test_no_decay_rule(name):
    net = create(recipe(name))
    groups = parameter_groups(net, 0.05)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(decay) == sum(len(group["params"]) for group in groups) == len(list(net.parameters()))
    tokens = {"cls_token", "dist_token", "pos_embed"}
    for key, parameter in net.named_parameters():
        assert decay[id(parameter)] == (0.0 if parameter.ndim == 1 or key in tokens else 0.05), key


def test_layer_tokens_are_the_blocks_outputs(views):
    net = seeded(recipe()).eval()
    outputs = []
    for block in net.blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    layers = layer_tokens(net, views)
    assert len(layers) == 3
    for (class_token, distillation_token), output in zip(layers, outputs[:3], strict=True):
        assert torch.equal(class_token, output[:, 0]) and torch.equal(distillation_token, output[:, 1])
    last = torch.stack(layers[-1], dim=1)
    torch.testing.assert_close(net.norm(last), net.forward_features(views)[:, :2])


def test_tokens_are_compared_where_there_are_two(views):
    net = create(recipe("deit_tiny_patch16_224"))
    for read in (lambda: layer_tokens(net, views), lambda: input_tokens(net)):
        with pytest.raises(ValueError, match="no distillation token"):
            read()
