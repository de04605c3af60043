"""A storage that waits while its server is away: a database that restarts for half a minute stops no search.

Every method of Optuna's storage interface is tried again after an error of the connection. A call whose answer was lost
may have been carried out: writing the same value twice changes nothing, and a trial that was created for nobody has no
process, so another worker claims it later.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

PATIENCE = 90.0  # seconds that a server may be away
_FIRST_DELAY, _LONGEST_DELAY = 0.2, 3.0  # seconds between two tries

_METHODS = [name for name, member in vars(BaseStorage).items() if callable(member) and not name.startswith("_")]


def retrying(storage: BaseStorage, message: Callable[[str], None], patience: float | None = None) -> BaseStorage:
    """Return a storage whose calls wait while the server of `storage` is away.

    Args:
        storage: A database, or a proxy.
        message: Called with one line when the waiting begins, and when it ends.
        patience: Seconds after which the error is raised; None for `PATIENCE`. Later calls do not wait again until
            one has succeeded.
    """
    calls = _Calls(storage, message, patience)

    def method(name: str) -> Callable[..., Any]:
        def call(_: BaseStorage, *arguments: Any, **named: Any) -> Any:
            return calls.call(name, *arguments, **named)

        call.__name__ = name
        return call

    wrapper: BaseStorage = type("RetryingStorage", (BaseStorage,), {name: method(name) for name in _METHODS})()
    return wrapper


class _Calls:
    """The calls of one storage."""

    def __init__(self, storage: BaseStorage, message: Callable[[str], None], patience: float | None) -> None:
        self._storage = storage
        self._message = message
        self._patience = patience
        self._is_given_up = False

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        """Call a method until it answers, or for `patience` seconds."""
        patience = PATIENCE if self._patience is None else self._patience
        end, delay, waiting = time.monotonic() + patience, _FIRST_DELAY, False
        while True:
            try:
                result = getattr(self._storage, name)(*arguments, **named)
                break
            except optuna.exceptions.UpdateFinishedTrialError:
                if not (waiting and name == "set_trial_state_values" and self._has_state(*arguments, **named)):
                    raise
                result = True  # an earlier try has done it, and its answer was lost
                break
            except Exception as error:
                if not is_connection_error(error):
                    raise
                if self._is_given_up or time.monotonic() + delay > end:
                    self._is_given_up = True
                    raise
                if not waiting:
                    waiting = True
                    self._message(f"the storage of the study does not answer: waiting up to {patience:.0f} s for it")
            time.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)
        self._is_given_up = False
        if waiting:
            self._message("the storage of the study answers again")
        return result

    def _has_state(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        trial = self._storage.get_trial(trial_id)
        return trial.state == state and (values is None or list(trial.values or []) == list(values))


def is_connection_error(error: BaseException | None) -> bool:
    """Whether an exception says that a server is away, and not that it refuses the request."""
    import sqlalchemy.exc

    while error is not None:
        if isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError):
            return True
        if isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated:
            return True
        code = getattr(error, "code", None)
        if type(error).__module__.startswith("grpc") and callable(code):
            return str(code()) in ("StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED")
        error = error.__cause__
    return False
