"""Servers as a team runs them: MLflow on PostgreSQL with logins and artifacts of its own, and studies beside it."""

from __future__ import annotations

import base64
import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.experiment.tags import Kind, Tag
from harness.tracking import Store

from ..commands import Harness, Server, spawn, wait_for
from ..faults_lib.snapshot import differences, snapshot
from ..tuning import postgresql
from ..tuning.common import QUIET, SMALL
from .test_copy_runs import everything

pytestmark = pytest.mark.slow

ADMIN_PASSWORD, PASSWORD, DATABASE_PASSWORD = "admin-pw-3f9a1c", "mias-pw-77c1e2", "database-pw-51b0d4"
SECRETS = (ADMIN_PASSWORD, PASSWORD, DATABASE_PASSWORD)
LONG = ("--epochs", "9", "--set", "data.subset=600")


class TeamServer(Server):
    """`mlflow server` with logins. Runs are in one database of a PostgreSQL server, users in another."""

    def __init__(self, folder: Path, runs: str, users: str) -> None:
        super().__init__(folder)
        self.runs = runs
        settings = f"default_permission = EDIT\ndatabase_uri = {users}\nadmin_username = admin\n"
        settings += "auth_cache_ttl_seconds = 60\n"  # else each request computes the hash of the password, for 0.3 s
        function = "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        (folder / "auth.ini").write_text(f"[mlflow]\n{settings}{function}")

    def options(self) -> list[str]:
        return ["--backend-store-uri", self.runs, "--serve-artifacts", "--app-name", "basic-auth"]

    def environment(self) -> dict[str, str]:
        return {
            **super().environment(),
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "auth.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "not a secret",
        }

    def add_user(self, name: str, password: str) -> None:
        request = urllib.request.Request(
            f"{self.uri}/api/2.0/mlflow/users/create",
            json.dumps({"username": name, "password": password}).encode(),
            {
                "Content-Type": "application/json",
                "Authorization": "Basic " + base64.b64encode(f"admin:{ADMIN_PASSWORD}".encode()).decode(),
            },
        )
        urllib.request.urlopen(request, timeout=30).close()


@pytest.fixture(scope="module")
def team(
    postgresql_server: postgresql.PostgreSQL, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TeamServer, str]]:
    """The tracking server, and the URL of an empty database for studies whose user has to give a password."""
    with (
        postgresql_server.database("template0") as runs,
        postgresql_server.database("template0") as users,
        postgresql_server.database("template0") as studies,
    ):
        postgresql_server.set_password(DATABASE_PASSWORD)
        server = TeamServer(tmp_path_factory.mktemp("team") / "server", runs, users)
        server.start()
        try:
            server.add_user("mia", PASSWORD)
            yield server, studies.replace("mia@", f"{postgresql.WITH_PASSWORD}:{DATABASE_PASSWORD}@")
        finally:
            server.kill()


@pytest.fixture
def login(team: tuple[TeamServer, str], harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Harness:
    server, studies = team
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "mia")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("HARNESS_STORAGE", studies)
    return harness


def store_of(server: Server) -> Store:
    return Store.open(server.uri, root=Path("mlruns").absolute())


def another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go on in a folder that has nothing of the first one but the experiment files."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("tiny.yaml", "small.yaml"):
        if Path(name).exists():
            shutil.copy(name, elsewhere)
    monkeypatch.chdir(elsewhere)


def assert_no_secret(store: Store, *outputs: str | int) -> None:
    """No password is in what was printed, in what lies in the working directory, or in what the server has."""
    left = [path.read_bytes() for path in Path().rglob("*") if path.is_file()]
    tracked = json.dumps(everything(store), default=str)
    for secret in SECRETS:
        assert secret not in "".join(map(str, outputs))
        assert secret not in tracked
        assert not any(secret.encode() in content for content in left)


