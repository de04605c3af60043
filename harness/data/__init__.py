"""Data sets, and how the `data` section of an experiment becomes tensors of images."""

from harness.data.download import mirror
from harness.data.images import Images, Splits, class_balanced, create_source, load, load_split, train_validation_split
from harness.data.progress import progress_messages
from harness.data.registry import DATASETS
from harness.data.source import Counts, DataSource, cache_folder
from harness.data.stacked_mnist import digit_frequencies

__all__ = [
    "DATASETS",
    "Counts",
    "DataSource",
    "Images",
    "Splits",
    "cache_folder",
    "class_balanced",
    "create_source",
    "digit_frequencies",
    "load",
    "load_split",
    "mirror",
    "progress_messages",
    "train_validation_split",
]
