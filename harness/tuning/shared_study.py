"""An Optuna study that several processes share: its settings, its MLflow run, and what else is stored with it."""

from __future__ import annotations

import contextlib
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import optuna
from filelock import FileLock
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from harness.console import to_stderr
from harness.errors import HarnessError
from harness.experiment.tags import StudyAttribute, Tag
from harness.files import safe_file_name
from harness.tracking.process_tags import process_ended
from harness.tuning.goals import COSTS
from harness.tuning.journal import hold_lock
from harness.tuning.sampler import Sampler
from harness.tuning.settings import Settings
from harness.tuning.storage import storage_errors

CREATION_TIMEOUT = 3.0  # seconds that another process has to finish creating the study
COPYING_TIMEOUT = 60.0  # seconds more that it has to copy earlier trials
HEARTBEAT_TIMEOUT = 600.0  # seconds without a heartbeat after which a process of another host counts as dead


def study_folder(root: Path, name: str) -> Path:
    """Return the folder of a study's files. root: folder of the MLflow store on this machine."""
    return root / "studies" / safe_file_name(name)


class SharedStudy:
    """A study in Optuna's storage, with the settings that it was created with.

    Attributes:
        study: Optuna's study, for reading.
        writes_study_run: Whether this process writes the study's MLflow run.
    """

    def __init__(self, storage: BaseStorage, name: str, settings: Settings, folder: Path) -> None:
        """folder: folder of the lock file, shared by the processes of this host."""
        self.name, self.settings = name, settings
        self.writes_study_run = False
        self._storage = storage
        self.study = optuna.load_study(
            study_name=name, storage=storage, sampler=Sampler(settings), pruner=_pruner(settings)
        )
        # Serializes claims on this host; between hosts only the storage coordinates.
        self._lock = FileLock(folder / f"study-{safe_file_name(name)}.lock")

    @classmethod
    def create(
        cls,
        storage: BaseStorage,
        name: str,
        settings: Settings,
        folder: Path,
        identity: Mapping[str, str] | None = None,
        earlier: Sequence[FrozenTrial] = (),
    ) -> Self | None:
        """Create a study; None if another process has created it.

        Args:
            storage: Optuna's storage.
            name: Name of the study.
            settings: Its settings.
            folder: Folder of the lock file.
            identity: See `SharedStudy.identity`.
            earlier: Finished trials that it starts with.
        """
        with storage_errors():
            try:
                study = optuna.create_study(study_name=name, storage=storage, directions=settings.directions)
            except optuna.exceptions.DuplicatedStudyError:
                return None
            # The settings are stored last, so a study with settings is complete.
            study.set_user_attr(StudyAttribute.IDENTITY, dict(identity or {}))
            study.add_trials(earlier)
            study.set_user_attr(StudyAttribute.SETTINGS, settings.to_json())
            created = cls(storage, name, settings, folder)
            created.name_metric()
            return created

    @classmethod
    def find(cls, storage: BaseStorage, name: str, folder: Path) -> Self | None:
        """Return the study of that name, or None. Waits a few seconds for a study that is being created.

        Raises:
            HarnessError: The study was not created by harness.
        """
        with storage_errors():
            deadline = time.monotonic() + CREATION_TIMEOUT
            while True:
                try:
                    study = optuna.load_study(study_name=name, storage=storage)
                except KeyError:
                    return None
                if settings := study.user_attrs.get(StudyAttribute.SETTINGS):
                    return cls(storage, name, Settings.from_json(settings, name), folder)
                begun = StudyAttribute.IDENTITY in study.user_attrs  # earlier trials may be being copied
                if time.monotonic() > deadline + (COPYING_TIMEOUT if begun else 0):
                    break
                time.sleep(0.1)
            if begun or (not study.user_attrs and not study.get_trials(deepcopy=False)):
                # Its process died while creating it.
                optuna.delete_study(study_name=name, storage=storage)
                return None
        raise HarnessError(f"study {name} was not created by harness; choose another name with --study")

    # Attributes of the study ---------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str | None:
        """Id of the study's MLflow run."""
        run_id: str | None = self.study.user_attrs.get(StudyAttribute.PARENT)
        return run_id

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self.study.set_user_attr(StudyAttribute.PARENT, run_id)

    @property
    def total(self) -> int | None:
        """Number of trials that was last requested."""
        total: int | None = self.study.user_attrs.get(StudyAttribute.TOTAL)
        return total

    @total.setter
    def total(self, total: int) -> None:
        self.study.set_user_attr(StudyAttribute.TOTAL, total)

    @property
    def identity(self) -> dict[str, str]:
        """Tags of what trials are trained on and scored with (`harness.results.changes`); empty for an older study."""
        return dict(self.study.user_attrs.get(StudyAttribute.IDENTITY, {}))

    @identity.setter
    def identity(self, tags: Mapping[str, str]) -> None:
        self.study.set_user_attr(StudyAttribute.IDENTITY, dict(tags))

    @property
    def changed(self) -> str | None:
        """What of the identity has changed, and since which trial (`--allow-changes`); None if nothing has changed."""
        return self.identity.get(Tag.CHANGED)

    def name_metric(self) -> None:
        """Store the name of the metric, which optuna-dashboard and Optuna's plots show."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self.study.metric_names is None:
                names = [metric if metric in COSTS else f"validation/{metric}" for metric in self.settings.metrics]
                self.study.set_metric_names(names)

    def owner_alive(self, tags: Mapping[str, str]) -> bool:
        """Whether the process in these tags is alive and writes the study's MLflow run."""
        if tags.get(Tag.HOST) == socket.gethostname():
            return not process_ended(tags)
        return time.time() - float(self.study.user_attrs.get(StudyAttribute.KEPT, 0)) < HEARTBEAT_TIMEOUT

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of the study on this host while the block lasts."""
        message = f"another process holds the lock of study {self.name}: waiting for it"
        with hold_lock(self._lock, message, to_stderr):
            yield


def _pruner(settings: Settings) -> BasePruner:
    """The pruner between epochs. Between seeds: `Trials.should_give_up`."""
    first, factor = settings.min_resource, settings.reduction_factor
    match settings.pruner:
        case "halving":  # asynchronous successive halving (Li et al. 2020): at each rung, the best trials so far go on
            return SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)
        case "hyperband":  # several of these with different first epochs (Li et al. 2018)
            epochs = settings.base.train.epochs
            return HyperbandPruner(min_resource=first, max_resource=max(first, epochs), reduction_factor=factor)
        case "median":  # worse than the median of the earlier trials at the same epoch
            return MedianPruner(n_startup_trials=settings.startup, n_warmup_steps=first - 1)
    return NopPruner()
