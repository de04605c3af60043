"""Ports of the loopback device."""

from __future__ import annotations

import contextlib
import socket

from harness.errors import HarnessError


def free_port(wanted: int) -> int:
    """Return this port, or another one if it is in use. Raises HarnessError if none is free."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError):
            return _bind(port)
    raise HarnessError("no port of 127.0.0.1 is free")


def check_port(port: int) -> None:
    """Raise HarnessError for a port that is in use, or not permitted for this user."""
    try:
        _bind(port)
    except (OSError, OverflowError) as error:
        raise HarnessError(
            f"port {port} of 127.0.0.1 cannot be used ({getattr(error, 'strerror', None) or error}): give another with "
            "--port, or leave it out"
        ) from error


def _bind(port: int) -> int:
    with socket.socket() as probe:
        # Like servers do: the port of a server that has just ended counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return int(probe.getsockname()[1])
