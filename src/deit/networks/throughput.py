"""Images per second at inference, as in the paper: fp32, largest batch that fits, mean of several passes."""

import math
import platform
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from deit.networks.distributed import compute_in_true_fp32, take_reproducible_kernels
from deit.networks.models import create, dimensions, parameter_count
from deit.networks.recipes import Model

WARM_UP_PASSES = 5
CPU_BATCH = 64
DIMENSIONS = ("embedding_dimension", "heads", "layers")
COLUMNS = ("label", *DIMENSIONS, "parameters", "images_per_second", "std", "batch", "device", "precision")


def measure(model: Model, batch: int, repeats: int, device: torch.device) -> dict[str, int | float | str | None]:
    """One model's row of throughput.csv, without its label; the weights are random, as any cost the same.

    `batch` 0 asks for the largest power of two that fits into the GPU's memory (on the CPU: 64).
    `std` is the standard deviation of a single pass; nan for a single repeat.
    """
    compute_as_deployed()
    net = create(model).to(device).eval()
    image = (model.channels, model.resolution, model.resolution)
    batch = batch or (largest_batch(net, image, device) if device.type == "cuda" else CPU_BATCH)
    seconds = pass_seconds(net, torch.randn(batch, *image, device=device), repeats)
    rates = [batch / second for second in seconds]
    return {
        **(dict.fromkeys(DIMENSIONS) | dimensions(net)),
        "parameters": parameter_count(net),
        "images_per_second": statistics.mean(rates),
        "std": statistics.stdev(rates) if repeats > 1 else math.nan,
        "batch": batch,
        "device": device_name(device),
        "precision": "fp32",
    }


def compute_as_deployed() -> None:
    """True fp32, and otherwise the fastest kernels: nothing here needs to be reproducible to the last bit."""
    compute_in_true_fp32()
    take_reproducible_kernels(False)
    # Every batch has the same size, so the search for the fastest convolution ends with the warm-up.
    torch.backends.cudnn.benchmark = True


@torch.inference_mode()
def pass_seconds(net: nn.Module, views: Tensor, repeats: int) -> list[float]:
    """Seconds of each of `repeats` forward passes over views (B, C, H, W), after a warm-up."""
    for _ in range(WARM_UP_PASSES):
        net(views)
    seconds = []
    for _ in range(repeats):
        wait_for(views.device)
        start = time.perf_counter()
        net(views)
        wait_for(views.device)
        seconds.append(time.perf_counter() - start)
    return seconds


def wait_for(device: torch.device) -> None:
    """Until the GPU has done what it was given; a CPU has done it already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.inference_mode()
def largest_batch(net: nn.Module, image: tuple[int, int, int], device: torch.device) -> int:
    """The largest power of two of images (C, H, W) for one forward pass, by doubling until memory runs out.

    Raises SystemExit where not even one image fits.
    """
    batch = 1
    while fits(net, batch, image, device):
        batch *= 2
    if batch == 1:
        raise SystemExit(f"{device_name(device)} has no memory for one image of {image}. Use a larger GPU.")
    return batch // 2


def fits(net: nn.Module, batch: int, image: tuple[int, int, int], device: torch.device) -> bool:
    """Whether a forward pass over `batch` images (C, H, W) finds enough memory on `device`."""
    try:
        net(torch.randn(batch, *image, device=device))
        wait_for(device)
        return True
    except RuntimeError as error:  # of memory: torch's own, and cuDNN's, which finds none to work in
        if not isinstance(error, torch.cuda.OutOfMemoryError) and "unable to find an engine" not in str(error):
            raise
        return False
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def device_name(device: torch.device) -> str:
    """The GPU's name, or the CPU's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.machine()}, {threads} thread{'s' if threads > 1 else ''}"
