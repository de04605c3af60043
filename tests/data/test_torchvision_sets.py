"""torchvision's data sets, from tiny files in their own formats on a host on loopback to tensors."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision import datasets

from harness import data
from harness.data.torchvision_sets import TORCHVISION_DATASETS
from harness.errors import HarnessError

from .host import Host

Array = npt.NDArray[np.generic]
COUNTS = {"train": 12, "test": 6}


def idx(values: Array) -> bytes:
    """The format of MNIST's files."""
    code = {"u1": 8, "i4": 12}[values.dtype.str[1:]]
    header = struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape)
    return header + values.astype(values.dtype.newbyteorder(">")).tobytes()


def images(count: int, side: int = 28) -> Array:
    return np.random.default_rng(count).integers(0, 256, (count, side, side), dtype=np.uint8)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def publish(host: Host, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Array, Array]]:
    """Serve a tiny data set in the place of the real one; returns its images and labels as they should be read."""
    kind = TORCHVISION_DATASETS[name]
    known = getattr(datasets, kind.kind)
    truth: dict[str, tuple[Array, Array]] = {}
    packed = io.BytesIO()
    checksums: dict[str, str] = {}

    def serve(place: str, content: bytes) -> str:
        host.files[place] = content
        checksums[place] = md5(content)
        return f"{host.url}/{place}"

    with zipfile.ZipFile(packed, "w") as archive:
        for split, count in COUNTS.items():
            pixels = images(count, 16 if name == "usps" else 28)
            labels = np.arange(count, dtype=np.uint8) % kind.classes
            truth[split] = pixels, labels
            if kind.kind == "EMNIST":
                for what, values in (
                    ("images-idx3", pixels.transpose(0, 2, 1)),
                    ("labels-idx1", labels + (name == "emnist-letters")),
                ):
                    file = gzip.compress(idx(values.astype(np.uint8)))
                    archive.writestr(f"gzip/{name}-{split}-{what}-ubyte.gz", file)
            elif name == "usps":
                lines = []
                for image, label in zip(pixels, labels, strict=True):
                    scaled = (image.ravel() / 127.5 - 1).astype(np.float64)
                    cells = " ".join(f"{place + 1}:{value:.9f}" for place, value in enumerate(scaled))
                    lines.append(f"{label + 1} {cells} \n")
                serve("usps.bz2" if split == "train" else "usps.t.bz2", bz2.compress("".join(lines).encode()))
            elif name == "qmnist":
                facts = np.zeros((count, 8), dtype=np.int32)
                facts[:, 0], facts[:, 1:] = labels, 1000
                serve(f"qmnist-{split}-images-idx3-ubyte.gz", gzip.compress(idx(pixels)))
                serve(f"qmnist-{split}-labels-idx2-int.gz", gzip.compress(idx(facts)))
            else:
                start = "train" if split == "train" else "t10k"
                serve(f"{start}-images-idx3-ubyte.gz", gzip.compress(idx(pixels)))
                serve(f"{start}-labels-idx1-ubyte.gz", gzip.compress(idx(labels)))
    if kind.kind == "EMNIST":
        monkeypatch.setattr(known, "url", serve("gzip.zip", packed.getvalue()))
        monkeypatch.setattr(known, "md5", md5(packed.getvalue()))
    elif name == "usps":
        names = {"train": "usps.bz2", "test": "usps.t.bz2"}
        split_list = {split: [f"{host.url}/{file}", file, checksums[file]] for split, file in names.items()}
        monkeypatch.setattr(known, "split_list", split_list)
    elif name == "qmnist":
        parts = ("images-idx3-ubyte.gz", "labels-idx2-int.gz")
        files = {split: [f"qmnist-{split}-{part}" for part in parts] for split in COUNTS}
        resources = {split: [(f"{host.url}/{file}", checksums[file]) for file in files[split]] for split in COUNTS}
        monkeypatch.setattr(known, "resources", {**resources, "nist": known.resources["nist"]})
    else:
        monkeypatch.setattr(known, "resources", list(checksums.items()))
        monkeypatch.setattr(known, "mirrors", [f"{host.url}/"])
        monkeypatch.setattr(kind, "extra_mirrors", ())
    return truth


def test_the_registry_has_them_all() -> None:
    cuts = ("balanced", "letters", "digits", "mnist", "bymerge", "byclass")
    assert set(TORCHVISION_DATASETS) == {
        "fashion-mnist",
        "kmnist",
        "qmnist",
        "usps",
        *(f"emnist-{cut}" for cut in cuts),
    }
    assert set(data.DATASETS) >= {"mnist", "digits", "folder", *TORCHVISION_DATASETS}


