"""A run's description in MLflow: what a user has written, and below a mark what harness says of the run."""

from urllib.parse import quote

TAG = "mlflow.note.content"
MARK = "<!-- harness -->"  # Markdown shows no comments
MAX_LENGTH = 8000  # characters that MLflow keeps of a tag


def user_text(description: str | None) -> str:
    """Return the part that a user has written; empty where there is none."""
    return (description or "").partition(MARK)[0].strip()


def generated_text(description: str | None) -> str:
    """Return the part that harness has written; empty where there is none."""
    return (description or "").partition(MARK)[2].strip()


def combine(description: str | None, text: str) -> str:
    """Return a description with `text` as the part of harness. What a user has written stays first.

    A description that would exceed MAX_LENGTH is returned as it was.
    """
    whole = "\n\n".join(part for part in (user_text(description), MARK, text) if part)
    return whole if len(whole) <= MAX_LENGTH else description or ""


def picture(run_id: str, path: str, alt: str) -> str:
    """Return Markdown that shows the artifact `path` of a run. The address is relative: it works on any server."""
    return f"![{alt}](get-artifact?path={quote(path, safe='')}&run_uuid={run_id})"
