"""Studies as Python objects: the best trial, all trials, and the confirmation of the best values."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from harness import formatting
from harness.api.confirmation import Confirmation, NothingToConfirmError
from harness.api.context import api_context
from harness.api.options import check_range, deadline_after
from harness.api.progress import Progress, close, closing, run_display
from harness.api.runs import Run
from harness.api.stores import open_store, storage_to_use
from harness.errors import HarnessError
from harness.formatting import format_count
from harness.interrupts import Deadline

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from harness.experiment import Experiment
    from harness.tracking import Store
    from harness.tuning.progress import StudyProgress, TrialSummary
    from harness.tuning.request import TuneRequest
    from harness.tuning.trials import Trials
    from harness.tuning.tune import Result


class Study:
    """An Optuna study and its run in MLflow. In Jupyter it renders as a table of its trials, the best first.

    `harness.tune` and `harness.load_study` return one.

    Attributes:
        store: The MLflow store.
        name: The name of the study.
        storage: The address of the Optuna storage; None is mlruns/optuna.journal.
        result: How `harness.tune` ended, if this process called it; else None.

    Examples:
        >>> study = harness.load_study("default")
        >>> study.best_params
        >>> study.confirm(seeds=3).verdict
    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        storage: str | None = None,
        result: Result | None = None,
        request: TuneRequest | None = None,
        trust: bool = False,
    ) -> None:
        self.store, self.name, self.storage, self.result = store, name, storage, result
        self._request, self._trust = request, trust
        self._loaded: Trials | None = None

    def __repr__(self) -> str:
        now = self._progress
        best = "" if now.best is None else f", best {now.metric} {now.best.score:.4f}"
        return f"Study({self.name!r}, {now.ended} of {format_count(now.requested, 'trial')}{best})"

    @property
    def run(self) -> Run:
        """The run of the study in MLflow, the parent of its trials."""
        return Run(self.store, self._parent, trust=self._trust)

    @property
    def metric(self) -> str:
        """The score that trials are compared by, on validation images."""
        return self._trials.settings.metric

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics that the study optimises, `metric` first."""
        return self._trials.settings.metrics

    @property
    def front(self) -> list[TrialSummary]:
        """The trials on the Pareto front, by `metric`: no other trial beats them in all metrics. Empty with one."""
        from harness.tuning.progress import summarize_trial
        from harness.tuning.trial_values import pareto_front

        return [summarize_trial(trial) for trial in pareto_front(self._trials.study)]

    @property
    def optuna(self) -> optuna.Study:
        """The study as an Optuna object, for `optuna.visualization`. For reading only."""
        return self._trials.study

    @property
    def best(self) -> TrialSummary:
        """The best complete trial: `number`, `values` by dotted path, `score`, `seconds`, `run_id`.

        Raises:
            HarnessError: No trial is complete yet.
        """
        best = self._progress.best
        if best is None:
            raise HarnessError(f"study {self.name} has no complete trial yet")
        return best

    @property
    def verdict(self) -> str | None:
        """How good the best trial is, in one sentence; None if there is no other trial to compare it with.

        With several seeds for each trial, it says how sure it is that the best trial is the best.
        """
        from harness.tuning.trial_values import verdict_text

        return verdict_text(self._trials.study, self._trials.settings)

    @property
    def best_params(self) -> dict[str, Any]:
        """The values of the best trial by dotted path: `harness.run(..., set=study.best_params)`."""
        return dict(self.best.values)

    @property
    def best_run(self) -> Run:
        """The run of the best trial."""
        run_id = self.best.run_id
        if run_id is None:
            raise HarnessError(f"trial {self.best.number} of study {self.name} has no run")
        return Run(self.store, run_id, trust=self._trust)

    @property
    def best_experiment(self) -> Experiment:
        """The experiment with the values of the best trial and its full budget, as in best.yaml."""
        from harness.tuning.study_run import best_experiment
        from harness.tuning.trial_values import best_trial

        trial = best_trial(self._trials.study)
        if trial is None:
            raise HarnessError(f"study {self.name} has no complete trial yet")
        return best_experiment(self._trials.settings, trial, self.name)

    @property
    def deadline(self) -> Deadline:
        """The time limit of the `harness.tune` that returned this study."""
        return Deadline() if self._request is None else self._request.deadline

    def trials(self) -> pd.DataFrame:
        """Return a table of the trials that have ended.

        The index is the number; the columns are state, score, number of seeds, seconds, run id, and one for each
        searched value.
        """
        import pandas as pd

        rows = [
            {
                "number": trial.number,
                "state": trial.state,
                self.metric: trial.score,
                "seeds": trial.seeds,
                "seconds": trial.seconds,
                "run_id": trial.run_id,
                **trial.values,
                **{name: value for name, value in trial.measured.items() if name not in (self.metric, "seconds")},
            }
            for trial in self._ended()
        ]
        searched = list(self._trials.settings.search.space)
        others = [name for name in self._trials.settings.measured if name not in (self.metric, "seconds")]
        columns = ["number", "state", self.metric, *others, "seeds", "seconds", "run_id", *searched]
        return pd.DataFrame(rows, columns=columns).set_index("number")

    def confirm(
        self,
        seeds: int = 3,
        *,
        budget: Literal["full", "tuning"] = "full",
        max_time: str | Deadline | None = None,
        progress: Progress = True,
    ) -> Confirmation:
        """Train the best and the baseline values under new seeds, and compare their scores on the test split.

        Runs of an earlier call with the same arguments are used again.

        Args:
            seeds: Number of seeds, 2 or more.
            budget: Training length: that of the experiment (`full`) or of a trial (`tuning`).
            max_time: Stop before this time is over: "30m", "2h"; or `deadline`, to share the limit of `harness.tune`.
            progress: See `harness.run`.

        Raises:
            NothingToConfirmError: The baseline values are the best.
            HarnessError: No trial is complete yet, or `seeds` is less than 2.
        """
        check_range("seeds", seeds, 2)
        baseline = self._progress.baseline
        if baseline is not None and self.best.number == baseline.number:
            raise NothingToConfirmError(
                "the baseline values of the experiment are the best of the study: there is nothing to confirm"
            )
        deadline = deadline_after(max_time)
        display = run_display(progress)
        with api_context(trust=self._trust), closing(display):
            from harness.tuning.confirm import confirm
            from harness.tuning.request import TuneRequest
            from harness.tuning.tune import Result

            result = self.result or Result(
                self.name, self._parent, self._trials.settings, self._progress, None, None, [], None
            )
            request = replace(self._request or TuneRequest(study=self.name, storage=self.storage), deadline=deadline)
            confirmed = confirm(result, seeds, budget, self.store, request, display)
        close(display)
        return Confirmation(confirmed)

    def resume(self, *, trials: int | None = None, progress: Progress = True) -> Study:
        """Continue the search.

        Args:
            trials: Number of trials in total. None: the number that the study has already.
            progress: See `harness.run`.
        """
        from harness.api.tuning import tune

        return tune(
            study=self.name,
            trials=trials,
            storage=self.storage,
            tracking_uri=self.store.uri,
            trust=self._trust,
            progress=progress,
        )

    @property
    def _trials(self) -> Trials:
        if self._loaded is None:
            from harness.tuning.storage import lock_dir, open_existing
            from harness.tuning.trials import Trials

            storage = open_existing(self.storage, self.store.root)
            folder = lock_dir(self.storage, self.store.root)
            self._loaded = None if storage is None else Trials.find(storage, self.name, folder)
            if self._loaded is None:
                raise HarnessError(
                    f"there is no study {self.name!r}; `{formatting.harness_command('studies')}` lists them"
                )
        return self._loaded

    @property
    def _parent(self) -> str:
        """The id of the run of the study."""
        parent = self._trials.run_id
        if parent is None:
            raise HarnessError(f"study {self.name} has no run in {self.store.redacted_uri} yet")
        return parent

    @property
    def _progress(self) -> StudyProgress:
        from harness.tuning.progress import study_progress

        return study_progress(self._trials, self._trials.total or 0)

    def _ended(self) -> list[TrialSummary]:
        from harness.tuning.progress import summarize_trial
        from harness.tuning.trial_values import is_counted

        return [
            summarize_trial(trial) for trial in self._trials.all() if trial.state.is_finished() and is_counted(trial)
        ]

    def _repr_html_(self) -> str:
        from harness.api.study_table import study_html

        settings = self._trials.settings
        return study_html(self._progress, self._ended(), [*settings.search.space], settings.direction, name=self.name)


def load_study(name: str, *, storage: str | None = None, tracking_uri: str | None = None, trust: bool = False) -> Study:
    """Load a study by its name.

    Args:
        name: Name of the study.
        storage: Optuna storage. None: $HARNESS_STORAGE, else mlruns/optuna.journal.
        tracking_uri: See `harness.run`.
        trust: See `harness.run`.

    Raises:
        HarnessError: There is no study of this name.
    """
    with api_context(trust=trust):
        store = open_store(tracking_uri)
        study = Study(store, name, storage=storage_to_use(storage), trust=trust)
        _ = study._trials  # raises if it does not exist
        return study