@pytest.mark.parametrize("cut", ["balanced", "letters", "digits", "mnist", "bymerge", "byclass"])
def test_emnist_counts_the_classes_that_torchvision_names(cut: str) -> None:
    named = [name for name in datasets.EMNIST.classes_split_dict[cut] if name != "N/A"]
    assert TORCHVISION_DATASETS[f"emnist-{cut}"].classes == len(named)


def test_every_file_has_a_checksum_and_a_place_of_its_own() -> None:
    remotes = {remote.path: remote for kind in TORCHVISION_DATASETS.values() for remote in kind()._remotes()}
    assert len(remotes) == 4 + 4 + 4 + 1 + 2  # EMNIST's six share one
    for remote in remotes.values():
        assert len(remote.md5) == 32
        assert all(url.endswith(f"/{remote.name}") for url in remote.urls)


@pytest.mark.parametrize("name", TORCHVISION_DATASETS)
def test_it_is_downloaded_once_and_read_as_it_is(
    name: str, host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = publish(host, name, monkeypatch)
    assert str(data.create_source(name).missing()).startswith(f"{name} is not in {cache} yet")
    said: list[str] = []
    splits = data.load(name, message=said.append)
    assert data.create_source(name).missing() is None
    assert said[-1] == f"unpacking {name}"
    for images, split in ((splits.train, "train"), (splits.test, "test")):
        pixels, labels = truth[split]
        assert images.labels is not None
        assert images.name == f"{name}/{split}"
        # usps is written in [-1, 1] with few digits, and cut to whole numbers
        assert np.abs(images.pixels.squeeze(1).numpy().astype(int) - pixels.astype(int)).max() <= (name == "usps")
        assert images.pixels.dtype == torch.uint8
        assert images.labels.dtype == torch.int64
        assert images.labels.tolist() == labels.tolist()
        assert images.classes > images.labels.max()
    asked = len(host.asked)
    assert data.load(name, message=said.append).test.fingerprint == splits.test.fingerprint
    assert len(host.asked) == asked == len(set(host.asked))
    assert not list(cache.rglob("*.part"))


def test_a_cache_folder_that_is_served_is_a_mirror(
    host: Host, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(host, "fashion-mnist", monkeypatch)
    data.load("fashion-mnist")
    host.files.clear()
    host.asked.clear()
    host.serve_folder(cache)
    monkeypatch.setenv("HARNESS_MIRROR", host.url)
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "other"))
    assert len(data.load("fashion-mnist").train) == 12
    assert {name.rpartition("/")[0] for name, _ in host.asked} == {"FashionMNIST/raw"}


def test_files_that_were_copied_by_hand_are_not_downloaded(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(host, "kmnist", monkeypatch)
    (cache / "KMNIST" / "raw").mkdir(parents=True)
    for name, content in host.files.items():
        (cache / "KMNIST" / "raw" / name).write_bytes(content)
    host.files.clear()
    assert len(data.load("kmnist").train) == 12
    assert host.asked == []


def test_without_a_network_one_line_says_what_to_copy_where(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(host, "usps", monkeypatch)
    host.files.clear()
    with pytest.raises(
        HarnessError, match=rf"cannot download usps\.bz2: .* copy it from .*usps\.bz2 into {cache}/USPS"
    ):
        data.load("usps")


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_damage_is_named_with_the_cure(damage: str, host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(host, "fashion-mnist", monkeypatch)
    data.load("fashion-mnist")
    file = cache / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    content = file.read_bytes()
    file.unlink()
    if damage == "flip":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        data.load_split("fashion-mnist", "train")
    with pytest.raises(HarnessError, match=r"t10k-images-idx3-ubyte.*delete the folder .*raw and run again") as caught:
        data.load_split("fashion-mnist", "test")
    assert "\n" not in str(caught.value)


def test_a_cut_that_the_archive_lacks_is_named(host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(host, "emnist-letters", monkeypatch)
    with pytest.raises(HarnessError, match=r"cannot unpack emnist-digits .*emnist-digits-train"):
        data.load("emnist-digits")
    assert data.create_source("emnist-digits").missing()


_LOAD = """
import sys
from torchvision import datasets
from harness import data
datasets.USPS.split_list = {split: part.split() for split, part in zip(("train", "test"), sys.argv[1:])}
print(data.load("usps").train.fingerprint)
"""


def test_of_processes_that_start_together_one_downloads(
    host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(host, "usps", monkeypatch)
    parts = [" ".join(datasets.USPS.split_list[split]) for split in ("train", "test")]
    command = [sys.executable, "-c", _LOAD, *parts]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(set(printed)) == 1
    assert sorted(host.asked) == [("usps.bz2", None), ("usps.t.bz2", None)]
