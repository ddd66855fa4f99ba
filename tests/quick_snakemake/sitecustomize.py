"""On PYTHONPATH, Snakemake starts in two thirds of its time or less, and asks Slurm twice a second; for tests only.

Most of its start is imports. Of these nothing here asks for pandas, of the Slurm plug-in's report of efficiency, nor
for boto3, of smart_open, which would read a Snakefile from S3; and a third of the rest is looking for garbage that
imports do not leave. And it would ask Slurm after 10 s and more.
"""

import gc
import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader


class LazyPandas(PathFinder):
    """Finds a pandas that is read when somebody first asks it for something."""

    @classmethod
    def find_spec(cls, name: str, path=None, target=None) -> ModuleSpec | None:
        spec = super().find_spec(name, path, target) if name == "pandas" else None
        if spec:
            spec.loader = LazyLoader(spec.loader)
        return spec


if any(word.endswith("snakemake") for word in sys.orig_argv):
    gc.set_threshold(50_000)  # new objects
    sys.modules["boto3"] = None  # as where it is not installed
    sys.meta_path.insert(0, LazyPandas)
    if "--mode" not in sys.orig_argv:
        import asyncio

        from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

        async def short_sleep(self) -> None:
            await asyncio.sleep(0.5)

        RemoteExecutor.sleep = short_sleep
