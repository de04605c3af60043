"""Studies as Python objects: the best trial, all trials, and whether the best one was more than luck."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from harness import formatting
from harness.api import html
from harness.api.arguments import store_at
from harness.api.progress import Progress, close, closing, study_display
from harness.api.runs import Run
from harness.api.session import session
from harness.errors import HarnessError

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from harness.experiment import Experiment
    from harness.runs.display import Display
    from harness.tracking import Store
    from harness.tuning.confirm import Confirmed
    from harness.tuning.progress import StudyProgress, TrialSummary
    from harness.tuning.request import TuneRequest
    from harness.tuning.trials import Trials
    from harness.tuning.tune import Result


class Study:
    """A search: an Optuna study, and its run in MLflow. `harness.tune` and `harness.load_study` return one.

    In Jupyter it renders as its trials, the best first.

    result: how `harness.tune` ended, where this process has called it.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        storage: str | None = None,
        result: Result | None = None,
        request: TuneRequest | None = None,
        trusted: bool = False,
    ) -> None:
        self.store, self.name, self.storage, self.result = store, name, storage, result
        self._request, self._trusted = request, trusted
        self._found: Trials | None = None

    def __repr__(self) -> str:
        now = self._progress
        best = "" if now.best is None else f", best {now.metric} {now.best.score:.4f}"
        return f"Study({self.name!r}, {now.ended} of {now.asked} trials{best})"

    @property
    def run(self) -> Run:
        """The study's own run in MLflow, the parent of its trials."""
        parent = self._trials.parent
        if parent is None:
            raise HarnessError(f"study {self.name} has no run in {self.store.shown_uri} yet")
        return Run(self.store, parent, trusted=self._trusted)

    @property
    def metric(self) -> str:
        """What trials are compared by, on validation images."""
        return self._trials.settings.metric

    @property
    def optuna(self) -> optuna.Study:
        """The study as Optuna sees it, for `optuna.visualization` and the like. For reading only."""
        return self._trials.study

    @property
    def best(self) -> TrialSummary:
        """The best complete trial: `number`, `values` by dotted path, `score`, `seconds`, `run_id`.

        Raises HarnessError where no trial is complete yet.
        """
        found = self._progress.best
        if found is None:
            raise HarnessError(f"study {self.name} has no complete trial yet")
        return found

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
        return Run(self.store, run_id, trusted=self._trusted)

    @property
    def best_experiment(self) -> Experiment:
        """The experiment with the values of the best trial, and its own full budget: what best.yaml holds."""
        from harness.tuning.study_run import best_experiment
        from harness.tuning.trials import best

        found = best(self._trials.study)
        if found is None:
            raise HarnessError(f"study {self.name} has no complete trial yet")
        return best_experiment(self._trials.settings, found, self.name)

    def trials(self) -> pd.DataFrame:
        """The trials that have ended, by number: state, score, seconds, run id, and a column for each searched leaf."""
        import pandas as pd

        rows = [
            {
                "number": trial.number,
                "state": trial.state,
                self.metric: trial.score,
                "seconds": trial.seconds,
                "run_id": trial.run_id,
                **trial.values,
            }
            for trial in self._ended()
        ]
        searched = list(self._trials.settings.search.space)
        columns = ["number", "state", self.metric, "seconds", "run_id", *searched]
        return pd.DataFrame(rows, columns=columns).set_index("number")

    def confirm(
        self,
        seeds: int = 3,
        *,
        budget: Literal["full", "tuning"] = "full",
        progress: Progress = True,
    ) -> Confirmation:
        """Train the best values and the experiment's own under fresh seeds: is the best better, or was it lucky?

        budget: `full` is the experiment's, `tuning` that of the trials. What was trained before counts.
        Raises HarnessError where no trial is complete, or for fewer than 2 seeds.
        """
        from dataclasses import replace

        from harness.interrupts import Deadline

        if seeds < 2:
            raise HarnessError(f"seeds is {seeds}; expected 2 or more")
        display = study_display(progress)
        now = self._progress
        if now.own is not None and self.best.number == now.own.number:
            raise HarnessError("the experiment's own values are the best of the study: there is nothing to confirm")
        if self._request is not None:  # its time limit was that of the search
            self._request = replace(self._request, deadline=Deadline())
        with closing(display):
            confirmed = self.confirmed(seeds, budget, display)
        close(display)
        return Confirmation(confirmed)

    def confirmed(self, seeds: int, budget: Literal["full", "tuning"], display: Display) -> Confirmed:
        """What `confirm` is made of; stops where the time limit of `harness.tune` is reached."""
        from harness.tuning.confirm import confirm
        from harness.tuning.request import TuneRequest
        from harness.tuning.tune import Result

        with session(trusted=self._trusted):
            result = self.result
            if result is None:
                trials = self._trials
                if trials.parent is None:
                    raise HarnessError(f"study {self.name} has no run in {self.store.shown_uri} yet")
                result = Result(self.name, trials.parent, trials.settings, self._progress, None, None, [], None)
            request = self._request or TuneRequest(study=self.name, storage=self.storage)
            return confirm(result, seeds, budget, self.store, request, display)

    def resume(self, *, trials: int | None = None, progress: Progress = True) -> Study:
        """Search on, until the study has so many trials in total; None keeps to what it was asked for."""
        from harness.api.tuning import tune

        return tune(
            study=self.name,
            trials=trials,
            storage=self.storage,
            tracking_uri=self.store.uri,
            trust=self._trusted,
            progress=progress,
        )

    @property
    def _trials(self) -> Trials:
        if self._found is None:
            from harness.tuning import storage as storages
            from harness.tuning.trials import Trials

            opened = storages.open_existing(self.storage, self.store.root)
            folder = storages.lock_dir(self.storage, self.store.root)
            self._found = None if opened is None else Trials.find(opened, self.name, folder)
            if self._found is None:
                raise HarnessError(
                    f"there is no study {self.name!r}; `{formatting.harness_command('studies')}` lists them"
                )
        return self._found

    @property
    def _progress(self) -> StudyProgress:
        from harness.tuning.progress import study_progress

        return study_progress(self._trials, self._trials.total or 0)

    def _ended(self) -> list[TrialSummary]:
        from harness.tuning.progress import summarize_trial
        from harness.tuning.trials import is_counted

        return [
            summarize_trial(trial) for trial in self._trials.all() if trial.state.is_finished() and is_counted(trial)
        ]

    def _repr_html_(self) -> str:
        from harness.formatting import duration

        minimized = self._trials.settings.direction == "minimize"

        def rank(trial: TrialSummary) -> tuple[bool, float]:
            score = trial.score or 0.0
            return trial.score is None or trial.on_the_way, score if minimized else -score

        searched = list(self._trials.settings.search.space)
        lines = [
            [
                str(trial.number),
                trial.state,
                "" if trial.score is None else f"{trial.score:.4f}",
                *(_number(trial.values.get(path)) for path in searched),
                duration(trial.seconds),
            ]
            for trial in sorted(self._ended(), key=rank)
        ]
        now = self._progress
        title = f"study {self.name}: {now.ended} of {now.asked} trials, {now.pruned} pruned"
        header = ["trial", "state", self.metric, *searched, "time"]
        return f"<div><p>{html.text(title)}</p>{html.table(header, lines)}</div>"


