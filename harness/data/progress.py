"""Progress of longer work, in few lines of text."""

from __future__ import annotations

from collections.abc import Callable


def progress_messages(message: Callable[[str], None], what: str) -> Callable[[float], None]:
    """Return a function of the share done, in [0, 1], that emits a line every tenth: `training the judge: 30 %`."""
    reported = 0

    def progress(share: float) -> None:
        nonlocal reported
        if int(share * 10) > reported:
            reported = int(share * 10)
            message(f"{what}: {reported * 10} %")

    return progress
