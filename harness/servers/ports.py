"""Ports of the loopback device."""

from __future__ import annotations

import contextlib
import socket

from harness.errors import HarnessError


def free_port(wanted: int) -> int:
    """Return this port, or a free one where it is taken. Raises HarnessError where none is free."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError):
            return _bind(port)
    raise HarnessError("no port of 127.0.0.1 is free")


def check_port(port: int) -> None:
    """Raise HarnessError for a port that something else listens on, or that this user may not use."""
    try:
        _bind(port)
    except (OSError, OverflowError) as error:
        raise HarnessError(
            f"port {port} of 127.0.0.1 cannot be used ({getattr(error, 'strerror', None) or error}): give another with "
            "--port, or leave it out"
        ) from error


def _bind(port: int) -> int:
    with socket.socket() as probe:
        # As servers do it: the port of one that has just ended is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])
