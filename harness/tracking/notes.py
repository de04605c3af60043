"""A run's description in MLflow: what a user has written, and below a mark what harness says of the run."""

from urllib.parse import quote

NOTE = "mlflow.note.content"
MARK = "<!-- harness -->"  # Markdown shows no comments
LONGEST = 8000  # letters that MLflow keeps of a tag


def written(note: str | None) -> str:
    """The part that a user has written; empty where there is none."""
    return (note or "").partition(MARK)[0].strip()


def generated(note: str | None) -> str:
    """The part that harness has written; empty where there is none."""
    return (note or "").partition(MARK)[2].strip()


def combined(note: str | None, text: str) -> str:
    """A description with `text` in place of what harness has written before. What a user has written stays first."""
    whole = "\n\n".join(part for part in (written(note), MARK, text) if part)
    return whole if len(whole) <= LONGEST else note or ""


def picture(run_id: str, path: str, alt: str) -> str:
    """Markdown that shows an artifact of a run. The address is relative: any server that has the store finds it."""
    return f"![{alt}](get-artifact?path={quote(path, safe='')}&run_uuid={run_id})"
