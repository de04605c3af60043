"""The images, judge and custom code of a run, as tags of its MLflow run; and what has changed since it started.

`harness.data.SPLIT` holds the number of images, of classes, and the fingerprint of a split; `harness.judge` the name
and hash of the judge; `harness.code.ROLE` the file and hash of a custom class. A study stores the same in its storage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from harness.data import Images, Splits
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.custom import SourceCode, get_source_code, import_class
from harness.experiment.tags import Tag

_ROLES = {"generator.kind": "generator", "discriminator.kind": "discriminator", "quality.judge": "judge"}
_MAX_LENGTH = 4_000  # characters of `Tag.CHANGED`


def image_tags(splits: Splits) -> dict[str, str]:
    """Return the tags of all splits."""
    named = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {f"{Tag.DATA_}{name}": describe_images(images) for name, images in named.items() if images is not None}


def training_image_tags(images: Images) -> dict[str, str]:
    """Return the tags of the training split."""
    return {Tag.DATASET: f"{images.name} {images.fingerprint}", f"{Tag.DATA_}train": describe_images(images)}


def describe_images(images: Images) -> str:
    """Return the number of images, of classes, and the fingerprint, as text."""
    # Stored as a tag and compared with it later: the form must not change, not even for one class.
    classes = f"{images.classes} classes" if images.labels is not None else "no labels"
    return f"{len(images):,} images, {classes}, {images.fingerprint}"


def custom_sources(experiment: Experiment, fields: Collection[str] = tuple(_ROLES)) -> dict[str, SourceCode]:
    """Return the source code of custom classes, by the field that names each. Classes without a file are left out."""
    named = {field: name for field, name in experiment.custom_classes.items() if field in fields}
    found = {field: get_source_code(import_class(name, field)) for field, name in named.items()}
    return {field: source for field, source in found.items() if source is not None}


def code_tags(experiment: Experiment, fields: Collection[str] = tuple(_ROLES)) -> dict[str, str]:
    """Return the tags of custom classes: the file of each, and its hash. Modules that the file imports do not count."""
    return {code_tag(field): source.identity for field, source in custom_sources(experiment, fields).items()}


def code_tag(field: str) -> str:
    """Return the tag of the class that this field names."""
    return f"{Tag.CODE_}{_ROLES[field]}"


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the tags that both have with different values, as (before, now).

    Runs of older versions have the fingerprint of their training images only.
    """
    train = f"{Tag.DATA_}train"
    if train in now and train not in before and Tag.DATASET in before:
        before = {**before, train: before[Tag.DATASET].rpartition(" ")[2]}
        now = {**now, train: now[train].rpartition(" ")[2]}
    both = [key for key in now if key in before and key.startswith((Tag.DATA_, Tag.CODE_, Tag.JUDGE))]
    return {key: (before[key], now[key]) for key in both if before[key] != now[key]}


def format_differences(changed: Mapping[str, tuple[str, str]]) -> str:
    """Return the differences on one line."""
    parts = []
    for key, (before, now) in changed.items():
        what = key.removeprefix(Tag.DATA_).removeprefix("harness.")
        what = f"source of the {key.removeprefix(Tag.CODE_)}" if key.startswith(Tag.CODE_) else what
        parts.append(f"{what}: {before} -> {now}")
    return "; ".join(parts)


@dataclass(frozen=True)
class RecordedInputs:
    """The images, judge and code that a run or study started with, to compare with the present ones.

    Attributes:
        what: Its name in messages, such as `run one`.
        tags: Tags as from `image_tags`, `code_tags` and the judge.
        stored_sources: Loads the source code that is stored with it, by field.
        allow_changes: Continue although something has changed (--allow-changes).
    """

    what: str
    tags: Mapping[str, str]
    stored_sources: Callable[[], Mapping[str, SourceCode]] = dict
    allow_changes: bool = False

    def check_data(self, now: Mapping[str, str], message: Callable[[str], None]) -> None:
        """Compare images and judge. Raises HarnessError for a change that is not allowed."""
        if not (changed := differences(self.tags, now)):
            return
        images = any(key.startswith(Tag.DATA_) for key in changed)
        line = f"the {'images' if images else 'judge'} of {self.what} changed since ({format_differences(changed)})"
        if not self.allow_changes:
            restore = "restore the images" if images else "restore the judge"
            raise HarnessError(
                f"{line}, so its scores before and after cannot be compared: {restore}, start a new one under another "
                f"name, or continue with --allow-changes, which sets the tag {Tag.CHANGED}"
            )
        message(f"{line}: continued because of --allow-changes (tag {Tag.CHANGED})")

    def check_code(self, experiment: Experiment, message: Callable[[str], None]) -> None:
        """Compare the source code of custom classes. Raises HarnessError for a change that is not allowed."""
        if (line := self.code_line(experiment)) is None:
            return
        if not self.allow_changes:
            raise HarnessError(f"{line}; --allow-changes continues with the local source (tag {Tag.CHANGED})")
        message(f"{line}: continued with the local source because of --allow-changes (tag {Tag.CHANGED})")

    def code_line(self, experiment: Experiment, fields: Collection[str] = tuple(_ROLES)) -> str | None:
        """Return a line about source code that has changed; None if none has."""
        if not (changed := self._code_differences(experiment, fields)):
            return None
        offer = "; --stored-code uses the source stored with it" if self.stored_sources() else ""
        names = ", ".join(name for field, name in experiment.custom_classes.items() if code_tag(field) in changed)
        return f"the source of {names} differs from that of {self.what} ({format_differences(changed)}){offer}"

    def _code_differences(self, experiment: Experiment, fields: Collection[str]) -> dict[str, tuple[str, str]]:
        """Compare source code by field. Changed comments and layout do not count if the old source is stored.

        Older versions stored the source, and set no tag.
        """
        changed = {}
        for field, source in custom_sources(experiment, fields).items():
            before = self.tags.get(code_tag(field))
            if before == source.identity:
                continue
            stored = self.stored_sources().get(field)
            if stored is not None and stored.same_code(source):
                continue
            if before := before or (stored.identity if stored else None):
                changed[code_tag(field)] = (before, source.identity)
        return changed

    def changed_tags(
        self,
        experiment: Experiment,
        now: Mapping[str, str],
        when: str,
        fields: Collection[str] = tuple(_ROLES),
    ) -> dict[str, str]:
        """Return the tags that mark what has changed; empty if nothing has.

        Args:
            experiment: The experiment.
            now: The present tags of images and judge.
            when: The first epoch or trial after the change, in words.
            fields: The fields whose custom classes are compared.
        """
        data = {key: value for key, value in now.items() if not key.startswith(Tag.CODE_)}
        changed = {**differences(self.tags, data), **self._code_differences(experiment, fields)}
        if not changed:
            return {}
        line = f"{when}: {format_differences(changed)}"
        earlier = self.tags.get(Tag.CHANGED)
        return {
            **data,
            **code_tags(experiment, fields),
            Tag.CHANGED: (f"{earlier} | {line}" if earlier else line)[:_MAX_LENGTH],
        }
