"""The context of every function of the Python API: the environment, and permission to import custom classes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from harness.environment import check_working_directory, prepare_environment
from harness.experiment.trust import trusting


@contextlib.contextmanager
def api_context(*, trust: bool = False) -> Iterator[None]:
    """Prepare the environment of the process, as the command line does.

    Args:
        trust: Inside the block, allow imports of the classes (`package.module:Class`) that a stored run or study names.
    """
    check_working_directory()
    prepare_environment()
    # tqdm, which libraries import, warns in notebooks about widgets that are not installed. Nothing here needs them.
    warnings.filterwarnings("ignore", message="IProgress not found")
    with trusting() if trust else contextlib.nullcontext():
        yield
