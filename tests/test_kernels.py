"""Which kernels a job computes with: the same bits each time, true fp32, and what its provenance tells of it."""

import json
from importlib.metadata import version

import pytest
import torch
from tiny_runs import run, training_job

from deit.commands import ending
from deit.networks.distributed import set_up_torch
from deit.store import results
from deit.store.job import Execution


@pytest.fixture(autouse=True)
def as_before():
    """What a set-up changes in this process is taken back."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.enable_cudnn_sdp(True)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


def test_what_a_set_up_asks_for_can_be_read_by_all_of_torchs_names():
    """torch.compile reads the older ones, which raise where the newer ones were set before."""
    set_up_torch(Execution())
    assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.conv.fp32_precision != "tf32" and torch.backends.cuda.matmul.fp32_precision != "tf32"


def test_a_cpu_computes_with_no_denormal_number():
    """On the threads of torch's, too, which begin when they are first needed."""
    small, tenth = torch.full((1 << 20,), 2e-38), torch.tensor(0.1)
    assert (small * tenth).count_nonzero() == len(small)
    set_up_torch(Execution(threads=2))
    assert (small * tenth).count_nonzero() == 0
    torch.set_num_threads(1)


@pytest.mark.parametrize("deterministic", [True, False])
def test_kernels_are_reproducible_unless_others_are_asked_for(tmp_path, deterministic):
    execution = {"deterministic": deterministic}
    set_up_torch(Execution(**execution))
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cuda.cudnn_sdp_enabled() != deterministic
    job = training_job(tmp_path / "data", execution=execution, optimisation={"epochs": 1})
    run(job, tmp_path / "run")
    told = json.loads((tmp_path / "run/provenance.json").read_text(encoding="utf-8"))
    assert told["deterministic_kernels"] == deterministic
    assert job.digest == training_job(tmp_path / "data", optimisation={"epochs": 1}).digest


def test_an_operation_without_such_a_kernel_is_one_message_with_the_remedy():
    set_up_torch(Execution())
    with pytest.raises(RuntimeError) as raised:
        torch.zeros(4).put_(torch.tensor([1]), torch.ones(1))
    message, status = ending(raised.value)
    assert message.startswith("put_ does not have a deterministic implementation. ") and status == 1
    assert "deterministic: false under execution" in message and len(message.splitlines()) == 1


def test_a_training_needs_no_package_that_plans(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RECORDED_VERSIONS", ("torch", "no-such-package"))
    run(training_job(tmp_path / "data", optimisation={"epochs": 1}), tmp_path / "run")
    told = json.loads((tmp_path / "run/provenance.json").read_text(encoding="utf-8"))["versions"]
    assert told == {"torch": version("torch"), "no-such-package": "not installed"}
