"""Sample grids of trials in Optuna's artifact store, where optuna-dashboard shows them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from optuna.artifacts import FileSystemArtifactStore, get_all_artifact_meta, upload_artifact
from optuna.exceptions import OptunaError
from optuna.trial import Trial

from harness.errors import HarnessError
from harness.media import pictures


def artifact_folder(root: Path) -> Path:
    """Return the folder of the artifacts of all studies. root: folder of the MLflow store on this machine."""
    return root / "studies" / "artifacts"


def open_artifact_store(root: Path) -> FileSystemArtifactStore:
    """Return Optuna's artifact store. Its folder is created."""
    folder = artifact_folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def store_grid(trial: Trial, root: Path, name: str, grid: pictures.Picture) -> None:
    """Store a sample grid of a trial that has not ended, once: a grid of this name is not stored again.

    Args:
        trial: The trial.
        root: Folder of the MLflow store on this machine.
        name: Name of the file, with the suffix .png.
        grid: uint8 [H, W] or [H, W, 3].

    Raises:
        HarnessError: The disk or the storage fails.
    """
    try:
        metas = [meta for meta in get_all_artifact_meta(trial) if meta.filename == name]
        if any((artifact_folder(root) / meta.artifact_id).exists() for meta in metas):
            return
        with tempfile.TemporaryDirectory(prefix="harness-grid-") as scratch:
            file = Path(scratch) / name
            pictures.save_png(file, grid)
            upload_artifact(artifact_store=open_artifact_store(root), file_path=str(file), study_or_trial=trial)
    except (OSError, OptunaError) as error:
        raise HarnessError(f"cannot store the samples of trial {trial.number} for optuna-dashboard: {error}") from error
