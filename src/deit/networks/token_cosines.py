"""How alike the class and the distillation token are: as learned parameters, and after every block."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from deit.networks.models import input_tokens, layer_tokens


@torch.inference_mode()
def input_cosine(net: nn.Module) -> float:
    """Cosine between the class and the distillation input token, the learned parameters without positions."""
    return cosine_similarity(*(token.double() for token in input_tokens(net)), dim=0).item()


@torch.inference_mode()
def layer_cosines(net: nn.Module, batches: Iterable[Tensor]) -> tuple[list[float], int]:
    """Cosine between the two tokens' embeddings after each block, averaged over the images, and their number.

    `batches` holds views (B, C, H, W) on the network's device; batches may differ in size.
    """
    net.eval()
    sums: Tensor | float = 0.0
    images = 0
    for views in batches:
        layers = layer_tokens(net, views)
        cosines = [cosine_similarity(one.double(), other.double(), dim=-1).sum() for one, other in layers]
        sums = sums + torch.stack(cosines)
        images += len(views)
    return torch.as_tensor(sums / images).tolist(), images
