"""Where a command's workers run: as processes of this machine, as Slurm jobs, or as Ray actors.

    open_executor("slurm", ...) -> Executor
    supervise(executor, job, count, ...)          start, watch, replace, stop
        Executor.start(job, [0, 1]) -> [Worker, Worker]
            job(0), job(1)                        somewhere else

An executor knows nothing of runs and studies. It calls a job, which is pickled, with the index of the worker. What the
workers share, they share through a tracking store and an Optuna storage.
"""

from harness.executors.base import Executor, Job, Worker, WorkerOptions
from harness.executors.registry import EXECUTORS, check_executor, open_executor
from harness.executors.supervise import supervise

__all__ = ["EXECUTORS", "Executor", "Job", "Worker", "WorkerOptions", "check_executor", "open_executor", "supervise"]
