"""Where runs are kept: MLflow behind a local spool. MLflow is imported when a Store is opened, not before."""

from typing import TYPE_CHECKING

from harness.tracking.durations import seconds_of
from harness.tracking.git import source_diff
from harness.tracking.models import save_generator, save_sampler
from harness.tracking.registry import Promoted
from harness.tracking.runlog import RunLog
from harness.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

__all__ = ["Promoted", "Run", "RunLog", "Store", "save_generator", "save_sampler", "seconds_of", "source_diff"]
