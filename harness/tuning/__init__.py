"""The search: an Optuna study around the same run, that can be left alone."""

from harness.tuning.confirming import Confirmed, confirm
from harness.tuning.planning import plan
from harness.tuning.standing import Standing, StudyDisplay, Tried
from harness.tuning.tuning import Result, tune
from harness.tuning.wish import Wish, check

__all__ = ["Confirmed", "Result", "Standing", "StudyDisplay", "Tried", "Wish", "check", "confirm", "plan", "tune"]
