"""Which process a run belongs to, and whether that process is still there."""

import socket
from collections.abc import Mapping


def this_process() -> dict[str, str]:
    """The liveness tags of this process: host, pid, and start time in seconds since 1970."""
    import psutil

    process = psutil.Process()
    return {
        "harness.host": socket.gethostname(),
        "harness.pid": str(process.pid),
        "harness.process_start": repr(process.create_time()),
    }


def gone(tags: Mapping[str, str]) -> bool:
    """Whether the process named by a run's liveness tags has ended; never true of another host's process."""
    import psutil

    if tags.get("harness.host") != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(tags["harness.pid"]))
        # The start time tells a process from a later one with the same pid. It is reckoned from the boot time, which
        # clock corrections move a little: hence the tolerance.
        same = abs(process.create_time() - float(tags["harness.process_start"])) < 2
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (KeyError, ValueError, psutil.AccessDenied):
        return False
