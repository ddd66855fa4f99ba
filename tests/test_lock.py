"""requirements.lock is requirements.txt and all that it needs, with hashes; and what is installed is what is locked."""

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
REMEDY = "run `make lock`, then `make test` to install it"


def requirements(file: str) -> list[Requirement]:
    """The requirements in a file, with neither hashes nor comments."""
    lines = re.sub(r" \\\n", " ", (ROOT / file).read_text(encoding="utf-8")).splitlines()
    return [Requirement(line.partition(" --hash")[0]) for line in lines if line and not line.lstrip().startswith("#")]


def lock_versions() -> dict[str, str]:
    """Name -> the version that this machine is given."""
    entries = [one for one in requirements("requirements.lock") if not one.marker or one.marker.evaluate()]
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in entries}


def installed_versions() -> dict[str, str]:
    """Name -> version of the direct requirements that are installed here, and of all that they require in turn."""
    versions, waiting = {}, [(one.name, frozenset(one.extras)) for one in requirements("requirements.txt")]
    visited = set()
    while waiting:
        name, extras = waiting.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        visited.add((name, extras))
        versions[canonicalize_name(name)] = package.version
        for text in package.requires or []:
            one = Requirement(text)
            needed = not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras))
            if needed and (one.name, frozenset(one.extras)) not in visited:
                waiting.append((one.name, frozenset(one.extras)))
    return versions


def test_every_direct_pin_is_locked_at_its_version():
    direct = {canonicalize_name(one.name): str(one.specifier) for one in requirements("requirements.txt")}
    assert all(re.fullmatch(r"==[\w.]+", version) for version in direct.values())
    lock = lock_versions()
    assert {name: f"=={lock.get(name)}" for name in direct} == direct, REMEDY


def test_everything_that_is_installed_is_locked_at_its_version():
    """torch's build for CPUs alone, 2.14.1+cpu, is the same release."""
    versions, lock = installed_versions(), lock_versions()
    assert len(versions) > 100
    release = {name: version.partition("+")[0] for name, version in versions.items()}
    assert release == {name: lock.get(name) for name in versions}, REMEDY


def test_every_entry_has_hashes_and_none_names_a_place():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", text.partition("\n\n")[0])
    assert all("--hash=sha256:" in entry for entry in entries if not entry.startswith("#"))
    assert not re.search(
        r"://|^\s*-[^-]|--(?!hash=)|@ ", re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE), re.MULTILINE
    )
