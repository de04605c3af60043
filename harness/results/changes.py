"""What a run was trained on and with, as tags of its MLflow run, and what of it has changed since.

`harness.data.SPLIT` is the number of images, of classes, and the fingerprint of a split; `harness.judge` the judge's
name and hash; `harness.code.ROLE` file and hash of a custom class. A study has the same in its storage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from harness.data import Images, Splits
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.experiment.custom import SourceCode, get_source_code, import_class
from harness.experiment.tags import Tag

Tag.DATASET, JUDGE, CHANGED = Tag.DATASET, Tag.JUDGE, Tag.CHANGED
Tag.DATA_, Tag.CODE_ = Tag.DATA_, Tag.CODE_
_ROLES = {"generator.kind": "generator", "discriminator.kind": "discriminator", "quality.judge": "judge"}
_LONGEST = 4_000  # characters of `Tag.CHANGED`


def of_images(splits: Splits) -> dict[str, str]:
    """Return the tags of all splits."""
    named = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {f"{Tag.DATA_}{name}": describe(images) for name, images in named.items() if images is not None}


def of_training_images(images: Images) -> dict[str, str]:
    """Return the tags of the training split."""
    return {Tag.DATASET: f"{images.name} {images.fingerprint}", f"{Tag.DATA_}train": describe(images)}


def describe(images: Images) -> str:
    """Return the number of images, of classes, and the fingerprint, as text."""
    classes = f"{images.classes} classes" if images.labels is not None else "no labels"
    return f"{len(images):,} images, {classes}, {images.fingerprint}"


def sources(experiment: Experiment, leaves: Collection[str] = tuple(_ROLES)) -> dict[str, SourceCode]:
    """The sources of the classes of the user's own, by the leaf that names each; without those that have no file."""
    named = {leaf: name for leaf, name in experiment.custom_classes.items() if leaf in leaves}
    found = {leaf: get_source_code(import_class(name, leaf)) for leaf, name in named.items()}
    return {leaf: source for leaf, source in found.items() if source is not None}


def of_code(experiment: Experiment, leaves: Collection[str] = tuple(_ROLES)) -> dict[str, str]:
    """Return the tags of custom classes: the file of each, and its hash. What that file imports is left out."""
    return {key(leaf): source.identity for leaf, source in sources(experiment, leaves).items()}


def key(leaf: str) -> str:
    """Return the tag of the class that the field `leaf` names."""
    return f"{Tag.CODE_}{_ROLES[leaf]}"


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


def in_words(changed: Mapping[str, tuple[str, str]]) -> str:
    """Return the differences on one line."""
    parts = []
    for key, (before, now) in changed.items():
        what = key.removeprefix(Tag.DATA_).removeprefix("harness.")
        what = f"source of the {key.removeprefix(Tag.CODE_)}" if key.startswith(Tag.CODE_) else what
        parts.append(f"{what}: {before} -> {now}")
    return "; ".join(parts)


@dataclass(frozen=True)
class Recorded:
    """What a run or study was started with, to be compared with what is here now.

    Attributes:
        what: `run one`, for messages.
        tags: As from `of_images`, `of_code` and the judge.
        kept: Loads the source code that is stored with it, by field.
        allowed: The user knows of the changes and continues (--allow-changes).
    """

    what: str
    tags: Mapping[str, str]
    kept: Callable[[], Mapping[str, SourceCode]] = dict
    allowed: bool = False

    def check_data(self, now: Mapping[str, str], message: Callable[[str], None]) -> None:
        """Compare images and judge. Raises HarnessError for a change that is not allowed."""
        if not (changed := differences(self.tags, now)):
            return
        images = any(key.startswith(Tag.DATA_) for key in changed)
        line = f"the {'images' if images else 'judge'} of {self.what} changed since ({in_words(changed)})"
        if not self.allowed:
            restore = "restore the images" if images else "restore the judge"
            raise HarnessError(
                f"{line}, so its scores before and after would not compare: {restore}, start anew under another name, "
                f"or continue with --allow-changes, which marks that (tag {Tag.CHANGED})"
            )
        message(f"{line}: continued because of --allow-changes (tag {Tag.CHANGED})")

    def check_code(self, experiment: Experiment, message: Callable[[str], None]) -> None:
        """Compare the source code of custom classes. Raises HarnessError for a change that is not allowed."""
        if (line := self.code_line(experiment)) is None:
            return
        if not self.allowed:
            raise HarnessError(f"{line}; --allow-changes continues with the source found here (tag {Tag.CHANGED})")
        message(f"{line}: continued with the source found here because of --allow-changes (tag {Tag.CHANGED})")

    def code_line(self, experiment: Experiment, leaves: Collection[str] = tuple(_ROLES)) -> str | None:
        """Return a line about source code that has changed; None where none has."""
        if not (changed := self._code_differences(experiment, leaves)):
            return None
        offer = "; --stored-code uses the source that was kept with it" if self.kept() else ""
        names = ", ".join(name for leaf, name in experiment.custom_classes.items() if key(leaf) in changed)
        return f"the source of {names} differs from that of {self.what} ({in_words(changed)}){offer}"

    def _code_differences(self, experiment: Experiment, leaves: Collection[str]) -> dict[str, tuple[str, str]]:
        """Comments and layout do not count where the source is kept. Older versions kept it, and had no tag."""
        changed = {}
        for leaf, source in sources(experiment, leaves).items():
            before = self.tags.get(key(leaf))
            if before == source.identity:
                continue
            kept = self.kept().get(leaf)
            if kept is not None and kept.same_code(source):
                continue
            if before := before or (kept.identity if kept else None):
                changed[key(leaf)] = (before, source.identity)
        return changed

    def changed_tags(
        self,
        experiment: Experiment,
        now: Mapping[str, str],
        when: str,
        leaves: Collection[str] = tuple(_ROLES),
    ) -> dict[str, str]:
        """Return the tags that mark what has changed; empty where nothing has.

        Args:
            experiment: The experiment.
            now: The tags of images and judge.
            when: From which epoch or trial on.
            leaves: The fields whose classes count.
        """
        data = {key: value for key, value in now.items() if not key.startswith(Tag.CODE_)}
        changed = {**differences(self.tags, data), **self._code_differences(experiment, leaves)}
        if not changed:
            return {}
        line = f"{when}: {in_words(changed)}"
        earlier = self.tags.get(Tag.CHANGED)
        return {
            **data,
            **of_code(experiment, leaves),
            Tag.CHANGED: (f"{earlier} | {line}" if earlier else line)[:_LONGEST],
        }
