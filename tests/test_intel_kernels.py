"""What docs/report.md says of MKL on a CPU that is not Intel's: the two lines work, and a result tells of them."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deit.store.results import provenance

ROOT = Path(__file__).resolve().parents[1]
ASK = """
import ctypes, pathlib, torch
library = ctypes.CDLL(str(pathlib.Path(torch.__file__).parent / "lib/libtorch_cpu.so"))
print(library.mkl_serv_cpu_detect())
"""
"""The number of the kernels that MKL takes: 0 are those of any CPU."""
HAS_MKL = torch.backends.mkl.is_available() and platform.machine() == "x86_64" and sys.platform == "linux"


@pytest.mark.skipif(not HAS_MKL, reason="torch multiplies matrices by another library than MKL")
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="the CPU lacks AVX2")
def test_with_the_library_of_the_page_mkl_takes_its_kernels_for_an_intel_cpu(tmp_path):
    page = (ROOT / "docs/report.md").read_text(encoding="utf-8")
    [build, preload] = re.findall(r"^echo 'int mkl_serv.*$|^LD_PRELOAD=\S+", page, re.MULTILINE)
    script = f'{build} && {preload} "{sys.executable}" -c "$ASK"'
    variables = os.environ | {"HOME": str(tmp_path), "ASK": ASK}
    said = subprocess.run(["sh", "-c", script], env=variables, capture_output=True, encoding="utf-8")
    assert said.returncode == 0 and int(said.stdout) > 0, said.stderr[-500:]


def test_a_result_tells_what_was_loaded_before_its_libraries(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "/home/me/intel-kernels.so")
    assert provenance()["variables"]["LD_PRELOAD"] == "/home/me/intel-kernels.so"
