"""Testing experiments end to end: the command `check`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.api.context import api_context
from harness.api.stores import open_store, recover_runs
from harness.console import to_stderr

if TYPE_CHECKING:
    from harness.runs.smoke_test import Result


def check(
    experiments: Sequence[str] = (),
    *,
    device: str | None = None,
    tracking_uri: str | None = None,
    message: Callable[[str], None] = to_stderr,
) -> list[Result]:
    """Train experiments for one epoch on a few images, and read back everything that was logged.

    Args:
        experiments: Names or YAML files. Empty: all known experiments.
        device: auto, cpu, cuda or mps. None: the experiment's.
        tracking_uri: See `harness.run`.
        message: Receives what the user should know, one line a call.

    Raises:
        HarnessError: An experiment is unknown or invalid.
    """
    with api_context():
        from harness.runs.smoke_test import check as check_experiments

        store = open_store(tracking_uri, create=True)
        recover_runs(store, message)
        return check_experiments(experiments, store, device=device, message=message)
