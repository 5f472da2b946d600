"""The one error that a user can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from outside: one line that names the thing and the remedy.

    Commands print it without a traceback and leave with exit code 2.
    """


class MissingLibraryError(InputError, ImportError):
    """An optional library is absent or does not load; the message names the command that installs it."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is not in `known`, suggesting the nearest one that is."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"choose one of: {', '.join(known)}"
    return InputError(f"unknown {kind} '{name}': {hint}")
