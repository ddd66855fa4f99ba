"""What trained runs say of an evaluation set, image by image; all tables are computed from this."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from deit.networks.models import fused, token_logits
from deit.see.datasets import ImageSet
from deit.see.loading import loaded
from deit.see.views import EvaluationViews

log = logging.getLogger(__name__)

BATCH = 256
TOP = 5
TWO_HEADS = ("class", "distillation", "fusion", "fusion_logits")
ONE_HEAD = ("class",)


@contextmanager
def batches(views: Dataset, device: torch.device, workers: int) -> Iterator[Iterator[Tensor]]:
    """Views (B, C, H, W) on `device`, in order; the last batch may be smaller. Raises as `loaded`."""
    with loaded(views, workers, batch_size=BATCH, pin_memory=device.type == "cuda") as on_cpu:
        yield (batch.to(device, non_blocking=True) for batch in on_cpu)


def top_classes(scores: Tensor) -> Tensor:
    """The five best classes (fewer where there are not so many), best first: (B, K) -> (B, <=5) int32.

    Of equal scores, which bf16 makes common, the lower class comes first; topk leaves their order open.
    """
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :TOP].int().cpu()


def decisions(net: nn.Module, views: Tensor) -> dict[str, Tensor]:
    """Reading -> best classes (B, <=5); without a distillation head, `class` is the only reading."""
    logits = token_logits(net, views)
    return {how: top_classes(fused(logits, how)) for how in (TWO_HEADS if len(logits) == 2 else ONE_HEAD)}


@torch.inference_mode()
def predict(
    nets: dict[str, nn.Module],
    images: ImageSet,
    transform,
    *,
    precision: str,
    device: torch.device,
    workers: int = 0,
) -> dict[str, pa.Table]:
    """The predictions of every run: name -> table with a row an image, in the order of the set.

    One pass over the images serves all the runs, as decoding costs more than a small network's forward pass.
    The networks must be on `device`; they are put into evaluation mode.
    """
    for net in nets.values():
        net.eval()
    said: dict[str, list[dict[str, Tensor]]] = {run: [] for run in nets}
    precise = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with precise, batches(EvaluationViews(images, transform), device, workers) as shown:
        for views in shown:
            for run, net in nets.items():
                said[run].append(decisions(net, views))
    return {run: prediction_table(images, parts) for run, parts in said.items()}


def prediction_table(images: ImageSet, parts: list[dict[str, Tensor]]) -> pa.Table:
    """Image id, true classes and the best classes by each reading, from the decisions batch by batch."""
    classes = pa.list_(pa.int32())
    columns = {
        "image": pa.array([images.identity(i) for i in range(len(images))], pa.string()),
        "targets": pa.array([list(images.targets(i)) for i in range(len(images))], classes),
    }
    for how in parts[0]:
        columns[f"{how}_top5"] = pa.array(torch.cat([part[how] for part in parts]).tolist(), classes)
    return pa.table(columns)


def accuracy(predictions: pa.Table, how: str) -> float:
    """Fraction of images whose first choice is one of the true classes; images without any do not count."""
    pairs = zip(predictions["targets"].to_pylist(), predictions[f"{how}_top5"].to_pylist(), strict=True)
    hits = [top[0] in targets for targets, top in pairs if targets]
    return sum(hits) / len(hits)


def write_predictions(predictions: pa.Table, path: Path) -> None:
    """As parquet; the same predictions make the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(predictions, path, compression="zstd")


def log_accuracy(predictions: pa.Table, run: str, evaluation_set: str) -> None:
    """One line with the accuracy of each reading in percent."""
    hows = [column.removesuffix("_top5") for column in predictions.column_names if column.endswith("_top5")]
    readings = ", ".join(f"{how} {100 * accuracy(predictions, how):.2f} %" for how in hows)
    log.info("%s on %s (%d images): %s", run, evaluation_set, len(predictions), readings)
