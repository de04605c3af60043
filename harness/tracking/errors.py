"""Turn MLflow's exceptions into one line for the user.

`store_errors` wraps requests whose failure ends the command. Shipping (`shipping.py`) uses the error codes instead,
because a run continues while its store does not answer.
"""

import contextlib
from collections.abc import Iterator

from harness.errors import HarnessError, redact

_NO_ANSWER = ("Max retries exceeded", "Connection refused", "timed out", "timeout exception")


def error_code(error: BaseException) -> str | None:
    """Return the code of an MlflowException, for example `RESOURCE_DOES_NOT_EXIST`; None for other exceptions."""
    return getattr(error, "error_code", None)


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status of a failed artifact upload, which MLflow passes on as `requests` raised it, or None."""
    return getattr(getattr(error, "response", None), "status_code", None)


def one_line(error: BaseException) -> str:
    """Return the error message in one line of at most 300 characters, without credentials."""
    text = " ".join(str(error).split()) or type(error).__name__
    if any(sign in text for sign in _NO_ANSWER):
        text = "the tracking server does not answer"
    return redact(text)[:300]


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn every exception of a request to the store into a HarnessError.

    Args:
        uri: The store, as the message names it.
    """
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        raise HarnessError(f"the tracking store {uri} failed: {one_line(error)}") from error
