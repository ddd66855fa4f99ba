"""torchrun, which ends as its ranks do: `python -m deit.networks.torchrun`, with torchrun's own arguments.

torchrun itself ends every failure with the status 1 and pages about its ranks. The rank that has failed has said why.
Only of ranks that were killed something is said here, as they could not.

OTHER_NODE, where there are several, is the address of one of them: gloo is to use the network that leads there. By
itself it tells other nodes the address that this node's own name has here, which on Debian is one of the node alone.
Ranks of one node meet on its own loopback, as not every machine can resolve its own name.
"""

import fcntl
import logging
import os
import signal
import socket
import struct
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

SIOCGIFADDR = 0x8915
"""Of Linux: asks the kernel for an interface's address (netdevice(7))."""


def run() -> None:
    """Raises SystemExit with the status of the rank that failed first, or 128 + signal."""
    logging.disable(logging.CRITICAL)
    other = os.environ.get("OTHER_NODE")
    if interface := interface_towards(other) if other else "lo":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    try:
        main()
    except ChildFailedError as error:
        raise SystemExit(status_of(error)) from None
    except SignalException as told:
        raise SystemExit(128 + told.sigval) from None


def interface_towards(node: str) -> str:
    """The network interface by which this machine reaches a node; empty where that cannot be told."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect((node, 9))  # sends nothing, but chooses the way
        except OSError:
            return ""
        own = asking.getsockname()[0]
        return next((name for _, name in socket.if_nameindex() if address_of(name, asking) == own), "")


def address_of(interface: str, asking: socket.socket) -> str:
    """Its IPv4 address; empty where it has none."""
    try:
        answer = fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("256s", interface.encode()))
    except OSError:
        return ""
    return socket.inet_ntoa(answer[20:24])


def status_of(error: ChildFailedError) -> int:
    """The status of a failed rank; says of one that was killed that it was."""
    for rank, failure in error.failures.items():
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(
                f"rank {rank} was ended ({name}), as the kernel does where memory runs out. Ask for more memory under "
                "execution in the params file; the same command goes on from what was saved.",
                file=sys.stderr,
            )
            return 128 - failure.exitcode
    return error.get_first_failure()[1].exitcode


if __name__ == "__main__":
    try:
        run()
    except SystemExit as end:  # at once: to take torch apart costs a busy machine seconds, and all ranks have ended
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(int(end.code or 0))
