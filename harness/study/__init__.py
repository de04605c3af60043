"""The search: an Optuna study around the same run, that can be left alone."""

from harness.study.confirming import Confirmed, confirm
from harness.study.planning import plan
from harness.study.standing import Standing, StudyDisplay, Tried
from harness.study.tuning import Result, tune
from harness.study.wish import Wish, check

__all__ = ["Confirmed", "Result", "Standing", "StudyDisplay", "Tried", "Wish", "check", "confirm", "plan", "tune"]
