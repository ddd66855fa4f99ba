"""What is wrong in params/, as a user is told it: the file that made it wrong, the key, what is wrong, what to do."""

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Layers = list[tuple[Path, dict]]
"""The files of a study with what each says, the most general first."""
KINDS: dict[type, str] = {
    type(None): "nothing",
    dict: "keys and values",
    list: "a list",
    str: "text",
    bool: "true or false",
}
KINDS |= dict.fromkeys((int, float), "a number")


class ParamsError(Exception):
    """A mistake in params/; its text is all that the user needs to see."""

    def __init__(self, *lines: str):
        super().__init__("\n".join(map(printable, lines)))


@dataclass(frozen=True)
class Problem:
    """A broken rule. Neither its text nor its remedy may be left out."""

    key: str
    """Dotted: where it stands in the params."""
    text: str
    """What is wrong, as said after the key."""
    remedy: str
    """What to do, a sentence."""
    others: tuple[str, ...] = ()
    """Further keys that the rule is about: who sets one of them later than `key` may have broken it there."""

    def line(self, layers: Layers) -> str:
        """For the user, after the file and the key of the latest layer that has a part in it."""
        blamed = max((self.key, *self.others), key=lambda key: last_layer(key, layers))
        conflict = "" if blamed == self.key else f"does not fit {self.key}: "
        said = f"{self.text}{'' if self.text.endswith(('.', '?')) else ';'} {self.remedy}"
        return f"{origin(blamed, layers)}: {blamed}: {conflict}{said}"


def refusal(mistakes: list[Problem], layers: Layers) -> ParamsError:
    """All mistakes in one error, each once."""
    return ParamsError(*dict.fromkeys(mistake.line(layers) for mistake in mistakes))


# Where a key was set --------------------------------------------------------------------------------------------------


def last_layer(key: str, layers: Layers) -> int:
    """The number of the last file that sets a key, or takes it away; -1 where none does."""
    return max((number for number, (_, layer) in enumerate(layers) if sets(key, layer)), default=-1)


def sets(key: str, layer: object) -> bool:
    inside = layer.items() if isinstance(layer, dict) else ()
    return any(
        key == name or (key.startswith(f"{name}.") and (value is None or sets(key[len(name) + 1 :], value)))
        for name, value in inside
    )


def origin(key: str, layers: Layers) -> Path:
    """The file in which a dotted key, or the longest part of it, was last set."""
    return max(reversed(layers), key=lambda entry: depth(key, entry[1]))[0]


def depth(key: str, layer: object) -> int:
    """How many steps of a dotted key a layer has; a name in it may have dots of its own."""
    inside = layer.items() if isinstance(layer, dict) else ()
    steps = [1 + depth(key[len(name) + 1 :], value) for name, value in inside if f"{key}.".startswith(f"{name}.")]
    return max(steps, default=0)


# Words ----------------------------------------------------------------------------------------------------------------


def printable(line: str) -> str:
    """A line with its control characters written out."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def short(value: object) -> str:
    """What was found, however large it is."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else repr(value)
    return text if len(text) <= 80 else f"{text[:60]} … {text[-10:]}"


def kind_of(value: object) -> str:
    """What YAML calls a value."""
    return KINDS.get(type(value), f"a {type(value).__name__}")


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names in a sentence, the first ones of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def meant(name: str, known: Iterable[str]) -> str:
    """A question, where one of the known names is much like this one; empty where none is."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'?" if near else ""


def unknown(key: str, name: str, known: Iterable[str], what: str, section: str = "") -> Iterator[Problem]:
    """A reference to something that is not defined; `section` is where it would be."""
    known = list(known)
    if name not in known:
        hint = meant(name, known) or f"defined are {listed(known)}."
        yield Problem(key, f"there is no {what} {short(name)}", hint, (f"{section}.{name}",) if section else ())
