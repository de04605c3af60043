"""The search: an Optuna study around the same run, that can be left alone."""

from harness.study.confirming import Confirmed, confirm
from harness.study.tuning import Result, Standing, StudyDisplay, Tried, Wish, check, tune

__all__ = ["Confirmed", "Result", "Standing", "StudyDisplay", "Tried", "Wish", "check", "confirm", "tune"]
