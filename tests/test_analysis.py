"""Token cosines against a computation by hand from forward hooks on timm's own modules."""

import pytest
import torch

from deit.networks.models import create
from deit.networks.recipes import Model
from deit.networks.token_cosines import input_cosine, layer_cosines

SIZES = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 7}
DISTILLED = Model(
    timm="deit_tiny_distilled_patch16_224",
    arguments=SIZES,
    classes=10,
    channels=1,
    resolution=28,
    stochastic_depth=0.5,
)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return create(DISTILLED)


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one @ other / (one @ one).sqrt() / (other @ other).sqrt()).item()


def test_input_cosine_by_hand(net):
    with torch.no_grad():
        net.cls_token[0, 0] = torch.tensor([3.0, 4.0] + [0.0] * 30)
        net.dist_token[0, 0] = torch.tensor([4.0, 3.0] + [0.0] * 30)
    assert input_cosine(net) == pytest.approx(24 / 25)
    with torch.no_grad():
        net.dist_token.copy_(-2 * net.cls_token)
    assert input_cosine(net) == pytest.approx(-1)


def test_layer_cosines_are_those_of_the_blocks_outputs(net):
    views = torch.randn(5, 1, 28, 28)
    seen = []
    hooks = [block.register_forward_hook(lambda _, __, output: seen.append(output.detach())) for block in net.blocks]
    net.eval()(views)
    for hook in hooks:
        hook.remove()
    expected = [sum(cosine(image[0], image[1]) for image in output) / 5 for output in seen]
    # Training mode would drop blocks at random; the analysis must leave it.
    layers, images = layer_cosines(net.train(), [views])
    assert images == 5
    assert layers == pytest.approx(expected, abs=1e-6)
    assert len(set(layers)) == 3


def test_the_average_is_over_images_not_batches(net):
    views = torch.randn(7, 1, 28, 28)
    whole, _ = layer_cosines(net, [views])
    parts, images = layer_cosines(net, [views[:6], views[6:]])
    assert images == 7
    assert parts == pytest.approx(whole, abs=1e-6)


def test_equal_tokens_at_equal_positions_stay_equal(net):
    with torch.no_grad():
        net.dist_token.copy_(net.cls_token)
        net.pos_embed[:, 1] = net.pos_embed[:, 0]
    assert input_cosine(net) == pytest.approx(1)
    assert layer_cosines(net, [torch.randn(2, 1, 28, 28)])[0] == pytest.approx([1, 1, 1])


def test_a_model_with_one_token_is_refused():
    plain = create(DISTILLED.model_copy(update={"timm": "deit_tiny_patch16_224"}))
    with pytest.raises(ValueError, match="no distillation token"):
        input_cosine(plain)
