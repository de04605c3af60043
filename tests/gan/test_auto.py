"""What `auto` stands for: what is asked of the hardware, how timings are compared, what is remembered of them.

The seconds are made up: nothing here depends on how fast this machine is.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from harness import data
from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import BatchedTraining, Training, auto, hardware, resolve, resolve_batch_runs, resolve_untimed
from harness.gan import timing as timings
from harness.gan.timing import Steps, Timer, is_faster

from ..commands import Harness
from .common import EVERYTHING


@pytest.fixture
def images() -> Images:
    return data.load("mnist", subset=60).train


@pytest.fixture
def plan(tiny: Experiment) -> Experiment:
    return tiny.with_values({"train.precision": "auto"})


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where answers are remembered, on an idle machine that computes in bf16."""
    monkeypatch.setattr("harness.gan.auto.is_faster", is_faster)
    monkeypatch.setattr("harness.gan.auto.has_bf16", lambda device: True)
    monkeypatch.setattr("harness.gan.auto_cache.is_busy", lambda: False)
    monkeypatch.setattr("harness.gan.auto_cache.cache_file", lambda: tmp_path / "cache" / "auto.json")
    return tmp_path / "cache" / "auto.json"


def turn(*seconds: float) -> Timer:
    """Takes so many seconds, one after the other; the last for ever."""
    rest = itertools.chain(seconds, itertools.repeat(seconds[-1]))
    return lambda: next(rest)


def limited(seconds: float, most: int) -> Timer:
    """Takes so many seconds, and must not be asked for more turns than that."""
    turns = iter([seconds] * most)
    return lambda: next(turns)


def never(other: Timer, current: Timer) -> bool:
    raise AssertionError("nothing is to be timed here")


def yes(other: Timer, current: Timer) -> bool:
    return True


def no(other: Timer, current: Timer) -> bool:
    return False


# Comparing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "current", "expected"),
    [
        (0.05, 0.10, True),
        (0.10, 0.05, False),
        (0.10, 0.10, False),
        (0.09, 0.10, False),  # a little faster is not worth it
        (0.08, 0.10, True),
        (0.9, 0.001, False),
    ],
)
def test_the_other_way_must_be_faster_by_more_than_a_little(other: float, current: float, expected: bool) -> None:
    assert is_faster(turn(other), turn(current)) is expected


def test_the_first_turns_warm_up() -> None:
    assert is_faster(turn(0.15, 0.05), turn(0.1))
    assert is_faster(turn(0.35, 0.05), turn(0.1)), "the current way has several turns before the other warms up"
    assert not is_faster(turn(0.1), turn(5.0, 0.05))


def test_other_work_on_the_machine_does_not_decide() -> None:
    """One turn in three is undisturbed."""
    disturbed = [0.3, 0.4, 0.05] * 4
    assert is_faster(turn(0.06, *disturbed), turn(0.1))
    assert not is_faster(turn(0.1), turn(0.06, *disturbed))


def test_a_way_that_has_lost_is_not_timed_on() -> None:
    assert not is_faster(limited(9.0, 1), limited(0.01, 4)), "slower at once than all turns of the other"
    assert not is_faster(limited(0.2, 4), limited(0.1, 6)), "always slower than the slowest of the other"
    assert is_faster(limited(0.05, 4), limited(0.1, 6))


def test_long_steps_are_timed_a_few_times_only() -> None:
    assert is_faster(limited(30.0, 2), limited(60.0, 2))
    assert not is_faster(limited(60.0, 2), limited(60.0, 2))


