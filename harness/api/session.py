"""What every function of the Python API starts with: a usable environment, and what may be imported."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from harness.environment import check_working_directory, prepare_environment
from harness.experiment import trust


@contextlib.contextmanager
def session(*, trusted: bool = False) -> Iterator[None]:
    """Prepare the environment of the process as the command line does.

    trusted: meanwhile, classes (`package.module:Class`) that a stored run or study names may be imported.
    """
    check_working_directory()
    prepare_environment()
    # tqdm, which libraries import, warns in notebooks about widgets that are not installed. Nothing here needs them.
    warnings.filterwarnings("ignore", message="IProgress not found")
    with trust.trusting() if trusted else contextlib.nullcontext():
        yield