def test_any_host_resumes_a_run(
    login: Harness, team: tuple[TeamServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_models: None
) -> None:
    store = store_of(team[0])
    whole = login("run", "tiny.yaml", "--name", "whole", *LONG, "--no-system-metrics")
    assert whole.code == 0, whole.err
    killed = spawn("run", "tiny.yaml", "--name", "night", *LONG, "--no-system-metrics", "--resume", "auto")
    said = wait_for(killed, "epoch 3/9")
    killed.kill()
    said += killed.communicate()[0]
    first = Path.cwd()
    another_host(tmp_path, monkeypatch)
    shutil.rmtree(first / "mlruns")
    resumed = login("run", "tiny.yaml", "--name", "night", *LONG, "--no-system-metrics", "--resume", "auto")
    assert resumed.code == 0, resumed.err
    runs = {str(run.info.run_name): run for run in store.runs(limit=None)}
    before, after = (snapshot(store.client, runs[name].info.run_id) for name in ("whole", "night"))
    assert after["tags"].pop(Tag.EPOCH) == before["tags"].pop(Tag.EPOCH) == "9"
    assert differences(after, before) == []
    assert_no_secret(store, said, *whole, *resumed)


def test_a_study_is_shared(
    login: Harness, team: tuple[TeamServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("small.yaml").write_text(SMALL)
    first = spawn("tune", "small.yaml", *QUIET, "--trials", "6", "--pruner", "none")
    said = wait_for(first, "trial ")
    another_host(tmp_path, monkeypatch)
    worker = login("worker", "--study", "small")
    said += first.communicate(timeout=300)[0]
    assert (worker.code, first.returncode) == (0, 0), (worker, said)
    store = store_of(team[0])
    (study,) = store.tagged({Tag.STUDY: "small", Tag.KIND: Kind.STUDY})
    trials = store.children(study.info.run_id)
    assert sorted(str(run.info.run_name) for run in trials) == [f"small-{number}" for number in range(6)]
    assert {run.info.status for run in (study, *trials)} == {"FINISHED"}
    assert_no_secret(store, said, *worker)


def test_push_and_sync_to_a_server_with_logins(login: Harness, team: tuple[TeamServer, str]) -> None:
    assert login("run", "tiny.yaml", "--name", "offline", "--offline", "--no-system-metrics").code == 0
    synced = login("sync")
    assert (synced.code, synced.err) == (0, "")
    store = store_of(team[0])
    local = Store.open("sqlite:///mlruns/offline/mlflow.db", root=Path("mlruns/offline").absolute())
    (identity, run) = next(iter(everything(local).items()))
    assert everything(store)[identity] == run
    assert "nothing new" in login("sync").out
    assert "nothing new" in login("push", "offline", "--tracking-uri", local.uri, "--to", team[0].uri).out
    assert_no_secret(store, *synced)


@pytest.mark.parametrize(
    ("variable", "value", "arguments", "expected"),
    [
        ("MLFLOW_TRACKING_PASSWORD", "wrong-pw", ("run", "tiny.yaml"), "wants a login (HTTP 401)"),
        ("MLFLOW_TRACKING_PASSWORD", "", ("runs",), "wants a login (HTTP 401)"),
        (
            "HARNESS_STORAGE",
            "team:wrong-pw@",
            ("tune", "small.yaml", "--trials", "1"),
            "password authentication failed",
        ),
        ("HARNESS_STORAGE", "team:wrong-pw@", ("worker", "--study", "small"), "password authentication failed"),
    ],
)
def test_a_wrong_password_is_one_line_without_it(
    login: Harness,
    team: tuple[TeamServer, str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    arguments: tuple[str, ...],
    expected: str,
) -> None:
    Path("small.yaml").write_text(SMALL)
    if value.endswith("@"):
        value = team[1].replace(f"team:{DATABASE_PASSWORD}@", value)
    monkeypatch.setenv(variable, value)
    said = login(*arguments)
    assert said.code == 2
    assert expected in said.err
    assert "wrong-pw" not in said.err
    assert "\n" not in said.err.strip().replace("loading PyTorch and MLflow ...\n", "")


def test_a_worker_of_another_version_is_refused(
    login: Harness, team: tuple[TeamServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("small.yaml").write_text(SMALL.replace("name: small", "name: older"))
    assert login("tune", "small.yaml", *QUIET, "--trials", "1").code == 0
    monkeypatch.setattr("harness.api.workers.__version__", "99.0")
    said = login("worker", "--study", "older")
    assert said.code == 2
    assert "was started by harness" in said.err
    assert "--allow-changes" in said.err
    assert "no trial is left to train" in login("worker", "--study", "older", "--allow-changes").out
