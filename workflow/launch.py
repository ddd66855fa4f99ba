"""Start a training: alone on its run, on the processes and nodes that its job was given.

    python workflow/launch.py --nodes 1 --processes 8 --cpus 88 deit.commands.train --recipe FILE ...

It takes the run's lock and then becomes the trainer (exec): python, torchrun for several processes, or srun that starts
a torchrun on every node. So the job's own process trains, and a signal for the job reaches it.

The lock lies in the run's resume folder, which the trainer deletes when the run is finished. A job that finds another
one alive on the same run waits for it, and has nothing to do when one has finished. A lock whose holder is gone
counts for nothing, so no failure needs cleaning up.
"""

import argparse
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

WAIT_SECONDS = 5
SAVE_SECONDS = 300  # that the cluster's profile leaves between telling a training to end and killing it; torchrun: 30
RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="on each node")
    parser.add_argument("--cpus", type=int, default=1, help="of a node; for the step of Slurm")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="module and its arguments")
    arguments = parser.parse_args()
    folders = argparse.ArgumentParser()
    folders.add_argument("--resume", type=Path, required=True)
    folders.add_argument("--output", type=Path, required=True)
    run, _ = folders.parse_known_args(arguments.command[1:])
    if not locked(run.resume, run.output):
        print(f"{run.output}: finished by another job.")
        return
    command = started(arguments)
    print(f"{where()}: {arguments.nodes} node(s) x {arguments.processes} process(es)", flush=True)
    os.execvp(command[0], command)


def where() -> str:
    """Job, node and GPUs of this process, for the log."""
    job, devices = os.environ.get("SLURM_JOB_ID"), os.environ.get("CUDA_VISIBLE_DEVICES")
    node = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    return (f"job {job} on {node}" if job else node) + (f", CUDA_VISIBLE_DEVICES={devices}" if devices else "")


# The lock -------------------------------------------------------------------------------------------------------------


def locked(resume: Path, output: Path) -> bool:
    """Takes the lock of a run, waiting while another job trains it; False where one has finished it."""
    told = False
    while True:
        taken = take(resume / "lock.json")
        if (output / "provenance.json").exists():  # asked after the lock, as its holder finishes before letting go
            shutil.rmtree(resume, ignore_errors=True)
            return False
        if taken:
            return True
        if not told:
            print(f"{resume}/lock.json: {holder(resume / 'lock.json')} trains this run; waiting for it.", flush=True)
            told = True
        time.sleep(WAIT_SECONDS)


def take(lock: Path) -> bool:
    """Writes the lock, where there is none or its holder is gone."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    mine = lock.with_name(f"lock.{socket.gethostname()}.{os.getpid()}")
    mine.write_text(json.dumps(myself()))
    try:
        os.link(mine, lock)  # atomic, also on network file systems: fails where there is a lock
        return True
    except FileExistsError:
        if is_alive(text := text_of(lock)):
            return False
        # Put the stale lock aside; of several jobs that try, the one that moved what it had read goes on.
        aside = mine.with_suffix(".stale")
        try:
            os.rename(lock, aside)
        except FileNotFoundError:
            return False
        if text_of(aside) != text:  # another job was faster, and this is its new lock: give it back
            os.rename(aside, lock)
            return False
        aside.unlink()
        try:
            os.link(mine, lock)
            return True
        except FileExistsError:
            return False
    finally:
        mine.unlink(missing_ok=True)


def myself() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "start": start_of(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID", ""),
    }


def text_of(lock: Path) -> str:
    try:
        return lock.read_text()
    except FileNotFoundError:
        return ""


def holder(lock: Path) -> str:
    held = json.loads(text_of(lock) or "{}")
    return f"job {held.get('job') or '-'}, process {held.get('pid')} on {held.get('host')}"


def is_held(lock: Path) -> bool:
    """Whether there is a lock, and its holder lives."""
    return is_alive(text_of(lock))


def is_alive(text: str) -> bool:
    """Whether the process that wrote this lock still runs: asked here, or of Slurm where it runs on another host.

    This job itself may be named: it was requeued, and its earlier process is gone. Where nobody can tell, the holder
    counts as alive, and the message says which file to delete.
    """
    if not text:
        return False
    held = json.loads(text)
    if held["host"] == socket.gethostname():
        return bool(held["start"]) and start_of(held["pid"]) == held["start"]
    if not held["job"]:
        return True
    return held["job"] != os.environ.get("SLURM_JOB_ID") and state_of(str(held["job"])) in RUNNING


def start_of(pid: int) -> str:
    """When a process of this host started, in ticks since boot; empty where it is gone (or waits to be reaped)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def state_of(job: str) -> str:
    """Slurm's state of a job: empty where Slurm has forgotten it, RUNNING where Slurm does not answer."""
    command = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "RUNNING"
    if answer.returncode and "Invalid job id" not in answer.stderr:
        return "RUNNING"
    return answer.stdout.strip()


# The trainer ----------------------------------------------------------------------------------------------------------


def started(arguments: argparse.Namespace) -> list[str]:
    """The words that run a module on the processes of one node or of several."""
    if arguments.nodes > 1:
        return on_nodes(arguments)
    if arguments.processes > 1:
        return [*torchrun(arguments.processes), "--standalone", "-m", *arguments.command]
    return [sys.executable, "-m", *arguments.command]


def torchrun(processes: int) -> list[str]:
    words = [f"--nproc-per-node={processes}", f"--shutdown-timeout={SAVE_SECONDS}"]
    return [sys.executable, "-m", "torch.distributed.run", *words]


def on_nodes(arguments: argparse.Namespace) -> list[str]:
    """srun starts a torchrun on every node; the first node's address is where they meet."""
    nodes, job = arguments.nodes, os.environ.get("SLURM_JOB_ID")
    if not job:
        raise SystemExit(f"nodes: {nodes} in execution needs a job of Slurm's; set it to 1, or use --profile slurm.")
    first = output_of("scontrol", "show", "hostnames", output_of("squeue", "-h", "-j", job, "-o", "%N")).split()[0]
    words = output_of("scontrol", "-o", "show", "node", first).split()
    address = next(word.partition("=")[2] for word in words if word.startswith("NodeAddr="))
    meeting = f"--nnodes={nodes} --master-addr={address} --master-port={20000 + int(job) % 10000}"
    train = shlex.join(["-m", *arguments.command])
    # SLURM_NODEID is known inside the step only.
    script = f"exec {shlex.join(torchrun(arguments.processes))} {meeting} --node-rank=$SLURM_NODEID {train}"
    step = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={arguments.cpus}"]
    return ["srun", *step, "--kill-on-bad-exit=1", "bash", "-c", script]


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