@pytest.mark.parametrize("members", [1, 3])
def test_a_turn_is_the_steps_of_an_epoch_and_not_its_end(
    tiny: Experiment, images: Images, members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.gan.training.evaluate_logits", never)
    trainings = [Training(tiny.with_values({"train.seed": seed}), images) for seed in range(members)]
    before = [training.generator.state_dict()["layers.0.weight"].clone() for training in trainings]
    run = timings.epoch_timer(trainings[0] if members == 1 else BatchedTraining(trainings))
    assert run() > 0
    assert run() > 0
    for training, weight in zip(trainings, before, strict=True):
        assert training.steps == 2 * training.steps_per_epoch == 6
        assert training.epoch == 0
        assert not torch.equal(training.generator.state_dict()["layers.0.weight"], weight)


# Precision -----------------------------------------------------------------------------------------------------------


def seconds_of_a_step(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """How long the step of a training takes, by its precision; `together`: that of a whole population."""

    def epoch_timer(training: Steps) -> Timer:
        together = isinstance(training, BatchedTraining)
        return turn(seconds["together" if together else training.experiment.train.precision])  # type: ignore[attr-defined]

    monkeypatch.setattr("harness.gan.auto.epoch_timer", epoch_timer)


@pytest.mark.parametrize(("fp32", "bf16", "expected"), [(0.2, 0.1, "bf16"), (0.1, 0.2, "fp32"), (0.1, 0.1, "fp32")])
def test_precision_auto_is_what_trains_faster(
    plan: Experiment, images: Images, fp32: float, bf16: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds_of_a_step(monkeypatch, fp32=fp32, bf16=bf16)
    assert resolve(plan, images).train.precision == expected


@pytest.mark.parametrize(
    "values", [{}, EVERYTHING, {"train.discriminator_steps": 8, "train.batch_size": 6}], ids=["mlp", "all", "updates"]
)
def test_what_is_timed_are_steps_of_both_precisions(
    plan: Experiment, images: Images, values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    train_step = Training.train_step

    def counted(self: Training) -> None:
        steps.append(self.experiment.train.precision)
        train_step(self)

    def each_once(other: Timer, current: Timer) -> bool:
        return current() > 0 and other() > 0

    monkeypatch.setattr(Training, "train_step", counted)
    resolved = resolve(plan.with_values(values), images, compare=each_once)
    assert steps == ["fp32", "bf16"]
    assert resolved == plan.with_values({**values, "train.precision": "bf16"})


def test_a_precision_that_is_named_is_kept(plan: Experiment, images: Images) -> None:
    for precision in ("fp32", "bf16"):
        named = plan.with_values({"train.precision": precision})
        assert resolve(named, images, compare=never) == named
        assert resolve_untimed(named, images) == (named, None)


def test_hardware_without_bf16_trains_in_fp32_untimed(
    plan: Experiment, images: Images, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.gan.auto.has_bf16", lambda device: False)
    assert resolve(plan, images, compare=never).train.precision == "fp32"
    resolved, reason = resolve_untimed(plan, images)
    assert resolved.train.precision == "fp32"
    assert reason == "this cpu has no bf16 instructions"
    assert not memory.exists()


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": False, "avx512_bf16": False, "avx2": True}, False),
        ({"amx_bf16": False, "avx512_bf16": True}, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True),
        ({"neon": True, "bf16": False}, False),
        ({"neon": True, "bf16": True}, True),
        ({}, True),  # what is not known is timed
    ],
)
def test_which_processors_have_bf16(capabilities: dict[str, bool], expected: bool) -> None:
    assert hardware.cpu_has_bf16(capabilities) is expected


def test_an_older_torch_is_asked_by_its_older_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for supported in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda value=supported: value, raising=False)
        assert hardware.has_bf16("cpu") is supported
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert hardware.has_bf16("cpu"), "what is not known is timed"


def test_a_device_is_settled_too(plan: Experiment, images: Images) -> None:
    resolved = resolve(plan.with_values({"train.device": "auto"}), images, compare=no)
    assert resolved.train.device in {"cpu", "cuda", "mps"}
    assert resolved.train.precision == "fp32"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_refused(tiny: Experiment, images: Images) -> None:
    with pytest.raises(HarnessError, match="device is cuda, but torch does not find it on this machine; expected cpu"):
        resolve(tiny.with_values({"train.device": "cuda"}), images)


# Populations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("together", "expected"), [(0.3, 6), (0.39, 1), (0.5, 1)])
def test_many_train_at_once_where_that_is_faster_than_one_after_the_other(
    tiny: Experiment, images: Images, together: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four are timed: one after the other they take 0.4 s a step."""
    seconds_of_a_step(monkeypatch, fp32=0.1, together=together)
    assert resolve_batch_runs(tiny, images, 6) == expected


def test_one_is_never_timed(tiny: Experiment, images: Images) -> None:
    assert resolve_batch_runs(tiny, images, 1, compare=never) == 1


def test_a_population_is_timed_once(tiny: Experiment, images: Images) -> None:
    told: list[str] = []
    assert resolve_batch_runs(tiny, images, 6, told.append, compare=yes) == 6
    assert told == ["timing 4 trainings at once against one after the other ..."]
    assert resolve_batch_runs(tiny, images, 9, told.append, compare=never) == 9
    assert resolve_batch_runs(tiny, images, 3, told.append, compare=no) == 1, "fewer are another question"
    assert resolve_batch_runs(tiny, images, 3, compare=never) == 1
    assert len(told) == 2


# Memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compare", [yes, no])
def test_an_answer_is_remembered(plan: Experiment, images: Images, memory: Path, compare: auto.Compare) -> None:
    told: list[str] = []
    assert resolve_untimed(plan, images) == (plan, "a run times fp32 against bf16, once on this machine")
    first = resolve(plan, images, told.append, compare=compare)
    assert first.train.precision == ("bf16" if compare is yes else "fp32")
    assert told == ["timing fp32 against bf16 ..."]
    other_seed = plan.with_values({"train.seed": 7, "train.epochs": 50, "optimizer.lr": 1e-4})
    again = resolve(other_seed, images.index_select(torch.arange(40)), told.append, compare=never)
    assert again.train.precision == first.train.precision
    assert len(told) == 1
    assert resolve_untimed(plan, images) == (first, f"from an earlier timing, in {memory}")
    assert [path.name for path in memory.parent.iterdir()] == ["auto.json"], "nothing half-written beside it"


@pytest.mark.parametrize(
    "values",
    [
        {"train.batch_size": 10},
        {"generator.widths": [8]},
        {"discriminator.dropout": 0},
        {"conditional": True},
        {"objective.kind": "hinge"},
        {"train.discriminator_steps": 2},
        {"train.ema_half_life": 100},
    ],
)
def test_other_steps_are_timed_anew(plan: Experiment, images: Images, values: dict[str, object]) -> None:
    resolve(plan, images, compare=no)
    assert resolve(plan.with_values(values), images, compare=yes).train.precision == "bf16"
    assert resolve(plan, images, compare=never).train.precision == "fp32"


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("torch.__version__", "2.99"),
        ("torch.get_num_threads", lambda: 99),
        ("harness.gan.auto_cache.device_name", lambda device: "another"),
    ],
)
def test_another_machine_is_timed_anew(
    plan: Experiment, images: Images, what: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(plan, images, compare=no)
    monkeypatch.setattr(what, value)
    assert resolve(plan, images, compare=yes).train.precision == "bf16"


@pytest.mark.parametrize("damage", ["", "[{", "7", "[7]", "[{}]", '{"a": 1}', "\udcff"])
def test_a_damaged_file_is_ignored_and_replaced(plan: Experiment, images: Images, memory: Path, damage: str) -> None:
    memory.parent.mkdir()
    memory.write_bytes(damage.encode(errors="surrogateescape"))
    assert resolve(plan, images, compare=yes).train.precision == "bf16"
    assert resolve(plan, images, compare=never).train.precision == "bf16"


def test_an_impossible_answer_is_ignored(plan: Experiment, images: Images, memory: Path) -> None:
    resolve(plan, images, compare=yes)
    (entry,) = json.loads(memory.read_text())
    memory.write_text(json.dumps([{**entry, "answer": "fp8"}]))
    assert resolve(plan, images, compare=no).train.precision == "fp32"
    assert len(json.loads(memory.read_text())) == 1


def test_a_cache_that_cannot_be_written_to_is_done_without(
    plan: Experiment, images: Images, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.parent.write_text("a file, where a folder was expected")
    assert resolve(plan, images, compare=yes).train.precision == "bf16"
    assert resolve(plan, images, compare=no).train.precision == "fp32"


def test_an_answer_of_a_busy_machine_holds_until_it_is_idle(
    plan: Experiment, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.gan.auto_cache.is_busy", lambda: True)
    resolve(plan, images, compare=no)
    assert resolve(plan, images, compare=never).train.precision == "fp32"
    monkeypatch.setattr("harness.gan.auto_cache.is_busy", lambda: False)
    assert resolve(plan, images, compare=yes).train.precision == "bf16"
    monkeypatch.setattr("harness.gan.auto_cache.is_busy", lambda: True)
    assert resolve(plan, images, compare=never).train.precision == "bf16", "an answer of an idle machine stays"


def test_few_answers_are_kept(plan: Experiment, images: Images, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.gan.auto_cache.MAX_ANSWERS", 2)
    plans = [plan.with_values({"train.batch_size": size}) for size in (5, 6, 7)]
    for each in plans:
        resolve(each, images, compare=yes)
    assert len(json.loads(memory.read_text())) == 2
    assert resolve(plans[0], images, compare=no).train.precision == "fp32", "the oldest is forgotten"
    assert resolve(plans[2], images, compare=never).train.precision == "bf16"


def test_nothing_is_remembered_of_networks_whose_code_may_change(
    plan: Experiment, images: Images, memory: Path
) -> None:
    own = plan.with_values({"generator.kind": "tests.gan.custom_networks:Generator"})
    assert resolve(own, images, compare=yes).train.precision == "bf16"
    assert resolve(own, images, compare=no).train.precision == "fp32"
    assert not memory.exists()


# Commands ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Steps]:
    """What is timed. bf16 is the faster one."""
    found: list[Steps] = []

    def epoch_timer(training: Steps) -> Timer:
        found.append(training)
        return turn(0.1 if training.experiment.train.precision == "bf16" else 0.2)  # type: ignore[attr-defined]

    monkeypatch.setattr("harness.gan.auto.epoch_timer", epoch_timer)
    return found


def test_a_run_times_once_and_says_so_and_a_dry_run_never(harness: Harness, timed: list[Steps]) -> None:
    run = ("run", "tiny.yaml", "--epochs", "1", "--set", "train.precision=auto", "--set", "quality.judge=null")
    dry = harness(*run, "--dry-run")
    assert dry.code == 0
    assert "loading" not in dry.out
    assert "  precision: auto\n" in dry.out
    assert "# train.precision auto: a run times fp32 against bf16, once on this machine\n" in dry.out
    assert not timed

    first = harness(*run)
    assert first.code == 0
    assert first.out.splitlines()[0] == "loading PyTorch and MLflow ..."
    assert first.out.count("timing fp32 against bf16 ...") == 1
    assert "cpu bf16" in first.out
    assert len(timed) == 2

    again = harness(*run)
    assert "timing" not in again.out
    assert "cpu bf16" in again.out
    dry = harness(*run, "--dry-run")
    assert "  precision: bf16\n" in dry.out
    assert "# train.precision bf16: from an earlier timing, in " in dry.out
    assert len(timed) == 2
