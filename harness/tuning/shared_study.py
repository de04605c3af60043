"""An Optuna study that several processes share: its settings, its MLflow run, and what else is stored with it."""

from __future__ import annotations

import contextlib
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import optuna
from filelock import FileLock
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage

from harness.console import to_stderr
from harness.errors import HarnessError
from harness.experiment.tags import StudyAttribute, Tag
from harness.files import safe_file_name
from harness.tracking.process_tags import gone
from harness.tuning.journal import waiting_for
from harness.tuning.sampler import Sampler
from harness.tuning.settings import Settings
from harness.tuning.storage import storage_errors

CREATION = 3.0  # seconds that another process is given to create the study
SILENCE = 600.0  # seconds without a sign of life after which another host's process is taken for dead


class SharedStudy:
    """A study in Optuna's storage, with the settings that it was created with.

    Attributes:
        study: Optuna's own view of it, for reading.
        keeping: whether this process writes the study's MLflow run.
    """

    def __init__(self, storage: BaseStorage, name: str, settings: Settings, folder: Path) -> None:
        """folder: where processes of this host that share the storage find each other."""
        self.name, self.settings = name, settings
        self.keeping = False
        self._storage = storage
        self.study = optuna.load_study(
            study_name=name, storage=storage, sampler=Sampler(settings), pruner=_pruner(settings)
        )
        # Decisions about who does what are made one after the other; between hosts the storage alone decides.
        self._lock = FileLock(folder / f"study-{safe_file_name(name)}.lock")

    @classmethod
    def create(
        cls,
        storage: BaseStorage,
        name: str,
        settings: Settings,
        folder: Path,
        identity: Mapping[str, str] | None = None,
    ) -> Self | None:
        """A new study; None where another process was quicker. identity: see `SharedStudy.identity`."""
        with storage_errors():
            try:
                study = optuna.create_study(study_name=name, storage=storage, direction=settings.direction)
            except optuna.exceptions.DuplicatedStudyError:
                return None
            # The settings come last: a study with settings is complete.
            study.set_user_attr(StudyAttribute.IDENTITY, dict(identity or {}))
            study.set_user_attr(StudyAttribute.SETTINGS, settings.to_json())
            created = cls(storage, name, settings, folder)
            created.name_metric()
            return created

    @classmethod
    def find(cls, storage: BaseStorage, name: str, folder: Path) -> Self | None:
        """The study of that name, or None. One that is just being created is waited for, a few seconds.

        Raises HarnessError for a study that harness has not made.
        """
        with storage_errors():
            deadline = time.monotonic() + CREATION
            while True:
                try:
                    study = optuna.load_study(study_name=name, storage=storage)
                except KeyError:
                    return None
                if settings := study.user_attrs.get(StudyAttribute.SETTINGS):
                    return cls(storage, name, Settings.from_json(settings, name), folder)
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)
            if not study.user_attrs and not study.get_trials(deepcopy=False):  # whoever began to make it died at once
                optuna.delete_study(study_name=name, storage=storage)
                return None
        raise HarnessError(f"study {name} was not made by harness; choose another name with --study")

    # The run above the trials ------------------------------------------------------------------------------------

    @property
    def parent(self) -> str | None:
        """The id of the study's MLflow run."""
        run_id: str | None = self.study.user_attrs.get(StudyAttribute.PARENT)
        return run_id

    @parent.setter
    def parent(self, run_id: str) -> None:
        self.study.set_user_attr(StudyAttribute.PARENT, run_id)

    @property
    def total(self) -> int | None:
        """How many trials the study was last asked for."""
        total: int | None = self.study.user_attrs.get(StudyAttribute.TOTAL)
        return total

    @total.setter
    def total(self, total: int) -> None:
        self.study.set_user_attr(StudyAttribute.TOTAL, total)

    @property
    def identity(self) -> dict[str, str]:
        """What its trials are trained on and scored with (`harness.results.changes`); empty for an older study."""
        return dict(self.study.user_attrs.get(StudyAttribute.IDENTITY, {}))

    @identity.setter
    def identity(self, tags: Mapping[str, str]) -> None:
        self.study.set_user_attr(StudyAttribute.IDENTITY, dict(tags))

    @property
    def changed(self) -> str | None:
        """What of that has changed in mid-study, and since which trial, as the user allowed; None where nothing has."""
        return self.identity.get(Tag.CHANGED)

    def name_metric(self) -> None:
        """Tell Optuna what the values of trials are: optuna-dashboard and Optuna's plots show that name."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self.study.metric_names is None:
                self.study.set_metric_names([f"validation/{self.settings.metric}"])

    def kept(self, tags: Mapping[str, str]) -> bool:
        """Whether the process that has these liveness tags still keeps the study's run."""
        if tags.get(Tag.HOST) == socket.gethostname():
            return not gone(tags)
        return time.time() - float(self.study.user_attrs.get(StudyAttribute.KEPT, 0)) < SILENCE

    @contextlib.contextmanager
    def deciding(self) -> Iterator[None]:
        """While one process of this host decides, the others wait."""
        message = f"another process is deciding about study {self.name}: waiting for it"
        with waiting_for(self._lock, message, to_stderr):
            yield


def _pruner(settings: Settings) -> BasePruner:
    """Asynchronous successive halving (Li et al. 2020): at each rung the best of those that came so far go on."""
    if settings.pruner == "none":
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=settings.min_resource, reduction_factor=settings.reduction_factor)
