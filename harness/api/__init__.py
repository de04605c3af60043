"""The Python API: what the commands `run`, `tune` and `compare` do, as functions; their results render in Jupyter.

Importing it takes no time: PyTorch, MLflow and Optuna are imported by the functions.
"""

from harness.api.comparisons import Comparison, compare
from harness.api.runs import Run, load_run
from harness.api.samples import Samples
from harness.api.starting import resume, run
from harness.api.studies import Confirmation, Study, load_study
from harness.api.tuning import plan, tune

__all__ = [
    "Comparison",
    "Confirmation",
    "Run",
    "Samples",
    "Study",
    "compare",
    "load_run",
    "load_study",
    "plan",
    "resume",
    "run",
    "tune",
]
