"""The shipped judges, and those trained on first use."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import torch

from harness.data import Images, Splits
from harness.errors import HarnessError
from harness.quality import load_judge
from harness.quality.train_judge import augment, train_judge


@pytest.mark.parametrize(("which", "features"), [("first", 64), ("second", 96)])
def test_shipped_judge_is_as_good_as_its_facts_say(mnist: Splits, which: str, features: int) -> None:
    judge = load_judge(which, mnist.train)
    weights = resources.files("harness.quality") / "weights" / f"mnist-{which}.safetensors"
    facts = json.loads((resources.files("harness.quality") / "weights" / f"mnist-{which}.json").read_text())
    found, classes = judge.features_and_classes(mnist.test.pixels)
    assert found.shape == (10_000, features)
    assert found.dtype == torch.float32
    assert classes is not None
    assert mnist.test.labels is not None
    assert classes.eq(mnist.test.labels).double().mean().item() == pytest.approx(facts["test_accuracy"], abs=3e-4)
    assert facts["test_accuracy"] >= 0.994
    assert (judge.name, judge.sha256) == (f"mnist-{which}", facts["sha256"])
    assert len(weights.read_bytes()) < 2_000_000


def test_features_do_not_depend_on_the_batch(mnist: Splits) -> None:
    judge = load_judge("first", mnist.train)
    pixels = mnist.test.pixels[:50]
    torch.testing.assert_close(judge.features_and_classes(pixels, batch=7)[0], judge.features_and_classes(pixels)[0])


def test_judge_is_trained_on_first_use_and_kept(small: Images, own_cache: Path) -> None:
    notices: list[str] = []
    shares: list[float] = []
    torch.manual_seed(0)
    undisturbed = torch.rand(1)
    torch.manual_seed(0)
    judge = load_judge("first", small, message=notices.append, progress=shares.append)
    assert torch.equal(torch.rand(1), undisturbed)
    assert "training the judge small-first on 256 images" in notices[0]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert (own_cache / "judges" / f"{small.fingerprint}-first.safetensors").exists()

    again = load_judge("first", small, message=notices.append)
    assert len(notices) == 2  # nothing was trained
    assert (again.name, again.sha256) == (judge.name, judge.sha256) == ("small-first", judge.sha256)
    assert torch.equal(again.features_and_classes(small.pixels)[0], judge.features_and_classes(small.pixels)[0])


def test_training_is_repeatable_and_learns(small: Images) -> None:
    first, again = (train_judge("second", small, epochs=15) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True))
    right = (first(small.pixels)[1].argmax(1) == small.labels).double().mean()
    assert right > 0.7


def test_judges_take_colour_and_other_sizes(small: Images) -> None:
    colour = replace(small, pixels=small.pixels.repeat(1, 3, 2, 3))
    for which in ("first", "second"):
        features, logits = train_judge(which, colour, epochs=1)(colour.pixels[:5])
        assert features.isfinite().all()
        assert logits.shape == (5, 10)


def test_only_one_of_several_threads_trains(small: Images, own_cache: Path) -> None:
    notices: list[str] = []
    with ThreadPoolExecutor(3) as pool:
        judges = list(pool.map(lambda _: load_judge("first", small, message=notices.append), range(3)))
    assert len({judge.sha256 for judge in judges}) == 1
    assert sum(message.startswith("training") for message in notices) == 1


def test_a_judge_that_is_there_needs_no_writing(
    small: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = load_judge("first", small).sha256

    def refused(*arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("harness.quality.judges.FileLock", refused)
    assert load_judge("first", small).sha256 == sha256
    with pytest.raises(HarnessError, match=r"cannot store a judge in .* \(Read-only file system\)"):
        load_judge("second", small)


def test_wrong_hash_is_refused(small: Images, own_cache: Path) -> None:
    load_judge("first", small)
    weights = own_cache / "judges" / f"{small.fingerprint}-first.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(HarnessError, match=r"has SHA-256 .*, expected .*; delete it; it is then trained again"):
        load_judge("first", small)
    weights.with_suffix(".json").unlink()
    with pytest.raises(HarnessError, match="cannot read the judge"):
        load_judge("first", small)


def test_unknown_judges_and_unlabelled_images_are_refused(small: Images, own_cache: Path) -> None:
    with pytest.raises(
        HarnessError, match=r"quality.judge is 'third'; expected first, second, or package.module:Class"
    ):
        load_judge("third", small)
    with pytest.raises(HarnessError, match="needs labelled images"):
        load_judge("first", replace(small, labels=None))


def test_images_of_another_size_are_refused(mnist: Splits, small: Images) -> None:
    with pytest.raises(HarnessError, match="are 1x14x14, but judge mnist-first was trained on 1x28x28"):
        load_judge("first", mnist.train).features_and_classes(small.pixels)[0]


def test_augmentation_moves_little_and_keeps_the_range(mnist: Splits) -> None:
    pixels = mnist.train.pixels[:200]
    moved = augment(pixels, torch.Generator().manual_seed(0))
    assert moved.shape == pixels.shape
    assert moved.min() >= 0
    assert moved.max() < 255.01
    assert moved.mean().item() == pytest.approx(pixels.float().mean().item(), rel=0.1)
