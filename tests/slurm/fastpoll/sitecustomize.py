"""On PYTHONPATH, Snakemake asks Slurm for its jobs twice a second, not after 10 s and more; for tests only."""

import sys

if any(word.endswith("snakemake") for word in sys.orig_argv) and "--mode" not in sys.orig_argv:
    import asyncio

    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

    async def short_sleep(self) -> None:
        await asyncio.sleep(0.5)

    RemoteExecutor.sleep = short_sleep
