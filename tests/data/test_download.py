"""Downloads over real connections: several hosts, broken ones, wrong files, and what is kept of a half."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from harness.data.download import Remote, fetch
from harness.errors import HarnessError

from .host import Host

CONTENT = random.Random(0).randbytes(1_500_000)
PLACE = "Set/raw/images.gz"
DEAD = "http://127.0.0.1:9/"  # nobody listens there


def remote(*bases: str) -> Remote:
    return Remote(PLACE, hashlib.md5(CONTENT).hexdigest(), tuple(f"{base.rstrip('/')}/images.gz" for base in bases))


@pytest.fixture
def cache(cache: Path) -> Path:
    (cache / "Set" / "raw").mkdir(parents=True)
    return cache


@pytest.fixture
def target(cache: Path) -> Path:
    return cache / PLACE


@pytest.fixture
def part(target: Path) -> Path:
    return target.with_name("images.gz.part")


def test_a_file_arrives_whole_with_a_line_every_tenth(host: Host, cache: Path, target: Path) -> None:
    host.files["images.gz"] = CONTENT
    said: list[str] = []
    assert fetch(remote(host.url), cache, said.append) == target
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["images.gz"]
    assert said[0] == "downloading images.gz from 127.0.0.1"
    assert said[1:] == [f"downloading images.gz: {tenth * 10} %" for tenth in range(1, 11)]


def test_what_is_there_is_not_asked_for(host: Host, cache: Path, target: Path) -> None:
    target.write_bytes(CONTENT)
    fetch(remote(host.url), cache, print)
    assert host.asked == []


def test_another_file_in_its_place_is_named_and_left_alone(host: Host, cache: Path, target: Path) -> None:
    target.write_bytes(b"mine")
    with pytest.raises(HarnessError, match=r"images\.gz is not the published file: MD5 .* delete it"):
        fetch(remote(host.url), cache, print)
    assert target.read_bytes() == b"mine"


def test_hosts_are_asked_in_turn(host: Host, cache: Path, target: Path) -> None:
    host.files["good/images.gz"] = CONTENT
    host.files["wrong/images.gz"] = CONTENT[::-1]
    bases = [DEAD, f"{host.url}/absent", f"{host.url}/wrong", f"{host.url}/good"]
    fetch(remote(*bases), cache, print)
    assert target.read_bytes() == CONTENT
    assert [name for name, _ in host.asked] == ["absent/images.gz", "wrong/images.gz", "good/images.gz"]


def test_the_mirror_is_asked_first_for_the_place_in_the_cache(
    host: Host, cache: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_MIRROR", f"{host.url}/deep/")
    host.files[f"deep/{PLACE}"] = CONTENT
    fetch(remote(host.url), cache, print)
    assert target.read_bytes() == CONTENT
    assert host.asked == [(f"deep/{PLACE}", None)]


def test_a_mirror_that_is_no_address_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_MIRROR", "cluster:8000")
    with pytest.raises(HarnessError, match="HARNESS_MIRROR is 'cluster:8000'; expected an address"):
        fetch(remote(DEAD), cache, print)


def test_a_host_that_breaks_off_is_asked_for_the_rest(host: Host, cache: Path, target: Path) -> None:
    host.files["images.gz"] = CONTENT
    host.breaks = 2
    fetch(remote(host.url), cache, print)
    assert target.read_bytes() == CONTENT
    assert [wanted for _, wanted in host.asked] == [None, "bytes=750000-", "bytes=1125000-"]


def test_one_that_keeps_breaking_off_is_named_and_the_next_run_goes_on(
    host: Host, cache: Path, target: Path, part: Path
) -> None:
    host.files["images.gz"] = CONTENT
    host.breaks = 3
    with pytest.raises(HarnessError) as caught:
        fetch(remote(host.url), cache, print)
    said = str(caught.value)
    assert said.startswith("cannot download images.gz: 127.0.0.1 broke off after 1.3 MB of 1.5 MB. Without a network, ")
    assert f"copy it from {host.url}/images.gz into {target.parent}, or set HARNESS_MIRROR" in said
    assert said.endswith("run again to resume after 1.3 MB")
    assert "\n" not in said
    assert part.read_bytes() == CONTENT[:1_312_500]
    assert not target.exists()
    host.asked.clear()
    fetch(remote(host.url), cache, print)
    assert target.read_bytes() == CONTENT
    assert host.asked == [("images.gz", "bytes=1312500-")]
    assert not part.exists()


def test_a_host_without_ranges_sends_all_of_it_again(host: Host, cache: Path, target: Path, part: Path) -> None:
    host.files["images.gz"] = CONTENT
    host.ranges = False
    part.write_bytes(CONTENT[:1000])
    fetch(remote(host.url), cache, print)
    assert target.read_bytes() == CONTENT
    assert host.asked == [("images.gz", "bytes=1000-")]


@pytest.mark.parametrize("length", [1000, len(CONTENT), len(CONTENT) + 5])
def test_a_kept_part_of_another_file_costs_one_more_download(
    host: Host, cache: Path, target: Path, part: Path, length: int
) -> None:
    host.files["images.gz"] = CONTENT
    part.write_bytes(bytes(length))
    fetch(remote(host.url), cache, print)
    assert target.read_bytes() == CONTENT
    assert host.asked == [("images.gz", f"bytes={length}-"), ("images.gz", None)]


def test_a_part_that_is_whole_already_is_taken(host: Host, cache: Path, target: Path, part: Path) -> None:
    host.files["images.gz"] = CONTENT
    part.write_bytes(CONTENT)
    fetch(remote(host.url), cache, print)
    assert target.read_bytes() == CONTENT


def test_a_wrong_checksum_is_named_and_not_kept(host: Host, cache: Path, target: Path, part: Path) -> None:
    host.files["images.gz"] = CONTENT[::-1]
    with pytest.raises(HarnessError, match=r"127\.0\.0\.1 sent another file \(MD5 .*try again later$"):
        fetch(remote(host.url), cache, print)
    assert len(host.asked) == 1
    assert not part.exists()
    assert not target.exists()


def test_a_dead_host_and_an_absent_file_are_named(host: Host, cache: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        fetch(remote(DEAD, host.url), cache, print)
    assert "127.0.0.1 cannot be reached ([Errno" in str(caught.value)
    assert "127.0.0.1 answers 404 Not Found" in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(host: Host, cache: Path, part: Path) -> None:
    host.files["images.gz"] = CONTENT
    part.mkdir()
    with pytest.raises(HarnessError, match=r"cannot write to the data cache .* set HARNESS_DATA to a folder you own"):
        fetch(remote(host.url), cache, print)
