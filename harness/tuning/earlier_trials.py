"""`tune --from STUDY`: finished trials of another study that a new study starts with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from harness.errors import HarnessError
from harness.experiment.dimensions import Value
from harness.experiment.tags import TrialAttribute
from harness.tuning.sampler import distributions
from harness.tuning.settings import Settings
from harness.tuning.trial_values import is_counted
from harness.tuning.trials import Trials

# What differs without changing what the value of a trial means.
_IRRELEVANT = ("search", "sampler", "pruner", "min_resource", "reduction_factor", "batch_runs", "planned", "race")


@dataclass(frozen=True)
class EarlierTrials:
    """Finished trials of another study.

    Attributes:
        study: Name of that study.
        taken: Those that fit into the new one.
        total: Number of those that have ended.
    """

    study: str
    taken: tuple[FrozenTrial, ...]
    total: int

    @property
    def text(self) -> str:
        """How many were taken, in words."""
        return f"{len(self.taken)} of {self.total} finished trials of study {self.study} are taken over"


def earlier_trials(source: Trials, settings: Settings) -> EarlierTrials:
    """Return the finished trials of a study that fit into a new one with these settings.

    A trial fits if the new study could have tried it: its values are in the new search space, and values that only one
    of the two studies searches are those of the other one's experiment.

    Raises:
        HarnessError: The trials of the two studies cannot be compared: another budget, metric or number of seeds.
    """
    _check_comparable(source, settings)
    finished = [
        trial for trial in source.all() if is_counted(trial) and trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
    ]
    space = distributions(settings.search)
    taken = []
    for trial in finished:
        values = _values(source.settings, settings, trial, space)
        if values is not None:
            is_baseline = values == settings.search.baseline(settings.base)
            taken.append(_copy(trial, values, space, source.name, is_baseline=is_baseline))
    return EarlierTrials(source.name, tuple(taken), len(finished))


def _check_comparable(source: Trials, settings: Settings) -> None:
    old = source.settings
    differences = old.differences(replace(settings, **{name: getattr(old, name) for name in _IRRELEVANT}))
    paths = {*old.search.space, *settings.search.space}
    differences = [text for text in differences if text.partition(" ")[0] not in paths]
    before, after = old.base.flatten(), settings.base.flatten()
    differences += [
        f"{path} of a trial {before.get(path)} -> {after.get(path)}"
        for path in {**old.search.budget, **settings.search.budget}
        if path not in paths and before.get(path) != after.get(path)
    ]
    if differences:
        raise HarnessError(
            f"--from {source.name}: its trials cannot be compared with those of the new study: "
            f"{'; '.join(dict.fromkeys(differences))}"
        )


def _values(
    old: Settings, new: Settings, trial: FrozenTrial, space: Mapping[str, BaseDistribution]
) -> dict[str, Value] | None:
    """The values of a trial in the new search space; None if it does not fit."""
    before, after = old.base.flatten(), new.base.flatten()
    if any(
        old.search.decode(path, value) != after.get(path) for path, value in trial.params.items() if path not in space
    ):
        return None
    found: dict[str, Value] = {}
    for path, distribution in space.items():
        if not new.search.is_active(path, found):
            continue
        value = trial.params.get(path, before.get(path))
        if value is None or not distribution._contains(distribution.to_internal_repr(value)):
            return None
        found[path] = value
    return found


def _copy(
    trial: FrozenTrial,
    values: Mapping[str, Value],
    space: Mapping[str, BaseDistribution],
    study: str,
    *,
    is_baseline: bool,
) -> FrozenTrial:
    attributes = {
        key: value
        for key, value in trial.user_attrs.items()
        if key not in (TrialAttribute.PROCESS, TrialAttribute.CUSTOM, TrialAttribute.RETRY_OF, TrialAttribute.AGAIN)
    }
    attributes[TrialAttribute.FROM] = f"{study}, trial {trial.number}"
    if is_baseline:
        attributes[TrialAttribute.CUSTOM] = True
    copied = create_trial(
        state=trial.state,
        values=trial.values,
        params=dict(values),
        distributions={path: space[path] for path in values},
        user_attrs=attributes,
        system_attrs={key: value for key, value in trial.system_attrs.items() if key.startswith("constraints")},
        intermediate_values=trial.intermediate_values,
    )
    copied.datetime_start, copied.datetime_complete = trial.datetime_start, trial.datetime_complete
    return copied
