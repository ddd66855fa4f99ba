"""What a terminal, or a file in its place, shows of a call of Snakemake: two lines a job, a bar, and how it ended.

Snakemake logs events (snakemake_interface_logger_plugins). Its own lines for them go to its log file as ever, and to
the screen for those who ask for more or fewer of them: with --verbose, --debug-dag, --printshellcmds or --quiet.
"""

import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from cost.time_left import TimeLeft, clock
from plan.lookup import Lookup
from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent
from tqdm import tqdm

from call.end import failure, refuse_edits_meanwhile, what_stands
from call.words import words

LOGGED_ONLY = (
    "Building DAG of jobs",
    "Using shell",
    "Select jobs",
    "Trying to restart job",  # is told as a job that starts
    "Shutting down",
    "Exiting because a job execution failed",  # which one, and why, is told in the end
    "Warning: the following output files of rule",  # a run that its pass, or another Snakemake, has made meanwhile
    "Cannot restore",  # outputs of a failed job, which there were none of before
    "Reasons:",
    "SLURM run ID",
    "Job ",  # … has been submitted with SLURM jobid …
)
"""How lines begin that Snakemake and its executor log besides events, and that nobody has to see."""
SUBMITTED = re.compile(r"Job (\d+) has been submitted with SLURM jobid (\S+)")
REFRESH_SECONDS = 5


@dataclass
class Started:
    """A job that was started, and has not ended well yet."""

    digest: str
    words: str
    since: float
    """When, in seconds of time.monotonic()."""
    logs: list[str]
    says: str = ""
    """What the executor says of its failure, if anything."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since


def show(lookup: Lookup, workflow) -> "Screen":
    """A Screen in the place of Snakemake's own handler, unless --logger has replaced that by another one."""
    screen = Screen(lookup, workflow)
    for usual in logger.handlers[:]:
        if usual.name == "DefaultStreamHandler" and isinstance(usual, logging.StreamHandler):
            screen.usual = usual
            logger.removeHandler(usual)
            logger.addHandler(screen)
    return screen


