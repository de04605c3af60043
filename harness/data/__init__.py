"""Images on the device: what a data set is, and how an experiment's `data` section becomes tensors."""

from harness.data.base import Counts, Source, cache_folder
from harness.data.download import mirror
from harness.data.images import Images, Splits, class_balanced, load, load_split, source, use_images
from harness.data.progress import tenths
from harness.data.sources import DATASETS
from harness.data.stacked import digit_frequencies

__all__ = [
    "DATASETS",
    "Counts",
    "Images",
    "Source",
    "Splits",
    "cache_folder",
    "class_balanced",
    "digit_frequencies",
    "load",
    "load_split",
    "mirror",
    "source",
    "tenths",
    "use_images",
]