class Confirmation:
    """Whether the best values of a study are better than the experiment's own; in Jupyter it renders as a table.

    gain: how much better the best values are, on average; positive is better. interval: of the gain, 95 % (Welch 1947).
    verdict: the same in words. scores: on the test split, of each seed, under `best` and `own`.
    """

    def __init__(self, confirmed: Confirmed) -> None:
        self.gain, self.interval, self.verdict = confirmed.gain, confirmed.interval, confirmed.verdict
        self.scores = {name: list(values) for name, values in confirmed.scores.items()}
        self._cells = confirmed.as_cells()

    def __repr__(self) -> str:
        return f"Confirmation({self.verdict!r})"

    def _repr_html_(self) -> str:
        header, *rows = self._cells
        return f"<div>{html.table(header, rows)}<p>{html.text(self.verdict)}</p></div>"


def load_study(name: str, *, storage: str | None = None, tracking_uri: str | None = None, trust: bool = False) -> Study:
    """Load a study by its name.

    storage: its Optuna database; else $HARNESS_STORAGE, else mlruns/optuna.journal. trust: see `load_run`.
    Raises HarnessError where there is none of that name.
    """
    with session(trusted=trust):
        store = store_at(tracking_uri)
        study = Study(store, name, storage=storage or os.environ.get(formatting.STORAGE) or None, trusted=trust)
        _ = study._trials  # it is there
        return study


def _number(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
