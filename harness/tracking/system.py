"""MLflow's system metrics, read by MLflow's own monitors and logged through the spool.

MLflow's SystemMetricsMonitor.start would ask the server about the run at every sample, stop for good when it does not
answer, and wait for it at the end. So only its measuring is used.
"""

import threading
from typing import TYPE_CHECKING

from harness.errors import HarnessError

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    from harness.tracking.runlog import RunLog


class SystemMetrics:
    """Samples the machine every 10 s (MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL) from start to stop.

    What is sampled before the run has logged a metric of its own is logged, as its mean, with what comes after: the
    metric that a run logs first is what MLflow's comparison of runs shows.
    """

    def __init__(self, run: "RunLog") -> None:
        self._run = run
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="system-metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Log a last sample and end; waits for the store at no time. May be called twice, or without a start."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def __enter__(self) -> "SystemMetrics":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _watch(self) -> None:
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            monitor = SystemMetricsMonitor(self._run.run_id, tracking_uri=self._run.uri)
            step = self._first_step()
            over = False
            while not over:
                for _ in range(monitor.samples_before_logging):
                    monitor.collect_metrics()
                    if over := self._over.wait(monitor.sampling_interval):
                        break
                if over or self._run.measured:
                    self._log(monitor, step)
                    step += 1
        except Exception:
            # A counter that this machine does not have is no reason to disturb the run: it goes without them.
            return

    def _first_step(self) -> int:
        if not self._run.resumed:
            return 0
        try:
            return self._run.last_step("system/cpu_utilization_percentage") + 1
        except HarnessError:
            return 0

    def _log(self, monitor: "SystemMetricsMonitor", step: int) -> None:
        prefix = f"system/{monitor.node_id}/" if monitor.node_id else "system/"
        self._run.metrics(step, {prefix + key: value for key, value in monitor.aggregate_metrics().items()})
        for gauge in monitor.monitors:
            gauge.clear_metrics()
