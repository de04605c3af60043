"""The Python API: what the commands do, as functions. Their results render in Jupyter.

Importing it takes no time: the functions import PyTorch, MLflow and Optuna when they are called.
"""

from harness.api.checks import check
from harness.api.comparisons import Comparison, compare
from harness.api.confirmation import Confirmation, NothingToConfirmError
from harness.api.deliver import push, sync
from harness.api.evaluation import evaluate
from harness.api.images import save_handwriting, save_history, save_samples, save_walks
from harness.api.listings import list_experiments, list_runs, list_studies, open_dashboard
from harness.api.models import promote
from harness.api.plans import RunPlan, plan_run, plan_study
from harness.api.runs import Run, load_run
from harness.api.samples import Samples
from harness.api.studies import Study, load_study
from harness.api.training import resume, run
from harness.api.tuning import tune
from harness.api.workers import serve_storage, work

__all__ = [
    "Comparison",
    "Confirmation",
    "NothingToConfirmError",
    "Run",
    "RunPlan",
    "Samples",
    "Study",
    "check",
    "compare",
    "evaluate",
    "list_experiments",
    "list_runs",
    "list_studies",
    "load_run",
    "load_study",
    "open_dashboard",
    "plan_run",
    "plan_study",
    "promote",
    "push",
    "resume",
    "run",
    "save_handwriting",
    "save_history",
    "save_samples",
    "save_walks",
    "serve_storage",
    "sync",
    "tune",
    "work",
]
