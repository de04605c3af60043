"""Accounts without a name or a home folder, as containers have them."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from harness import environment
from harness.errors import HarnessError
from harness.tuning.storage import lock_dir

from .conftest import TINY

NOBODY = 4242  # a user id without an account


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without a home, user name and cache of its own, in an empty working directory."""
    names = ["HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "HARNESS_DATA", "XDG_CACHE_HOME"]
    for name in [*names, *environment.LIBRARY_CACHES]:
        monkeypatch.setenv(name, "")  # so that what is set in the test is undone
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


@pytest.fixture
def unknown(account: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The same for a user id that has no account."""

    def fail(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    account.setattr(pwd, "getpwuid", fail)
    return account


def test_an_unknown_user_has_a_name_and_a_cache(
    unknown: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert environment.user_name() == str(os.getuid())
    assert lock_dir("postgresql://host/studies", tmp_path).is_dir()
    environment.prepare_environment()
    assert os.environ["LOGNAME"] == str(os.getuid())
    assert Path.home() == tmp_path / "mlruns" / "cache"
    assert Path(os.environ["MPLCONFIGDIR"]) == tmp_path / "mlruns" / "cache" / "matplotlib"
    for _ in range(2):
        assert environment.cache_folder() == tmp_path / "mlruns" / "cache"
    (line,) = caplog.messages
    assert line.startswith(f"there is no home folder that can be used: data is cached in {tmp_path}/mlruns/cache")
    assert not list(tmp_path.iterdir())  # until something is written


def test_a_home_that_was_replaced_is_no_home_for_a_child_process(unknown: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.prepare_environment()
    (tmp_path / "mlruns" / "cache").mkdir(parents=True)
    assert environment.cache_folder() == tmp_path / "mlruns" / "cache"


def test_harness_data_is_enough(unknown: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unknown.setenv("HARNESS_DATA", str(tmp_path / "data"))
    environment.prepare_environment()
    assert Path.home() == environment.cache_folder() == tmp_path / "data"
    assert not caplog.messages
    unknown.delenv("HOME")
    unknown.setenv("HARNESS_DATA", "~/data")
    with pytest.raises(HarnessError, match="HARNESS_DATA is ~/data, but there is no home folder"):
        environment.cache_folder()


@pytest.mark.parametrize("home", ["/nonexistent", "relative", "file"])
def test_a_home_that_is_no_folder_is_replaced(home: str, account: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    account.setenv("HOME", str(tmp_path / "file") if home == "file" else home)
    environment.prepare_environment()
    assert environment.cache_folder() == tmp_path / "mlruns" / "cache"


def test_a_read_only_home_stays_and_caches_go_elsewhere(
    account: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    account.setenv("HOME", str(home))
    account.setattr(os, "access", lambda path, mode: not (mode & os.W_OK and Path(path) == home))
    environment.prepare_environment()
    assert Path.home() == home
    assert environment.cache_folder() == tmp_path / "mlruns" / "cache"
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "mlruns" / "cache" / "matplotlib")
    assert caplog.messages[0].startswith(f"the cache folder {home}/.cache/harness cannot be written to")


def test_a_usual_account_is_left_alone(
    account: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home").mkdir()
    account.setenv("HOME", str(tmp_path / "home"))
    account.setenv("LOGNAME", "mia")
    before = dict(os.environ)
    with caplog.at_level(logging.DEBUG):
        environment.prepare_environment()
        assert environment.cache_folder() == tmp_path / "home" / ".cache" / "harness"
    assert dict(os.environ) == before
    assert not caplog.messages


def test_a_run_of_a_user_id_without_an_account_beside_a_home_it_cannot_read(database: Path) -> None:
    """For real: in a process of that user, which only root can start."""
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    python = _python_for_others()
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others
        Path(folder).chmod(0o777)
        (Path(folder) / "tiny.yaml").write_text(TINY)
        (Path(folder) / "foreign").mkdir(mode=0o700)
        (Path(folder) / "mlruns").mkdir()
        shutil.copyfile(database, Path(folder) / "mlruns" / "mlflow.db")
        for path in (Path(folder) / "mlruns", Path(folder) / "mlruns" / "mlflow.db"):
            os.chown(path, NOBODY, NOBODY)
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "OMP_NUM_THREADS")}
        tree = Path(environment.__file__).parents[1]
        paths = [str(tree), sysconfig.get_path("purelib")]
        said = subprocess.run(
            [python, "-m", "harness", "run", "tiny.yaml", "--epochs", "1", "--no-system-metrics"],
            cwd=folder,
            env={**kept, "HOME": f"{folder}/foreign", "PYTHONPATH": os.pathsep.join(paths)},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
        )
        assert said.returncode == 0, said.stderr
        assert "FINISHED" in said.stdout
        assert said.stderr.count(f"data is cached in {folder}/mlruns/cache") == 1


def _python_for_others() -> str:
    """A Python of this version that every user can execute: the one that runs may be below root's home."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in filter(None, (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin"))):
        code = "import encodings, sqlite3"
        try:
            subprocess.run([python, "-c", code], user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return python
    pytest.skip("no Python here can be executed by other users")
