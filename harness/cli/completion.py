"""Shell completion: experiments, runs, studies and dotted paths. Needs neither PyTorch nor MLflow.

After an error there is nothing to suggest: nothing is printed while the user types.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from harness.experiment.scores import searchable
from harness.experiment.tags import Kind, Tag
from harness.files import database_of
from harness.formatting import STORE

Items = Iterable[CompletionItem[str]]
Suggest = Callable[[click.Context, str], Items]

DATA_SETS = (  # those of harness.data, which needs PyTorch
    *("mnist", "digits", "fashion-mnist", "kmnist", "emnist-balanced", "emnist-letters", "emnist-digits"),
    *("emnist-mnist", "emnist-bymerge", "emnist-byclass", "qmnist", "usps", "stacked-mnist", "folder"),
)
_MAX_RUNS = 200  # number of suggested runs


class Suggested(click.types.StringParamType):
    """Text that the shell can complete."""

    def __init__(self, suggest: Suggest) -> None:
        self.suggest = suggest

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the suggestions; none if an error occurs."""
        try:
            return list(self.suggest(ctx, incomplete))
        except Exception:
            return []


def attach(group: click.Group) -> None:
    """Let the shell complete the text arguments and options of all commands."""
    for command in group.commands.values():
        for param in command.params:
            names = param.opts if isinstance(param, click.Option) else [str(param.name)]
            suggest = next((_SUGGEST[name] for name in names if name in _SUGGEST), None)
            if suggest is not None and type(param.type) is click.types.StringParamType:
                param.type = Suggested(suggest)


# Suggestions ----------------------------------------------------------------------------------------------------------


def _matching(values: Mapping[str, str | None] | Iterable[str], incomplete: str) -> Iterator[CompletionItem[str]]:
    helps = values if isinstance(values, Mapping) else dict.fromkeys(values)
    return (CompletionItem(value, help=helps[value]) for value in helps if value.startswith(incomplete))


def _words(*words: str) -> Suggest:
    return lambda _ctx, incomplete: _matching(words, incomplete)


