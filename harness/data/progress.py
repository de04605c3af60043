"""How far a longer work is, in few lines."""

from __future__ import annotations

from collections.abc import Callable


def tenths(message: Callable[[str], None], what: str) -> Callable[[float], None]:
    """Turns the share of a work that is done, in [0, 1], into a line every tenth: `training the judge: 30 %`."""
    said = 0

    def progress(share: float) -> None:
        nonlocal said
        if int(share * 10) > said:
            said = int(share * 10)
            message(f"{what}: {said * 10} %")

    return progress
