"""The git state of the code: commit, branch, remote, and changes since the commit."""

import os
import subprocess

from harness.errors import redact
from harness.experiment.tags import Tag

_DIFF_LIMIT = 1_000_000  # bytes


def git_tags() -> dict[str, str]:
    """Return commit, branch, remote and uncommitted changes of the working directory's repository as tags, if any."""
    dirty = _git("status", "--porcelain", "--untracked-files=normal")
    if dirty is None:
        return {}
    tags = {Tag.GIT_DIRTY: "true" if dirty else "false"}
    for tag, answer in {
        "mlflow.source.git.commit": _git("rev-parse", "--verify", "--quiet", "HEAD"),
        "mlflow.source.git.branch": _git("symbolic-ref", "--quiet", "--short", "HEAD"),
        "mlflow.source.git.repoURL": _git("config", "--get", "remote.origin.url"),
    }.items():
        if answer:
            tags[tag] = redact(answer.strip())
    return tags


def source_diff() -> str | None:
    """Return the names of untracked files and the difference from the last commit; None if there is none.

    The text is cut at 1 MB, and has no credentials of URIs.
    """
    top = _git("rev-parse", "--show-toplevel")
    if top is None:
        return None
    folder = top.strip()
    untracked = _git("ls-files", "--others", "--exclude-standard", folder=folder) or ""
    changes = _git("diff", "--no-color", "--no-ext-diff", "--no-textconv", "HEAD", folder=folder) or ""
    text = "".join(f"# untracked: {name}\n" for name in untracked.splitlines()) + changes
    if not text:
        return None
    if len(text) > _DIFF_LIMIT:
        text = text[:_DIFF_LIMIT] + "\n# cut here: the difference is longer than 1 MB\n"
    return redact(text)


def _git(*words: str, folder: str | None = None) -> str | None:
    """The output of git, at most about 1 MB; None if git is missing or fails."""
    # Without optional locks, this does not disturb a git command of the user.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        with subprocess.Popen(
            ["git", *words], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            text = process.stdout.read(_DIFF_LIMIT + 1)
            if len(text) > _DIFF_LIMIT:
                process.kill()
                return text.decode(errors="replace")
            return text.decode(errors="replace") if process.wait() == 0 else None
    except OSError:
        return None
