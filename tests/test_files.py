"""File names that are made of what users call things, files that are written whole or not at all, SQLite URIs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy

from harness.errors import redact
from harness.files import (
    atomic_write,
    database_of,
    network_file_system,
    path_of,
    safe_file_name,
    sha256_of,
    sqlite_uri,
)

ODD = (
    "..", ".", "", "/", "a/b", "a_b", "a b", "/etc/passwd", "../../x", "con", "CON", "con.txt", "nul", ".hidden",
    "-rf", "x" * 300, "x" * 299, "best", "Best", "BEST", "ends.", "ends", "\N{FIRE}", "\N{FIRE}\N{FIRE}",
    "\udcff", "a\0b", "é", "e\u0301", "C:\\x", "a:b", safe_file_name("Best"), safe_file_name("a/b"),
)  # fmt: skip


@pytest.mark.parametrize("name", ["small", "default", "a_b", "run-2.1", "2024-11-26"])
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert safe_file_name(name) == name


@pytest.mark.parametrize("name", ODD)
def test_any_name_becomes_one_file_name(name: str, tmp_path: Path) -> None:
    made = safe_file_name(name)
    assert made == safe_file_name(name)
    assert (tmp_path / made).parent == tmp_path
    assert made not in {".", ".."}
    assert made[0] not in ".-"
    assert not made.endswith(".")
    assert made.split(".")[0].lower() not in {"con", "nul"}
    file = tmp_path / f"{made}.lock"
    file.touch()
    assert list(tmp_path.iterdir()) == [file]


def test_no_two_names_share_a_file() -> None:
    for one, other in itertools.combinations(ODD, 2):
        assert safe_file_name(one).casefold() != safe_file_name(other).casefold(), (one, other)


@pytest.mark.parametrize(
    ("name", "made"), [("a/b c", "a_b_c"), ("Best", "Best"), ("..", "_"), ("../x", "_x"), ("con", "_con")]
)
def test_without_a_hash_a_name_is_safe_all_the_same(name: str, made: str) -> None:
    assert safe_file_name(name, unique=False) == made


def test_an_atomic_write_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "facts.json"
    for text in ("old", "new"):
        with atomic_write(path, parents=True, durable=True) as fresh:
            fresh.write_text(text)
            assert path.exists() == (text == "new")
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_after_an_exception_the_old_file_stands(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as fresh, fresh.open("w", buffering=1) as file:
        file.writelines(["half of\n", "\udcff"])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_not_created_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "gone" / "facts.json") as fresh:
        fresh.write_text("new")
    assert list(tmp_path.iterdir()) == []


def test_the_sha256_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


NAMES = [
    "a%20b",
    "100%",
    "a%2520b",
    "what?",
    "h#1",
    "two words",
    "it's",
    'say "hi"',
    "a&token=b",
    "p+q",
    "größe",
    "日本",
    "me@host:5",
    "a;b",
    "$HOME",
    "back\\slash",
    "~",
    "-n",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_the_same_in_every_notation(name: str) -> None:
    path = Path("/data") / name / "mlflow.db"
    uri = sqlite_uri(path)
    assert database_of(uri) == path
    assert sqlalchemy.make_url(uri).database == str(path)
    assert redact(f"the store {uri} failed") == f"the store {uri} failed"
    assert path_of(path.as_uri()) == path


def test_a_plain_path_stays_readable() -> None:
    assert sqlite_uri(Path("/home/mia/größe/x.db")) == "sqlite:////home/mia/größe/x.db"


class Mount(NamedTuple):
    mountpoint: str
    fstype: str
    opts: str = "rw"


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ([Mount("/", "ext4")], None),
        ([Mount("/", "ext4"), Mount("/home", "nfs4")], "nfs4"),
        ([Mount("/home", "nfs4"), Mount("/", "ext4")], "nfs4"),
        ([Mount("/", "nfs"), Mount("/home", "xfs")], None),
        ([Mount("/", "ext4"), Mount("/home/mia", "fuse.sshfs")], "fuse.sshfs"),
        ([Mount("/", "ext4"), Mount("/home/mi", "lustre")], None),
        ([Mount("/home", "autofs"), Mount("/home", "nfs")], "nfs"),
        ([Mount("/home", "nfs"), Mount("/home", "tmpfs")], None),
        ([Mount("/home", "", "rw,remote")], "network"),
        ([], None),
    ],
)
def test_a_network_file_system_is_recognized(
    mounts: list[Mount], kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psutil.disk_partitions", lambda all: mounts)
    assert network_file_system(Path("/home/mia/new/mlruns/mlflow.db")) == kind


def test_this_machines_mounts_can_be_read(tmp_path: Path) -> None:
    assert network_file_system(Path("/proc/self/status")) is None
    assert network_file_system(tmp_path / "new") in (None, "nfs", "nfs4")
