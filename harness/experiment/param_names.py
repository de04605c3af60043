"""MLflow's rules for names of params, metrics and tags, and its limits for their values.

The rules are those of `mlflow.utils.validation`, which takes seconds to import; a test compares the two.
"""

from __future__ import annotations

import posixpath
import re

LONGEST_KEY, LONGEST_PARAM, LONGEST_TAG = 250, 6_000, 8_000  # characters; a longer value is cut without a word
LONGEST_NAME = 250  # of a run, in MLflow's databases


def invalid_key_reason(key: str) -> str | None:
    """Return why MLflow refuses a name; None if it accepts it."""
    if len(key) > LONGEST_KEY:
        return f"the name has {len(key)} characters; MLflow takes at most {LONGEST_KEY}"
    if not re.fullmatch(r"[/\w.\- :]+", key):
        return (
            f"MLflow does not take the name {key!r}; expected letters, digits, spaces, and the characters "
            "_ - . : / alone"
        )
    if posixpath.normpath(key) != key or key.startswith(("/", "..")) or key == ".":
        return f"MLflow does not take the name {key!r}, which as a path is {posixpath.normpath(key)!r}: rename it"
    return None