def _experiment_names(_ctx: click.Context, incomplete: str) -> Items:
    from harness.experiment import available

    for name, path in available().items():
        if name.startswith(incomplete):
            described = re.search(r"^description: *(.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
            yield CompletionItem(name, help=described[1].strip("\"' ") if described else None)


def _experiments(ctx: click.Context, incomplete: str) -> Items:
    """Suggest names, and YAML files in the typed folder."""
    yield from _experiment_names(ctx, incomplete)
    folder = Path(incomplete[: incomplete.rfind("/") + 1]).expanduser()
    typed = incomplete[: incomplete.rfind("/") + 1]
    for path in sorted(folder.iterdir()):
        hidden = path.name.startswith(".") and not incomplete.rpartition("/")[2].startswith(".")
        if hidden or not f"{typed}{path.name}".startswith(incomplete):
            continue
        if path.suffix in {".yaml", ".yml"}:
            yield CompletionItem(f"{typed}{path.name}")
        elif typed and path.is_dir():
            yield CompletionItem(f"{typed}{path.name}/")
        elif incomplete and path.is_dir():
            yield CompletionItem(f"{path.name}/")


def _rows(ctx: click.Context, query: str, *values: str) -> list[tuple[Any, ...]]:
    """Query the store of the command line. Returns nothing if it is not an existing SQLite file."""
    uri = ctx.params.get("tracking_uri") or os.environ.get(STORE) or "sqlite:///mlruns/mlflow.db"
    if not uri.startswith("sqlite:///") or not database_of(uri).is_file():
        return []
    with closing(sqlite3.connect(f"{database_of(uri).as_uri()}?mode=ro", uri=True, timeout=0.1)) as connection:
        return connection.execute(query, values).fetchall()


_RUNS = f"""
    SELECT runs.run_uuid, runs.name, runs.status, runs.start_time FROM runs
    JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = '{Tag.KIND}'
    WHERE runs.lifecycle_stage = 'active'
"""
_NESTED = "SELECT 1 FROM tags WHERE tags.run_uuid = runs.run_uuid AND tags.key = 'mlflow.parentRunId'"
_NEWEST = f" ORDER BY runs.start_time DESC LIMIT {_MAX_RUNS}"


def _runs(ctx: click.Context, incomplete: str) -> Items:
    """Suggest `latest`, then names of a single run and ids of the others, newest first.

    Nested runs and ids of named runs are suggested only if the typed text is the beginning of one.
    """
    yield from _matching({"latest": "the newest run"}, incomplete)
    if incomplete:
        begins = " AND (substr(runs.name, 1, length(?1)) = ?1 OR substr(runs.run_uuid, 1, length(?1)) = ?1)"
        found = _rows(ctx, f"{_RUNS}{begins}{_NEWEST}", incomplete)
    else:
        found = _rows(ctx, f"{_RUNS} AND NOT EXISTS ({_NESTED}){_NEWEST}")
    names = [name for _, name, *_ in found]
    for run_id, name, status, started in found:
        when = datetime.fromtimestamp((started or 0) / 1000).strftime("%Y-%m-%d %H:%M")
        if name and name.startswith(incomplete) and names.count(name) == 1:
            yield CompletionItem(name, help=f"{status}, {when}")
        elif run_id.startswith(incomplete) or names.count(name) > 1:
            short = run_id[: 8 if len(incomplete) <= 8 else None]
            if short.startswith(incomplete):
                yield CompletionItem(short, help=f"{name}, {status}, {when}")


def _studies(ctx: click.Context, incomplete: str) -> Items:
    query = f"""
        SELECT study.value FROM runs
        JOIN tags AS kind ON kind.run_uuid = runs.run_uuid AND kind.key = '{Tag.KIND}' AND kind.value = '{Kind.STUDY}'
        JOIN tags AS study ON study.run_uuid = runs.run_uuid AND study.key = '{Tag.STUDY}'
        WHERE runs.lifecycle_stage = 'active'
    """
    return _matching([name for (name,) in _rows(ctx, query + _NEWEST)], incomplete)


def _projects(ctx: click.Context, incomplete: str) -> Items:
    rows = _rows(ctx, "SELECT name FROM experiments WHERE lifecycle_stage = 'active'")
    return _matching([name for (name,) in rows if name != "Default"], incomplete)


def _paths(ctx: click.Context, incomplete: str) -> Items:
    """Suggest dotted paths of the experiment, and after `=` the values of a choice."""
    path, sign, _ = incomplete.partition("=")
    inner = next((path[len(part) :] for part in _SEARCHED if path.startswith(part)), path)
    outer = path[: len(path) - len(inner)]
    schemas = _field_schemas()
    if sign:
        choices = DATA_SETS if inner == "data.name" else _choices(schemas.get(inner, {}))
        yield from _matching([f"{path}={choice}" for choice in choices], incomplete)
        return
    values = _values(ctx)
    if values is None:
        values = dict.fromkeys(schemas)
    for field, now in values.items():
        about = schemas.get(field, {}).get("description", "")
        help_text = f"now {'null' if now is None else now}; {about}" if about else None
        yield from _matching({f"{outer}{field}=": help_text}, incomplete)
    if ctx.info_name == "tune" and not outer:
        yield from _matching({"search.": "a range to search", "search_budget.": "a value of the trials"}, incomplete)


_SEARCHED = ("search.", "search_budget.")


def _values(ctx: click.Context) -> dict[str, Any] | None:
    """Return the values of the experiment of the command line by dotted path; None if it cannot be read."""
    from harness.errors import HarnessError
    from harness.experiment import load

    # click leaves arguments unparsed before an option without a value
    name = ctx.params.get("experiment") or next(iter(ctx.args), "default")
    overrides = [text for text in ctx.params.get("set") or () if not text.startswith(_SEARCHED)]
    try:
        return load(name, overrides).flatten()
    except HarnessError:
        return None


def _field_schemas() -> dict[str, Any]:
    """Return the schema of every field by dotted path, for all kinds of networks."""
    from harness.experiment import SEARCH_KEYS
    from harness.experiment import schema as experiment_schema

    schema = experiment_schema()
    found: dict[str, Any] = {}
    for name, node in schema["properties"].items():
        sections = [part for part in _alternatives(schema, node) if "properties" in part]
        if not sections:
            if name not in SEARCH_KEYS:
                found[name] = node
            continue
        for section in sections:
            for field, described in section["properties"].items():
                known = found.setdefault(f"{name}.{field}", {"anyOf": [], **described})
                known["anyOf"] = [*known["anyOf"], described]
    return found


def _alternatives(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in node:
        yield from _alternatives(schema, schema["$defs"][node["$ref"].rpartition("/")[2]])
        return
    yield node
    for part in [*node.get("anyOf", ()), *node.get("oneOf", ())]:
        yield from _alternatives(schema, part)


def _choices(node: Mapping[str, Any]) -> list[str]:
    """Return the values of a choice or a switch, and null if it is allowed."""
    found: dict[str, None] = {}
    for part in _alternatives({}, node):
        values = list(part.get("enum", ())) + ([part["const"]] if "const" in part else [])
        if part.get("type") == "boolean":
            values = ["true", "false"]
        if part.get("type") == "null":
            values = ["null"]
        found |= dict.fromkeys(map(str, values))
    return list(found)


# Functions by option, or by name of an argument.
_SUGGEST: Mapping[str, Suggest] = {
    "run": _runs,
    "runs": _runs,
    "experiment": _experiments,
    "experiments": _experiments,
    "--resume": _runs,
    "--study": _studies,
    "--experiment": _experiment_names,
    "--project": _projects,
    "--set": _paths,
    "--search": _paths,
    "--data": _words(*DATA_SETS),
    "--device": _words("auto", "cpu", "cuda", "mps"),
    "--metric": _words(*searchable()),
    "--judge": _words("first", "second"),
    "--sampler": _words("tpe", "random", "qmc", "grid", "gp", "cmaes", "nsgaii"),
    "--method": _words("optuna", "pbt"),
    "--pruner": _words("halving", "none"),
}
