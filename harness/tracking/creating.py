"""Creating something in a store once, although its answers may be lost.

Every other request may be sent twice without harm, and MLflow's client does so when an answer does not come. A request
that creates something must not be: an answer may be lost after the server has done what it was asked.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

Created = TypeVar("Created")

_TRIES = 6
_BETWEEN_TRIES = 0.2  # seconds
_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
_PASSING = (None, "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED")

_setting = threading.RLock()


@contextlib.contextmanager
def sent_once() -> Iterator[None]:
    """MLflow's client does not repeat a request. It reads the setting at every request, from the environment."""
    with _setting:
        before = os.environ.get(_RETRIES)
        os.environ[_RETRIES] = "0"
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(_RETRIES, None)
            else:
                os.environ[_RETRIES] = before


def create_once(create: Callable[[], Created], find: Callable[[], list[Created]]) -> Created:
    """What `create` creates. Where its answer is lost, `find` is asked for it before it is created again."""
    for left in reversed(range(_TRIES)):
        try:
            with sent_once():
                return create()
        except Exception as error:
            if getattr(error, "error_code", None) not in _PASSING:
                raise
            if found := find():
                return found[0]
            if not left:
                raise
            time.sleep(_BETWEEN_TRIES)
    raise AssertionError("unreachable")
