"""Tags of the process that writes a run, and whether that process has ended."""

import os
import socket
from collections.abc import Mapping

from harness import formatting
from harness.errors import HarnessError
from harness.experiment.tags import Tag


def this_process() -> dict[str, str]:
    """Return the tags of this process: host, pid, start time in seconds since 1970, and its Slurm job, if any."""
    import psutil

    process = psutil.Process()
    job = this_job()
    return {
        Tag.HOST: socket.gethostname(),
        Tag.PID: str(process.pid),
        Tag.PROCESS_START: repr(process.create_time()),
        **({Tag.JOB: job} if job else {}),
    }


def this_job() -> str | None:
    """Return the Slurm job and task that this process is part of; None outside of Slurm.

    A job that is requeued keeps its id, also on another host. Slurm has ended its processes before it starts again.
    """
    job = os.environ.get("SLURM_JOB_ID")
    return f"slurm {job}.{os.environ.get('SLURM_PROCID', '0')}" if job else None


def process_ended(tags: Mapping[str, str]) -> bool:
    """Whether the process in a run's tags has ended.

    Of a process of another host this is known only if it belonged to the job that this process belongs to.
    """
    import psutil

    if tags.get(Tag.HOST) != socket.gethostname():
        job = this_job()
        return job is not None and tags.get(Tag.JOB) == job
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
    if host and host != socket.gethostname() and not process_ended(tags):
        end = f'from mlflow import MlflowClient; MlflowClient().set_terminated("{run_id}", "KILLED")'
        raise HarnessError(
            f"the run {run_id} is RUNNING on the host {host} (process {pid}): resume it there or, if that process has "
            f"ended, end the run first: `{formatting.python_command(end, store=uri)}`"
        )
    if host and pid != str(os.getpid()) and not process_ended(tags):
        raise HarnessError(f"the run {run_id} is still being written by process {pid}: wait for it, or stop it")
