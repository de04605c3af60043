"""MLflow's system metrics, measured by MLflow's monitors and logged through the spool.

MLflow's SystemMetricsMonitor.start would send a request for the run at every sample, stop when the server does not
answer, and wait for it at the end. So only its measurements are used.
"""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    from harness.tracking.run_log import RunLog


class SystemMetrics:
    """Logs the machine's load (CPU, memory, disk, network, GPUs) as `system/*` while the `with` block lasts.

    It samples every 10 s (MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL). Samples before the run's first metric are averaged
    with later ones and logged after it, because MLflow's comparison of runs shows the metric that was logged first.
    """

    def __init__(self, log: "RunLog") -> None:
        self._log = log
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="system-metrics", daemon=True)

    def start(self) -> None:
        """Start sampling in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Log a last sample and end within 2 s. May be called twice, or without a start."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)

    def __enter__(self) -> "SystemMetrics":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _work(self) -> None:
        try:
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            monitor = SystemMetricsMonitor(self._log.run_id, tracking_uri=self._log.uri)
            step = self._first_step()
            stopped = False
            while not stopped:
                for _ in range(monitor.samples_before_logging):
                    monitor.collect_metrics()
                    if stopped := self._stopped.wait(monitor.sampling_interval):
                        break
                if stopped or self._log.measured:
                    self._log_means(monitor, step)
                    step += 1
        except Exception:
            # A monitor that fails on this machine must not end the run, which continues without system metrics.
            return

    def _first_step(self) -> int:
        if not self._log.resumed:
            return 0
        return self._log.last_step("system/cpu_utilization_percentage") + 1

    def _log_means(self, monitor: "SystemMetricsMonitor", step: int) -> None:
        prefix = f"system/{monitor.node_id}/" if monitor.node_id else "system/"
        self._log.metrics(step, {prefix + key: value for key, value in monitor.aggregate_metrics().items()})
        for gauge in monitor.monitors:
            gauge.clear_metrics()
