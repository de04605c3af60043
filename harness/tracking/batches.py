"""How events of the spool are grouped into requests: what one `log_batch` call takes, and what it must not mix."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from harness.tracking.spool import Entry, Event

Value = TypeVar("Value", str, float)

VALUE_KINDS = ("metrics", "params", "tags")  # the events that go into log_batch calls, several to a call
# What one log_batch call takes (mlflow/utils/validation.py: 1,000 in all, of these 100 params and 100 tags, and 1 MB).
_LIMITS = {"metrics": 800, "params": 100, "tags": 100}
_BYTES = 800_000
_METRIC_BYTES = 100  # what the request adds to a metric's key and value: the names of its fields, step, time


def make_batches(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Group entries, in order: as many neighbouring metrics, params and tags as one call takes; the rest one by one.

    Of several uploads of the same file only the last is yielded: it carries the newest contents anyway.
    """
    newest = {_target(entry.event): entry.end for entry in entries if entry.event["kind"] == "artifact"}
    batch: list[Entry] = []
    load: dict[str, int] = {}
    params: dict[str, str] = {}
    for entry in entries:
        event, kind = entry.event, entry.event["kind"]
        if kind == "artifact" and newest[_target(event)] != entry.end:
            continue
        cost = _cost(event)
        full = any(load.get(what, 0) + amount > limit for what, amount, limit in cost)
        # A param given twice with two values must reach the store as two calls, so that it can refuse the second.
        clash = kind == "params" and any(params.get(key, value) != value for key, value in event["values"].items())
        if batch and (kind not in VALUE_KINDS or batch[-1].event["kind"] not in VALUE_KINDS or full or clash):
            yield batch
            batch, load, params = [], {}, {}
        batch.append(entry)
        for what, amount, _ in cost:
            load[what] = load.get(what, 0) + amount
        if kind == "params":
            params.update(event["values"])
    if batch:
        yield batch


def split_values(values: Mapping[str, Value], kind: str) -> Iterator[dict[str, Value]]:
    """Yield `values` in pieces of which each fits one log_batch call. kind: one of VALUE_KINDS."""
    piece: dict[str, Value] = {}
    size = 0
    for key, value in values.items():
        cost = len(json.dumps([key, value])) + _METRIC_BYTES
        if piece and (len(piece) == _LIMITS[kind] or size + cost > _BYTES):
            yield piece
            piece, size = {}, 0
        piece[key] = value
        size += cost
    if piece:
        yield piece


def split_event(event: Event) -> list[Event]:
    """Return an event of each value, so that one bad name does not cost the others; other events as they are."""
    if event["kind"] not in VALUE_KINDS:
        return [event]
    return [{**event, "values": {key: value}} for key, value in event["values"].items()]


def _cost(event: Event) -> list[tuple[str, int, int]]:
    """What an event adds to a call: (what, amount, limit of the call)."""
    if event["kind"] not in VALUE_KINDS:
        return []
    count = len(event["values"])
    size = len(json.dumps(event["values"])) + _METRIC_BYTES * count
    return [(event["kind"], count, _LIMITS[event["kind"]]), ("bytes", size, _BYTES)]


def _target(event: Event) -> tuple[str, str]:
    return event["folder"], Path(event["file"]).name
