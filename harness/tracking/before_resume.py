"""The state of a run before it is resumed, which is restored if the command fails before it trains an epoch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.experiment.tags import Tag

if TYPE_CHECKING:
    from mlflow.entities import Run

# Tags of how a run ended. They are deleted when the run is resumed.
END_TAGS = (Tag.ERROR, Tag.DIVERGED, Tag.PRUNED)


@dataclass(frozen=True)
class BeforeResume:
    """The earlier values of what resuming a run overwrites.

    Attributes:
        status: MLflow's status of the run; KILLED if its process ended and left it RUNNING.
        end_time: When it ended, in milliseconds since 1970.
        tags: Those of its tags that resuming changes or deletes.
        resume_tags: Tags of the resumed run, which are logged once it has trained an epoch.
    """

    status: str
    end_time: int | None
    tags: Mapping[str, str]
    resume_tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: "Run", owner_tags: Collection[str]) -> "BeforeResume":
        """Read from a run what resuming it overwrites: status, end, END_TAGS and the tags named in `owner_tags`."""
        status = "KILLED" if run.info.status == "RUNNING" else run.info.status
        tags = {key: value for key, value in run.data.tags.items() if key in END_TAGS or key in owner_tags}
        return cls(status, run.info.end_time, tags)

    def as_meta(self) -> dict[str, Any]:
        """Return the entry of the spool's meta.json that `recovery` uses after a kill, until the run changes."""
        return {"before": {"status": self.status, "end_time": self.end_time, "tags": dict(self.tags)}}
