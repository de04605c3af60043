"""Group events of the spool into requests, within the limits of `log_batch`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from harness.tracking.spool import Entry, Event

Value = TypeVar("Value", str, float)

VALUE_KINDS = ("metrics", "params", "tags")  # the events that go into log_batch calls, several to a call
# Limits of one log_batch call (mlflow/utils/validation.py: 1,000 in total, at most 100 params and 100 tags, and 1 MB).
_LIMITS = {"metrics": 800, "params": 100, "tags": 100}
_BYTES = 800_000
_METRIC_BYTES = 100  # of a request for a metric, besides key and value: field names, step, time


def make_batches(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Group entries, in order: neighbouring metrics, params and tags within the limits of a call; others one by one.

    Of several uploads of the same file only the last is yielded, because a file is read when it is shipped.
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
        # Two values of the same param go into two calls, so that the store can refuse the second.
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
    """Split `values` into pieces that fit into one log_batch call. kind: one of VALUE_KINDS."""
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
    """Split an event into one for each value, so that a bad name does not affect the others; keep other events."""
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
