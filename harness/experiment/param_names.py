"""What MLflow accepts as the name of a param, a metric or a tag, and how much of a value it keeps.

These are the rules of `mlflow.utils.validation`, which takes seconds to import (a test holds the two together).
"""

from __future__ import annotations

import posixpath
import re

LONGEST_KEY, LONGEST_PARAM, LONGEST_TAG = 250, 6_000, 8_000  # characters; a longer value is cut without a word
LONGEST_NAME = 250  # of a run, in MLflow's databases


def why_not_a_key(key: str) -> str | None:
    """Why MLflow refuses a name, in words; None where it does not."""
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
