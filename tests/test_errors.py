"""Errors are one line, and no password survives in them."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://mia:secret@host:5000/path", "http://***@host:5000/path"),
        ("at postgresql://mia:s3cr%40t@db/x?sslmode=require now", "at postgresql://***@db/x?sslmode=require now"),
        ("postgresql://db/x?user=mia&password=secret", "postgresql://db/x?user=mia&password=***"),
        ("postgresql://anna:hun/ter2@host/db", "postgresql://***@host/db"),
        ("cannot reach 'mysql://anna:h#n?ter2@host/db'.", "cannot reach 'mysql://***@host/db'."),
        ("redis://:hun/ter2@host", "redis://***@host"),
        ("http://host:5000/path or mia@example.org", "http://host:5000/path or mia@example.org"),
        ("https://token@github.com/a/b.git", "https://***@github.com/a/b.git"),
        ("sqlite:////home/mia/mlruns/mlflow.db", "sqlite:////home/mia/mlruns/mlflow.db"),
        ("mail mia@example.org about http://host/", "mail mia@example.org about http://host/"),
    ],
)
def test_credentials_are_taken_out_and_nothing_else(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_an_error_is_one_line_without_credentials() -> None:
    assert str(HarnessError("cannot reach\n  http://a:b@c/\n")) == "cannot reach http://***@c/"
