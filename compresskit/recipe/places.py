"""Where a value of a recipe stands, for messages: a line of the file, or a `--set` of the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from compresskit.errors import CompresskitError, InputError, MissingError, UsageError
from compresskit.options import nearest_or_all


@dataclass(frozen=True, slots=True)
class Place:
    """A line such as `lab.yaml:12`, or with `typed` the words of the command line."""

    text: str
    typed: bool = False

    def error(self, message: str) -> CompresskitError:
        """The error that tells a fault here: UsageError of what was typed, InputError of the file."""
        return (UsageError if self.typed else InputError)(f"{self.text}: {message}")

    def unknown(self, what: str, key: str, known: Iterable[str]) -> CompresskitError:
        """The error of a key or a name that is none of the `known`; it tells the nearest, or all."""
        return self.error(f"unknown {what} {key!r:.80}; {nearest_or_all(key, known)}")


def blamed(error: CompresskitError, places: Mapping[str, Place], otherwise: Place) -> CompresskitError:
    """What a dataclass of options said of a value, told with the place of the option that it names first.

    `places` are those of the options, by the names of their fields. A package that is not installed is no fault of the
    value, and stays a MissingError.
    """
    names = (name.replace("-", "_") for name in re.findall(r"--([a-z][\w-]*)", str(error)))
    place = next((places[name] for name in names if name in places), otherwise)
    return MissingError(f"{place.text}: {error}") if isinstance(error, MissingError) else place.error(str(error))
