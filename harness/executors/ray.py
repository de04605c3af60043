"""Workers as Ray actors, each with its share of a cluster's CPUs or GPUs.

An actor ends when the command ends, and with its node. What it was training can be resumed: `supervise` starts another
actor, on a node that is left; or the same command does, later.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, redact
from harness.executors.base import Job, Worker
from harness.interrupts import handle_signals

CONNECT_TIMEOUT = 20.0  # seconds
_INSTALL = "--executor ray needs Ray: pip install 'gan-harness[ray]'"


class RayWorker:
    """An actor."""

    def __init__(self, ray: Any, actor: Any, outcome: Any, index: int) -> None:
        self._ray, self._actor, self._outcome = ray, actor, outcome
        self.name = f"Ray actor {index}"
        self._result: tuple[int, str | None] | None = None  # exit code and error, once they are known
        self._failure: str | None = None

    def is_alive(self) -> bool:
        """Whether the job has not returned, and its actor lives or waits for resources."""
        if self._result is None and self._failure is None:
            ready, _ = self._ray.wait([self._outcome], timeout=0)
            if ready:
                try:
                    self._result = self._ray.get(self._outcome)
                except Exception as error:  # the actor or its node is lost, or the job has raised
                    self._failure = _one_line(error)
                self.kill()  # an actor holds its CPUs until then
        return self._result is None and self._failure is None

    def exit_code(self) -> int | None:
        """Return what the job has returned; None while the actor lives, and if it is lost."""
        return self._result[0] if self._result else None

    def failure(self) -> str | None:
        """Return what the job has raised, or how the actor was lost."""
        return self._failure or (self._result[1] if self._result else None)

    def stop(self) -> None:
        """Let the job see SIGTERM."""
        self._actor.stop.remote()

    def kill(self) -> None:
        """Kill the actor."""
        self._ray.kill(self._actor)

    @property
    def outcome(self) -> Any:
        """The reference of the result."""
        return self._outcome


class RayExecutor:
    """Starts actors on a Ray cluster."""

    name = "ray"

    def __init__(self, *, workers: int, folder: Path, options: Sequence[str], address: str | None) -> None:
        """Connect to a cluster.

        Args:
            workers: Number of actors that share its CPUs and GPUs.
            folder: Not used.
            options: Not used.
            address: HOST:PORT of the head node; None for RAY_ADDRESS, else a Ray of this machine is started.

        Raises:
            HarnessError: Ray is missing, or nothing answers at the address.
        """
        try:
            import ray
        except ImportError as error:
            raise HarnessError(_INSTALL) from error
        self._ray = ray
        self._connected_here = not ray.is_initialized()
        address = address or os.environ.get("RAY_ADDRESS") or None
        if self._connected_here:
            _connect(ray, address)
        resources = ray.cluster_resources()
        largest = max((int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["Alive"]), default=1)
        self._cpus = max(1, min(largest, int(resources.get("CPU", 1)) // workers))  # an actor is on one node
        gpus = resources.get("GPU", 0)
        self._gpus = min(1.0, gpus / workers) if gpus else 0.0

    def start(self, job: Job, indices: Sequence[int]) -> list[Worker]:
        """Start an actor for each index. One for which no node has room waits until there is."""
        secrets = dict(job.environment())  # not in runtime_env, which Ray's dashboard shows
        actor_class = self._ray.remote(
            num_cpus=self._cpus,
            num_gpus=self._gpus,
            max_restarts=0,
            max_concurrency=2,  # `stop` is called while `run` works
            runtime_env={
                "env_vars": {"OMP_NUM_THREADS": str(self._cpus), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
            },
        )(_Actor)
        workers: list[Worker] = []
        for index in indices:
            actor = actor_class.remote()
            workers.append(RayWorker(self._ray, actor, actor.run.remote(job, index, secrets), index))
        return workers

    def wait(self, workers: Sequence[Worker], timeout: float) -> None:
        """Wait for the first of these actors to end."""
        outcomes = [worker.outcome for worker in workers if isinstance(worker, RayWorker)]
        if outcomes:
            self._ray.wait(outcomes, num_returns=1, timeout=timeout)
        else:
            time.sleep(timeout)

    def close(self) -> None:
        """Disconnect, if this executor has connected."""
        if self._connected_here:
            self._ray.shutdown()


class _Actor:
    """Runs a job in a process of its own.

    Ray calls the methods of an actor in threads, where Python takes no signals, and jobs look for signals in the main
    thread. So the job runs in a child process, which `stop` can send SIGTERM to.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, job: Job, index: int, secrets: Mapping[str, str]) -> tuple[int, str | None]:
        """Return the exit code of the job, and its error."""
        reading, writing = os.pipe()
        command = [sys.executable, "-c", f"from harness.executors.ray import main; main({writing})"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(writing,), env={**os.environ, **secrets})
        self._process = process
        os.close(writing)
        assert process.stdin is not None
        pickle.dump((job, index), process.stdin)  # stays open: its end tells the child that the actor is gone
        process.stdin.flush()
        with os.fdopen(reading, encoding="utf-8") as pipe:
            error = pipe.read()
        return process.wait(), error or None

    def stop(self) -> None:
        """Send SIGTERM to the job."""
        if self._process is not None:
            self._process.terminate()


def main(report: int) -> None:
    """Run the job that the actor writes to the standard input of this process.

    Args:
        report: File descriptor that an error is written to.
    """
    with handle_signals(), os.fdopen(report, "w", encoding="utf-8") as pipe:
        job, index = pickle.load(sys.stdin.buffer)

        def end_with_actor() -> None:
            sys.stdin.buffer.read()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=end_with_actor, name="actor", daemon=True).start()
        try:
            code = int(job(index))
        except HarnessError as error:
            code = 2
            pipe.write(str(error))
        except KeyboardInterrupt:
            code = 130
        except Exception as error:
            code = 1
            pipe.write(_one_line(error))
    os._exit(code)  # the thread still reads


def _connect(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is not None and not address.startswith("ray://"):
        _check_answers(address)
    try:
        ray.init(address=address, logging_level="ERROR", log_to_driver=False)
    except Exception as error:
        where = address or "this machine"
        raise HarnessError(f"--address {where}: cannot connect to Ray: {_one_line(error)}") from error


def _check_answers(address: str) -> None:
    """Raise HarnessError if nothing listens at an address: Ray itself would try for minutes."""
    import socket

    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise HarnessError(f"--address {address}: expected HOST:PORT of a Ray head node, such as node1:6379")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()
    except OSError as error:
        raise HarnessError(
            f"--address {address}: no Ray head node answers there ({error.strerror or error}); start one with "
            "`ray start --head --port=6379`"
        ) from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return redact(f"{type(error).__name__}: {text}")[:300]
