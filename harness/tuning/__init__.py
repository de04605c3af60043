"""The search: an Optuna study around the same run, that can be left alone."""

from harness.tuning.confirm import Confirmed, confirm
from harness.tuning.plan import plan
from harness.tuning.progress import Standing, StudyDisplay, Tried
from harness.tuning.request import Wish, check
from harness.tuning.tune import Result, tune

__all__ = ["Confirmed", "Result", "Standing", "StudyDisplay", "Tried", "Wish", "check", "confirm", "plan", "tune"]
