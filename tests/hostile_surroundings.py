"""A user's surroundings at their worst: variables, a home full of settings, a locale that is not UTF-8."""

import json
import subprocess
import sys
from pathlib import Path

LATIN_1 = "de_DE.ISO-8859-1"
OUR_NAMES = ("deit", "jobs", "study", "plan", "commands", "timm_foreign")
SITE = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
BREAKS = "raise RuntimeError('foreign code')\n"
MATPLOTLIBRC = (
    "text.usetex: true\nbackend: TkAgg\nfont.size: 44\nsavefig.dpi: 30\nfont.family: fantasy\nsvg.fonttype: none\n"
)
HOME = {
    ".pythonrc": BREAKS,
    ".ipython/profile_default/startup/00-foreign.py": BREAKS,
    ".ipython/profile_default/ipython_config.py": "c.InteractiveShellApp.exec_lines = ['import foreign_module']\n",
    ".jupyter/jupyter_config.json": json.dumps({"KernelManager": {"transport": "tcp", "ip": "192.0.2.1"}}),
    ".local/share/jupyter/kernels/python3/kernel.json": json.dumps(
        {"argv": ["/bin/false", "{connection_file}"], "display_name": "Foreign", "language": "python"}
    ),
    ".local/share/jupyter/nbconvert/templates/basic/conf.json": json.dumps({"base_template": "base"}),
    ".local/share/jupyter/nbconvert/templates/basic/index.html.j2": "a page of the user's own\n",
    f".local/{SITE}/timm/__init__.py": BREAKS,
    f".local/{SITE}/usercustomize.py": "",
    ".config/matplotlib/matplotlibrc": MATPLOTLIBRC,
    ".config/matplotlib/stylelib/own.mplstyle": "lines.linewidth: 9\n",
    ".config/snakemake/local/config.yaml": "cores: all\nforceall: true\nrerun-triggers: [code]\n",
    ".config/git/config": "[core]\n\tabbrev = 4\n",
    **{f"modules/{name}.py": BREAKS for name in OUR_NAMES},
    "matplotlib/matplotlibrc": "\u00e9\n",
}
"""Files of the home -> their content."""


def hostile(home: Path) -> dict[str, str]:
    """Fills the folder `home` and gives the variables of its user, but for a locale."""
    for name, content in HOME.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("latin-1"))
    return {
        "HOME": str(home),
        "TZ": "Pacific/Kiritimati",
        "PYTHONHASHSEED": "4242",
        "PYTHONSTARTUP": f"{home}/.pythonrc",
        "PYTHONPATH": f"{home}/modules",
        "PYTHONOPTIMIZE": "2",
        "PYTHONIOENCODING": "ascii",
        "MPLBACKEND": "TkAgg",
        "MPLCONFIGDIR": f"{home}/matplotlib",
        "MATPLOTLIBRC": f"{home}/.config/matplotlib/matplotlibrc",
        "JUPYTER_PATH": f"{home}/.local/share/jupyter",
        "JUPYTER_PREFER_ENV_PATH": "0",
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": f"{home}/.ipython",
        "IPYKERNEL_CELL_NAME": "foreign",
        "VIRTUAL_ENV": f"{home}/.local",
        "PANDAS_COPY_ON_WRITE": "warn",
        "TIMM_FUSED_ATTN": "0",
        "XDG_RUNTIME_DIR": "/proc/none",
        "GIT_DIR": "/proc/none",
        "GIT_WORK_TREE": "/proc/none",
        "COLUMNS": "20",
        "LINES": "3",
        "NO_COLOR": "1",
        "FORCE_COLOR": "1",
        "TERM": "dumb",
        "LC_NUMERIC": "de_DE",
        "OMP_NUM_THREADS": "3",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "192.0.2.1",
        "MASTER_PORT": "29500",
        "PET_NNODES": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "SNAKEMAKE_PROFILE": "foreign",
        "SNAKEMAKE_OUTPUT_CACHE": "/proc/none",
        "CDPATH": str(home),
        "GREP_OPTIONS": "--color=always",
    }


def latin_1(folder: Path) -> dict[str, str]:
    """The variables of a Latin-1 locale, made in `folder`; of an ASCII one where the system cannot make any."""
    words = ["localedef", "-i", "de_DE", "-f", "ISO-8859-1", str(folder / LATIN_1)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return ascii_locale()
    return {"LC_ALL": LATIN_1, "LANG": LATIN_1, "LOCPATH": str(folder)}


def ascii_locale() -> dict[str, str]:
    """POSIX without what makes Python take it for UTF-8."""
    return {"LC_ALL": "POSIX", "LANG": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
