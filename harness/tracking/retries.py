"""Create something in a store only once, although answers may be lost.

MLflow's client repeats a request if it gets no answer. That is harmless, except for requests that create something:
the server may have created it before the answer was lost.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from harness.tracking.errors import error_code

Created = TypeVar("Created")

_MAX_TRIES = 6
_RETRY_DELAY = 0.2  # seconds
_MAX_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_TRANSIENT = (None, "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED")

_environment_lock = threading.RLock()


@contextlib.contextmanager
def send_once() -> Iterator[None]:
    """Disable the retries of MLflow's client, in all threads, while the block lasts.

    The client reads the setting at every request, from the environment.
    """
    with _environment_lock:
        before = os.environ.get(_MAX_RETRIES)
        os.environ[_MAX_RETRIES] = "0"
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(_MAX_RETRIES, None)
            else:
                os.environ[_MAX_RETRIES] = before


def create_once(create: Callable[[], Created], find: Callable[[], list[Created]]) -> Created:
    """Create something with one request, tried up to 6 times.

    Args:
        create: Sends the request.
        find: Looks up what an earlier try created.

    Raises:
        Exception: An exception of `create` that is permanent, or the one of the last try.
    """
    for left in reversed(range(_MAX_TRIES)):
        try:
            with send_once():
                return create()
        except Exception as error:
            if error_code(error) not in _TRANSIENT:
                raise
            if found := find():
                return found[0]
            if not left:
                raise
            time.sleep(_RETRY_DELAY)
    raise AssertionError("unreachable")
