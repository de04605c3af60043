"""Tags of the process that writes a run, and whether that process has ended."""

import os
import socket
from collections.abc import Mapping

from harness import formatting
from harness.errors import HarnessError
from harness.experiment.tags import Tag


def this_process() -> dict[str, str]:
    """Return the tags of this process: host, pid, and start time in seconds since 1970."""
    import psutil

    process = psutil.Process()
    return {
        Tag.HOST: socket.gethostname(),
        Tag.PID: str(process.pid),
        Tag.PROCESS_START: repr(process.create_time()),
    }


def process_ended(tags: Mapping[str, str]) -> bool:
    """Whether the process in a run's tags has ended. False for a process of another host."""
    import psutil

    if tags.get(Tag.HOST) != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(tags[Tag.PID]))
        # A later process may have the same pid, but not the same start time. The tolerance is for corrections of the
        # clock, which shift the boot time.
        same = abs(process.create_time() - float(tags[Tag.PROCESS_START])) < 2
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except (KeyError, ValueError, psutil.AccessDenied):
        return False


def check_not_running(run_id: str, tags: Mapping[str, str], uri: str) -> None:
    """Check that no other process writes a run that is RUNNING in MLflow.

    Args:
        run_id: The run.
        tags: Its tags.
        uri: The store, for the command that the message proposes.

    Raises:
        HarnessError: The process in the tags is alive, or on another host, so that it cannot be checked.
    """
    host, pid = tags.get(Tag.HOST), tags.get(Tag.PID)
    if host and host != socket.gethostname():
        end = f'from mlflow import MlflowClient; MlflowClient().set_terminated("{run_id}", "KILLED")'
        raise HarnessError(
            f"the run {run_id} is RUNNING on the host {host} (process {pid}): resume it there or, if that process has "
            f"ended, end the run first: `{formatting.python_command(end, store=uri)}`"
        )
    if host and pid != str(os.getpid()) and not process_ended(tags):
        raise HarnessError(f"the run {run_id} is still being written by process {pid}: wait for it, or stop it")
