"""A run's description in MLflow: the user's part, a mark, and harness's part."""

from urllib.parse import quote

TAG = "mlflow.note.content"
MARK = "<!-- harness -->"  # invisible in Markdown
MAX_LENGTH = 8000  # characters of a tag in MLflow


def user_text(description: str | None) -> str:
    """Return the user's part; empty if there is none."""
    return (description or "").partition(MARK)[0].strip()


def generated_text(description: str | None) -> str:
    """Return harness's part; empty if there is none."""
    return (description or "").partition(MARK)[2].strip()


def combine(description: str | None, text: str) -> str:
    """Return a description with `text` as harness's part, after the user's part.

    A description that would exceed MAX_LENGTH is returned unchanged.
    """
    whole = "\n\n".join(part for part in (user_text(description), MARK, text) if part)
    return whole if len(whole) <= MAX_LENGTH else description or ""


def picture(run_id: str, path: str, alt: str) -> str:
    """Return Markdown that shows the artifact `path` of a run. The address is relative: it works on any server."""
    return f"![{alt}](get-artifact?path={quote(path, safe='')}&run_uuid={run_id})"