class Screen(logging.Handler):
    """Told by Snakemake of what happens, in whatever thread, one event at a time."""

    def __init__(self, lookup: Lookup, workflow):
        super().__init__()
        self.lookup, self.workflow = lookup, workflow
        self.usual: logging.StreamHandler = logging.StreamHandler(sys.stderr)
        """Snakemake's own, for what is not told here; to stdout in a dry run, otherwise to stderr."""
        self.running: dict[int, Started] = {}
        """By Snakemake's number of the job."""
        self.submitted: dict[int, str] = {}
        """Likewise, Slurm's number."""
        self.failed: dict[int, Started] = {}
        self.listed = 0
        """Jobs that were told of."""
        self.bar = tqdm(disable=True)
        self.time_left = TimeLeft(lookup, [])
        self.over = Event()
        self.last = ""
        self.speaks = False
        """Not before jobs are looked for: --lint, --list and --unlock log their answers."""

    # What Snakemake logs ----------------------------------------------------------------------------------------------

    def emit(self, record: logging.LogRecord) -> None:
        said = vars(record) | {"msg": record.getMessage()}
        if submission := SUBMITTED.match(said["msg"]):
            self.submitted[int(submission[1])] = submission[2]
        if said.get("event") == LogEvent.WORKFLOW_STARTED:
            asked = self.workflow.output_settings
            self.speaks = not (asked.verbose or asked.debug_dag or asked.printshellcmds or asked.quiet)
        if not self.speaks:
            self.usual.handle(record)
        elif not self.over.is_set():
            try:
                self.tell_of(said)
            except Exception:  # as any handler does: the run does not end because of a line
                self.handleError(record)

    def tell_of(self, said: dict[str, Any]) -> None:
        match said.get("event"):
            case LogEvent.JOB_INFO:
                self.start(said)
            case LogEvent.JOB_FINISHED:
                self.finish(said)
            case LogEvent.JOB_ERROR:
                self.fail(said)
            case LogEvent.RUN_INFO if self.listed:  # of a dry run: at its end again
                self.line(f"\n{said['msg']}")
            case LogEvent.ERROR if said["exception"] == "RuleException":
                pass  # the status of a shell, before the JOB_ERROR of its job
            case LogEvent.ERROR:
                self.line(said["msg"])
            case None:
                self.pass_on(said["msg"])

    def pass_on(self, message: str) -> None:
        """What Snakemake says in words of its own; once, where it says it again and again."""
        if message.startswith(LOGGED_ONLY) or message == self.last:
            return
        self.last = message
        self.line(message)
        if message == NOTHING_TO_BE_DONE_MSG:
            self.tell_of_the_report()

    def start(self, said: dict[str, Any]) -> None:
        if digest := said["wildcards"].get("digest"):  # the rules of phases have none, and run nothing
            job = Started(digest, words(self.lookup.job_of(digest)), time.monotonic(), said["log"])
            self.listed += 1
            if self.workflow.dryrun:
                self.line(f"  {job.words}")
                return
            self.running[said["jobid"]] = job
            self.failed.pop(said["jobid"], None)  # another attempt
            self.stamped("starts" if self.workflow.local_exec or said["local"] else "queues", "", job)

    def finish(self, said: dict[str, Any]) -> None:
        if job := self.running.pop(said["job_id"], None):
            self.time_left.learn(job.digest, job.seconds)
            self.bar.update()
            self.stamped("ends", clock(job.seconds), job)

    def fail(self, said: dict[str, Any]) -> None:
        if job := self.running.pop(said["jobid"], None):
            job.logs, job.says = said["log"], said["rule_msg"] or ""
            self.failed[said["jobid"]] = job
            self.stamped("FAILS", clock(job.seconds), job)

    # The lines and the bar --------------------------------------------------------------------------------------------

    def stamped(self, what: str, took: str, job: Started) -> None:
        self.line(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {what:<6}{took:>11}  {job.words}")

    def line(self, text: str) -> None:
        self.bar.write(text, file=self.usual.stream)
        self.refresh()

    def refresh(self) -> None:
        """The bar's words: how many jobs run, and for how long all of them will."""
        if not self.bar.disable:
            seconds = self.time_left.seconds({job.digest: job.seconds for job in self.running.values()})
            left = "time left not known yet" if seconds is None else f"about {clock(seconds)} left"
            self.bar.set_postfix_str(f"{len(self.running)} running, {left}")

    def keep_refreshing(self) -> None:
        while not self.over.wait(REFRESH_SECONDS):
            self.acquire()
            self.refresh()
            self.release()

    # The hooks --------------------------------------------------------------------------------------------------------

    def begin(self, jobs: Iterable) -> None:
        """`jobs` are those of Snakemake that are about to run."""
        digests = [job.wildcards_dict["digest"] for job in jobs if "digest" in job.wildcards_dict]
        self.time_left = TimeLeft(self.lookup, digests)
        log, *_ = self.workflow.logger_manager.get_logfile() or [".snakemake/log"]
        where = f"results/{self.lookup.study}/logs; Snakemake: {os.path.relpath(log)}"
        jobs = "1 job" if len(digests) == 1 else f"{len(digests)} jobs"
        # A phase whose inputs are none, such as caches where nobody distils, is a job to Snakemake.
        self.line(f"{jobs}. What each prints: {where}" if digests else NOTHING_TO_BE_DONE_MSG)
        form = "{n_fmt} of {total_fmt} jobs done{postfix} |{bar:24}|"
        self.bar = tqdm(total=len(digests), disable=None, leave=False, dynamic_ncols=True, bar_format=form)
        if not self.bar.disable:
            Thread(target=self.keep_refreshing, daemon=True).start()

    def succeed(self) -> None:
        self.end()
        refuse_edits_meanwhile(self.lookup.plan)
        self.tell_of_the_report()

    def tell_of_the_report(self) -> None:
        """The last line, where the report was asked for and shows all that was planned."""
        targets = {job.rule.name for job in self.workflow.dag.targetjobs}
        if "all_tables" in targets and not self.lookup.plan.unfinished():
            self.line(f"The report of {self.lookup.study}: reports/{self.lookup.study}/index.html")

    def give_up(self) -> None:
        """The last lines: what every failed job says itself, and how to go on."""
        self.end()
        self.cancel_what_runs()
        for job in [*self.failed.values(), *self.running.values()]:
            for line in failure(job.words, job.says, job.logs):
                self.line(line)
        for line in what_stands(self.lookup.plan):
            self.line(line)

    def cancel_what_runs(self) -> None:
        """Snakemake cancels its jobs itself, but knows none of those that it is asking Slurm about at that moment."""
        if numbers := [self.submitted[job] for job in self.running if job in self.submitted]:
            with suppress(OSError):
                subprocess.run(["scancel", *numbers], capture_output=True)

    def end(self) -> None:
        """Takes the bar away. What Snakemake still says is in its log."""
        self.over.set()
        self.bar.close()

    def close(self) -> None:
        self.end()
        super().close()
