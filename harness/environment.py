"""The user name, the home folder and the cache folder, with substitutes for containers that lack them."""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError

_log = logging.getLogger(__name__)

# Caches that libraries keep below the home folder.
LIBRARY_CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TORCH_HOME": "torch",
    "TRITON_CACHE_DIR": "triton",
}


OFFLINE = "HARNESS_OFFLINE"  # environment variable
OFFLINE_FOLDER = Path("mlruns/offline")  # where offline runs are stored by default


def is_offline() -> bool:
    """Whether HARNESS_OFFLINE is set: runs are stored in OFFLINE_FOLDER, and no server is asked.

    Raises:
        HarnessError: Its value is neither yes nor no.
    """
    value = os.environ.get(OFFLINE, "").strip().lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("", "0", "false", "no", "off"):
        return False
    raise HarnessError(f"{OFFLINE} is {value!r}: expected 1 or 0")


def user_name() -> str:
    """Return the login name, or the numeric user id where the id has no account."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def check_working_directory() -> None:
    """Raise HarnessError where the working directory was deleted or cannot be read."""
    try:
        Path.cwd()
    except OSError as error:
        raise HarnessError(
            f"the working directory cannot be used ({error.strerror}): it was deleted or moved; "
            "change to another folder with cd"
        ) from error


def prepare_environment() -> None:
    """Set environment variables in place of a user name and a home folder that the account lacks.

    PyTorch, MLflow and Matplotlib ask for a user name and write to the home folder, some of them while they are
    imported. Changes the environment of this process and its children. Does nothing if there is a user name and a
    writable home folder.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = user_name()
    home = _home()
    if home is not None and os.access(home, os.W_OK):
        return
    chosen = os.environ.get("HARNESS_DATA")
    base = Path(chosen).absolute() if chosen and _writable(Path(chosen).absolute()) else _fallback()
    if home is None:
        os.environ["HOME"] = str(base)
    for variable, name in LIBRARY_CACHES.items():
        os.environ.setdefault(variable, str(base / name))


def cache_folder() -> Path:
    """Return where data and trained judges are cached: `HARNESS_DATA`, the user's cache folder, or ./mlruns/cache.

    ./mlruns/cache is used if the user's cache folder cannot be written to. Then a warning is logged, and
    `HARNESS_DATA` is set, so that child processes use the same folder.

    Raises:
        HarnessError: `HARNESS_DATA` begins with ~, and there is no home folder.
    """
    import platformdirs

    if chosen := os.environ.get("HARNESS_DATA"):
        return _expand(chosen)
    user_cache = Path(platformdirs.user_cache_dir("harness"))
    if (_home() is not None or os.environ.get("XDG_CACHE_HOME")) and _writable(user_cache):
        return user_cache
    folder = _fallback()
    why = (
        f"the cache folder {user_cache} cannot be written to" if _home() else "there is no home folder that can be used"
    )
    _log.warning("%s: data is cached in %s (set HARNESS_DATA to use another folder)", why, folder)
    os.environ["HARNESS_DATA"] = str(folder)
    return folder


def _expand(chosen: str) -> Path:
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:
        raise HarnessError(f"HARNESS_DATA is {chosen}, but there is no home folder: give an absolute path") from error


def _fallback() -> Path:
    return Path("mlruns/cache").absolute()


def _home() -> Path | None:
    """The home folder; None if it is missing, cannot be read, or is the substitute of `prepare_environment`."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    usable = home.is_absolute() and os.access(home, os.R_OK | os.X_OK) and home.is_dir()
    return home if usable and home != _fallback() else None


def _writable(folder: Path) -> bool:
    """Whether files can be written to the folder, or the folder can be created."""
    try:
        nearest = next(path for path in (folder, *folder.parents) if path.exists())
    except OSError:  # a parent that cannot be read
        return False
    needed = os.W_OK | os.X_OK | (os.R_OK if nearest == folder else 0)
    return nearest.is_dir() and os.access(nearest, needed)


@contextmanager
def temporary_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while the block lasts, for processes that are started in it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
