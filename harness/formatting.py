"""Text for messages: durations, numbers, and command lines to paste into a shell.

Command lines are quoted, and name a store or storage by its option if it is not the default of this directory. A
password is never printed: if the environment variable has the address, the option is omitted; otherwise `***` replaces
the password.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import HarnessError, redact
from harness.files import database_of, sqlite_uri

STORE, STORAGE = "MLFLOW_TRACKING_URI", "HARNESS_STORAGE"  # environment variables


def harness_command(
    command: str, *words: str, store: str | None = None, storage: str | None = None, **options: object
) -> str:
    """Return `harness COMMAND WORDS... --OPTION VALUE...`.

    Args:
        command: The command.
        words: Its arguments.
        store: The address of the MLflow store; None where the command needs none, or the default one.
        storage: The address of the Optuna storage, likewise.
        options: By name; None is left out, True is a flag, a list is an option for each of its values.
    """
    named: dict[str, object] = {name.replace("_", "-"): value for name, value in options.items()}
    if store is not None and _absolute(store) != default_store():
        named["tracking-uri"] = redact(store)
    if storage is not None and storage != os.environ.get(STORAGE):
        named["storage"] = redact(storage)
    parts = [*program("harness"), command, *(word for word in words if not word.startswith("-"))]
    for name, value in named.items():
        if value is not None and value is not False:
            parts += _option(name, value)
    dashed = [word for word in words if word.startswith("-")]
    return shlex.join([*parts, "--", *dashed] if dashed else parts)


def mlflow_command(*words: str, store: str) -> str:
    """Return `MLFLOW_TRACKING_URI=... mlflow WORDS...`: MLflow's commands take the store from the environment."""
    return _for_store(shlex.join([*program("mlflow"), *words]), store)


def python_command(code: str, *, store: str) -> str:
    """Return `MLFLOW_TRACKING_URI=... python -c CODE`, with this Python."""
    return _for_store(shlex.join([sys.executable, "-c", code]), store)


def program(name: str) -> list[str]:
    """Return the command for `harness` or `mlflow`: its name if it is on the PATH, else its path, or `python -m`."""
    script = Path(sys.executable).with_name(name)
    if shutil.which(name):
        return [name]
    return [short_path(script)] if script.exists() else [sys.executable, "-m", name]


def short_path(path: Path) -> str:
    """Return a path as text, relative to the working directory if it is inside."""
    if not path.is_relative_to(Path.cwd()):
        return str(path)
    short = path.relative_to(Path.cwd())
    return str(short) if len(short.parts) > 1 else f"./{short}"


def default_store() -> str:
    """Return the MLflow store that a command without --tracking-uri uses in this directory."""
    return _absolute(os.environ.get(STORE) or "sqlite:///mlruns/mlflow.db")


def check_not_redacted(uri: str, option: str, variable: str) -> None:
    """Raise HarnessError for an address that was pasted from a printed line, with `***` in place of its password."""
    if "://***@" in uri or "=***" in uri:
        raise HarnessError(
            f"{option} {uri}: *** hides a user and a password, expected the full address; set {variable} to it, and "
            f"leave {option} out"
        )


def _option(name: str, value: object) -> list[str]:
    if value is True:
        return [f"--{name}"]
    if isinstance(value, list | tuple):
        return [part for one in value for part in _option(name, one)]
    text = str(value)
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]


def _for_store(line: str, store: str) -> str:
    if os.environ.get(STORE) and _absolute(store) == default_store():
        return line
    return f"{STORE}={shlex.quote(redact(store))} {line}"


def _absolute(uri: str) -> str:
    if uri.startswith(("http://", "https://")):
        return uri.rstrip("/")
    if uri.startswith("sqlite:///"):
        return sqlite_uri(database_of(uri))
    return uri


def duration(seconds: float) -> str:
    """Return `3 h 05 min`, `2 min 07 s` or `9 s`."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {whole % 60:02d} s" if minutes else f"{whole} s"


def format_count(number: int, noun: str, plural: str | None = None) -> str:
    """Return `1 epoch`, `20 epochs` or `60,000 images`. plural: of the noun, if it is not the noun with an `s`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def brief_number(value: float) -> str:
    """Return a number with three decimals, or with an exponent from 100,000 on."""
    return f"{value:.3f}" if abs(value) < 1e5 else f"{value:.3g}"


def join_words(words: Sequence[str], conjunction: str) -> str:
    """Return `kid`, `kid or frechet`, `kid, frechet or density`."""
    *first, last = words
    return f"{', '.join(first)} {conjunction} {last}" if first else last


def format_each(values: Mapping[str, object]) -> list[str]:
    """Return a text for each value: `optimizer.lr 0.00123`, `generator.latent 64`."""
    return [f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}" for path, value in values.items()]


def format_values(values: Mapping[str, object]) -> str:
    """Return all values in one text: `optimizer.lr 0.00123  generator.latent 64`."""
    return "  ".join(format_each(values))
