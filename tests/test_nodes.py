"""Ranks on two machines, which find each other by a network: here two network namespaces with a cable between them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from training_runs import ENVIRONMENT

from deit.networks import torchrun

ADDRESSES = ("10.77.0.1", "10.77.0.2")
RANK = """
import torch
from deit.networks.distributed import joined_ranks
from deit.store.job import Execution
with joined_ranks(Execution()) as place:
    numbers = torch.tensor([place.rank + 1.0])
    place.sum_over_ranks([numbers])
    print(place.rank, float(numbers))
"""
NODE = """
hostname $1
mount --bind $2 /etc/hosts
mount --bind /dev/null /etc/resolv.conf
exec timeout 600 "${@:3}"
"""


def ip(*words: str) -> bool:
    return subprocess.run(["ip", *words], capture_output=True).returncode == 0


@pytest.fixture
def machines(tmp_path) -> Iterator[list[list[str]]]:
    """The words that run a command on each of two; each has its own name for an address of its own, as Debian does."""
    names = [f"deit-{os.getpid()}-{number}" for number in range(2)]
    if not (shutil.which("ip") and shutil.which("unshare") and all(ip("netns", "add", name) for name in names)):
        pytest.skip("needs iproute2, util-linux and root")
    try:
        if not ip("link", "add", "near", "netns", names[0], "type", "veth", "peer", "name", "far", "netns", names[1]):
            pytest.skip("there is no veth here")
        for name, end, address in zip(names, ("near", "far"), ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            for each in (end, "lo"):
                ip("-n", name, "link", "set", each, "up")
            others = [f"{at} {other}" for at, other in zip(ADDRESSES, names, strict=True) if other != name]
            known = "\n".join(["127.0.0.1 localhost", f"127.0.1.1 {name}", *others])
            (tmp_path / name).write_text(known, encoding="utf-8")
        words = ["unshare", "--uts", "--mount", "bash", "-ec", NODE, "bash"]
        yield [["ip", "netns", "exec", name, *words, name, str(tmp_path / name)] for name in names]
    finally:
        for name in names:
            ip("netns", "delete", name)


@pytest.mark.long
def test_ranks_meet_where_a_nodes_own_name_means_an_address_that_others_cannot_reach(machines, tmp_path):
    (tmp_path / "rank.py").write_text(RANK, encoding="utf-8")
    launcher = [sys.executable, "-m", "deit.networks.torchrun", "--nproc-per-node=1", "--nnodes=2"]
    launcher += [f"--master-addr={ADDRESSES[0]}", "--master-port=23456"]
    ranks = [
        subprocess.Popen(
            [*words, *launcher, f"--node-rank={number}", str(tmp_path / "rank.py")],
            env=ENVIRONMENT | {"OTHER_NODE": ADDRESSES[1 - number]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        for number, words in enumerate(machines)
    ]
    said = [rank.communicate(timeout=700)[0] for rank in ranks]
    for number, (rank, text) in enumerate(zip(ranks, said, strict=True)):  # torch may add that the other one has left
        assert rank.returncode == 0 and f"{number} 3.0" in text.splitlines(), text


def test_the_interface_that_leads_to_a_node():
    assert torchrun.interface_towards("127.0.0.1") == "lo"
    assert torchrun.interface_towards("no-such-node.invalid") == ""
