"""Track runs in MLflow through a local spool. MLflow is imported when a Store is opened."""

from typing import TYPE_CHECKING

from harness.tracking.git import source_diff
from harness.tracking.models import save_generator, save_sampler
from harness.tracking.run_duration import seconds_of
from harness.tracking.run_log import RunLog, ensure_final_status
from harness.tracking.store import Store
from harness.tracking.system_metrics import SystemMetrics

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = [
    "Run",
    "RunLog",
    "Store",
    "SystemMetrics",
    "ensure_final_status",
    "save_generator",
    "save_sampler",
    "seconds_of",
    "source_diff",
]
