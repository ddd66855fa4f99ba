"""How images lie on disk: a reader a file, whose name is what params call it. CONTRIBUTING.md tells how to add one."""

import pkgutil


def known_readers() -> list[str]:
    return sorted(found.name for found in pkgutil.iter_modules(__path__))


def module_of(reader: str) -> str:
    """The dotted name of a reader's module."""
    return f"{__name__}.{reader}"
