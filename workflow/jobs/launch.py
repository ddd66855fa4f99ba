"""Start a job: alone on its result, on the processes and nodes that it was given.

    python workflow/jobs/launch.py --lock L --finished FILE --processes 8 --cpus 88 deit.commands.train --recipe R ...

It takes the lock of the result and then becomes the command (exec): python, torchrun for several processes, or srun
that starts a torchrun on every node. So the job's own process computes, and a signal for the job reaches it. A job that
finds another one alive on the same result waits for it, and has nothing to do where FILE says that one has finished,
unless LOCK.again says that Snakemake was told to make that very result again. A heartbeat stays beside the job.
"""

import argparse
import itertools
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from deit.store.finished import is_due, record_at, sweep
from jobs import heartbeat
from jobs.gpu_claim import claim
from jobs.run_lock import last, numbered, wait_for
from jobs.surroundings import surroundings

SAVE_SECONDS = 300  # that the cluster's profile leaves between telling a training to end and killing it; torchrun: 30


def replace_process(command: list[str], variables: dict[str, str]) -> None:
    os.execvpe(command[0], command, variables)


def main(become: Callable[[list[str], dict[str, str]], None] = replace_process) -> None:
    """`become` runs the command with these variables as this process: by exec, unless one has packages imported."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", type=Path, required=True, help="its files begin with this name")
    parser.add_argument("--finished", type=Path, required=True, help="the file that a complete result has")
    parser.add_argument(
        "--member",
        type=Path,
        nargs=2,
        action="append",
        default=[],
        metavar=("LOCK", "FILE"),
        help="lock and finished file of another result that the command makes",
    )
    parser.add_argument("--made-by", type=Path, help="folder of the pass that should have made the result")
    parser.add_argument("--copy-of", type=Path, help="folder of the same result in another study, to be copied")
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="on each node")
    parser.add_argument("--cpus", type=int, default=1, help="of a node; for the step of Slurm")
    parser.add_argument(
        "--gpus", type=int, default=0, help="of this machine, to be claimed; without, as they are given"
    )
    parser.add_argument("--share", type=int, default=1, help="jobs on one GPU")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="module or script, and its arguments")
    arguments = parser.parse_args()
    set_back_what_is_to_come(arguments.command, arguments.lock)
    if not take_locks(arguments.member, arguments.lock, arguments.finished):
        print(f"{arguments.finished.parent}: finished by another job.")
        sweep(arguments.finished.parent)
        return
    if arguments.made_by:
        raise SystemExit(why_not(arguments.made_by, arguments.lock.name))
    if arguments.copy_of:
        copy(arguments.copy_of, arguments.finished.parent, arguments.lock.name)
        return
    if arguments.gpus:
        claim(arguments.gpus, arguments.share)
    command = command_of(arguments)
    print(f"{where()}: {arguments.nodes} node(s) x {arguments.processes} process(es)", flush=True)
    become(command, surroundings(os.environ))


def take_locks(members: list[list[Path]], lock: Path, finished: Path) -> bool:
    """Takes those of a pass's members and then its own; False where the result has been finished.

    One has to wait for a member that another job trains, for hours: the locks that one has show a heartbeat meanwhile.
    """
    taken: list[Path] = []
    heart = None
    for each, its_file in sorted(members):  # in one order, so that two passes cannot wait for each other
        wait_for(each, partial(is_finished, each, its_file))
        taken.append(each)
        heart = start_heartbeat(taken, heart)
    is_ours = wait_for(lock, partial(is_finished, lock, finished))
    if is_ours:
        start_heartbeat([*taken, lock], heart)
    return is_ours


def is_finished(lock: Path, finished: Path) -> bool:
    """Whether the result is there, by its folder's content as the file server has it now.

    A client of NFS that was told before that there is no such name may go on saying so, until somebody opens the folder
    in which the name would be.
    """
    with suppress(OSError):
        os.listdir(finished.parent.parent)
    return not is_due(finished, lock.with_name(f"{lock.name}.again"))


def start_heartbeat(locks: list[Path], before: subprocess.Popen | None) -> subprocess.Popen:
    """A child of this process, which the command that it becomes knows nothing of; in place of the one `before`."""
    files = [str(numbered(lock, last(lock)[0])) for lock in locks]
    words, null = [sys.executable, "-IS", heartbeat.__file__, str(os.getpid()), *files], subprocess.DEVNULL
    heart = subprocess.Popen(words, stdin=null, stdout=null, stderr=null)
    if before:
        before.kill()
        before.wait()
    return heart


def set_back_what_is_to_come(command: list[str], lock: Path) -> None:
    """Gives files of the job's inputs whose time is still to come the present one, by the file server's clock.

    Where a clock was set back, they would be newer than what the job makes, and Snakemake calls such a job failed.
    """
    recipe = record_at(Path(command[command.index("--recipe") + 1])) if "--recipe" in command else {}
    place = recipe.get("execution", {})
    folders = [*itertools.chain(*place.get("folders", {}).values()), *filter(None, [place.get("made_by")])]
    lock.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=lock.parent, prefix=f"{lock.name}.") as now:
        present = os.stat(now.name).st_mtime_ns
    for path in (path for folder in folders for path in Path(folder).glob("*")):
        with suppress(OSError):  # somebody else's
            if path.stat().st_mtime_ns > present:
                os.utime(path)


def why_not(made_by: Path, digest: str) -> str:
    """What the pass of a result says of it."""
    from deit.store.results import read_result  # late, as no other job needs it here

    reason = read_result(made_by).json("outcome.json").get(digest)
    return f"{reason or 'not made'}. Its pass trained the others; to try again as it is, delete {made_by}."


def copy(source: Path, output: Path, digest: str) -> None:
    """Takes the result over from another study, in place of the command."""
    from deit.store.copies import copy_result  # late, as no other job needs it here

    copy_result(source, output, digest)
    print(f"{output}: copied from {source}, every file checked.")


def where() -> str:
    """Job, node and GPUs of this process, for the log."""
    job, devices = os.environ.get("SLURM_JOB_ID"), os.environ.get("CUDA_VISIBLE_DEVICES")
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    return (f"job {job} on {node}" if job else node) + (f", CUDA_VISIBLE_DEVICES={devices}" if devices else "")


# The command ----------------------------------------------------------------------------------------------------------


def command_of(arguments: argparse.Namespace) -> list[str]:
    """The words that run a module, or a script, on the processes of one node or of several."""
    if arguments.nodes > 1:
        return on_nodes(arguments)
    if arguments.processes > 1:
        return [*torchrun(arguments.processes), "--standalone", "-m", *arguments.command]
    script = arguments.command[0].endswith(".py")
    return [sys.executable, *([] if script else ["-m"]), *arguments.command]


def torchrun(processes: int) -> list[str]:
    words = [f"--nproc-per-node={processes}", f"--shutdown-timeout={SAVE_SECONDS}"]
    words += ["--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"]  # torchrun's own, and Slurm's other one
    return [sys.executable, "-m", "deit.networks.torchrun", *words]


def on_nodes(arguments: argparse.Namespace) -> list[str]:
    """srun starts a torchrun on every node; the first node's address is where they meet."""
    nodes, job = arguments.nodes, os.environ.get("SLURM_JOB_ID")
    if not job:
        raise SystemExit(f"nodes: {nodes} in execution needs a job of Slurm's; set it to 1, or use --profile slurm.")
    names = output_of("scontrol", "show", "hostnames", output_of("squeue", "-h", "-j", job, "-o", "%N")).split()
    first, second = map(address_of, names[:2])
    meeting = f"--nnodes={nodes} --master-addr={first} --master-port={20000 + int(job) % 10000}"
    train = shlex.join(["-m", *arguments.command])
    # SLURM_NODEID is known inside the step only.
    script = f"test $SLURM_NODEID = 0 && export OTHER_NODE={second} || export OTHER_NODE={first}; "
    script += f"exec {shlex.join(torchrun(arguments.processes))} {meeting} --node-rank=$SLURM_NODEID {train}"
    step = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={arguments.cpus}"]
    return ["srun", *step, "--kill-on-bad-exit=1", "bash", "-c", script]


def address_of(node: str) -> str:
    """Where a node is reached, as Slurm knows it."""
    words = output_of("scontrol", "-o", "show", "node", node).split()
    return next(word.partition("=")[2] for word in words if word.startswith("NodeAddr="))


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.strip()


if __name__ == "__main__":
    main()
