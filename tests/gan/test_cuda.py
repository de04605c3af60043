"""What only a CUDA device can show: recorded steps against plain ones, bit for bit, and both against the CPU.

Needs torch and the core alone, so that it runs on a machine without a tracker:
python -m pytest --noconftest tests/gan/test_cuda.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness import data
from harness import experiment as experiments
from harness.data import Images
from harness.experiment import Experiment
from harness.gan import BatchedTraining, Training, generate, generate_all, resolve, resolve_batch_runs, sample_inputs
from harness.gan.step_noise import StepNoise
from harness.gan.timing import Timer
from harness.quality import Scorer, load_judge

from .common import EVERYTHING, RECIPES, step_on, weights

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

PLANS = {
    "notebook": ("notebook", []),
    "conditional": ("conditional", ["train.ema_half_life=1000", "discriminator.dropout=0.2"]),
    "batch norm": ("notebook", [f"{path}={value}" for path, value in EVERYTHING.items()]),
    "conditional mlp": ("notebook", ["conditional=true", "optimizer.schedule=linear", "generator.latent=32"]),
}
FIXED = {
    "train.device": "cuda",
    "train.precision": "fp32",
    "train.epochs": 3,
    "data.validation": 0,
    "track.score_every": None,
}


@pytest.fixture(scope="module")
def images() -> Images:
    return data.load("mnist", subset=2000).train.to("cuda")


@pytest.fixture(params=PLANS)
def plan(request: pytest.FixtureRequest) -> Experiment:
    name, changes = PLANS[request.param]
    return experiments.load(name, changes).with_values(FIXED)


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> Experiment:
    """Compared in float64, where rounding does not grow into differences."""
    return experiments.load("notebook").with_values({**FIXED, **RECIPES[request.param]})


@pytest.fixture(autouse=True)
def _deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Some kernels add in any order; where bits are compared, they must not."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not by monkeypatch, which would delete what these settings keep in their class.
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    settings: list[tuple[object, str, bool]] = [
        *((cudnn, "deterministic", True), (cudnn, "benchmark", False)),
        *((cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)),
    ]
    before = [getattr(owner, name) for owner, name, _ in settings]
    for owner, name, value in settings:
        setattr(owner, name, value)
    yield
    for (owner, name, _), value in zip(settings, before, strict=True):
        setattr(owner, name, value)


def test_a_recorded_training_ends_with_the_bits_of_the_plain_one(plan: Experiment, images: Images) -> None:
    plain, captured = Training(plan, images, capture=False), Training(plan, images)
    assert captured.capture
    list(plain)
    list(captured)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(captured), weights(plain), strict=True))


def test_a_recorded_training_in_bf16_ends_with_the_bits_of_the_plain_one(plan: Experiment, images: Images) -> None:
    plan = plan.with_values({"train.precision": "bf16"})
    plain, captured = Training(plan, images, capture=False), Training(plan, images)
    list(plain)
    list(captured)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(captured), weights(plain), strict=True))


def test_recorded_recipes_end_with_the_bits_of_the_plain_ones(recipe: Experiment, images: Images) -> None:
    """Penalties differentiate twice, and power iterations go on, inside a graph."""
    plain, captured = Training(recipe, images, capture=False), Training(recipe, images)
    list(plain)
    list(captured)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(captured), weights(plain), strict=True))


def _signature(values: torch.Tensor) -> torch.Tensor:
    """One number that tells these values, in this order, from others."""
    flat = values.double().flatten()
    return (flat * torch.arange(1, len(flat) + 1, device=flat.device)).sum()


def test_the_first_recorded_epoch_draws_what_the_plain_one_draws(plan: Experiment, images: Images) -> None:
    """The noise, order and masks of an epoch, made inside a graph, against the same made one by one."""
    _draw_alike(plan, images)


def test_recorded_recipes_draw_what_plain_ones_draw(recipe: Experiment, images: Images) -> None:
    _draw_alike(recipe, images)


def _draw_alike(plan: Experiment, images: Images) -> None:
    plain, captured = Training(plan, images, capture=False), Training(plan, images)
    seen: dict[str, list[torch.Tensor]] = {"plain": [], "captured": []}
    for name, training in (("plain", plain), ("captured", captured)):
        step = training.randomness.step
        times = training.steps_per_epoch * plan.train.discriminator_steps
        kept = torch.zeros(times, device="cuda", dtype=torch.float64)
        count = torch.zeros(1, dtype=torch.int64, device="cuda")

        def watching(step: object = step, kept: torch.Tensor = kept, count: torch.Tensor = count) -> StepNoise:
            draws: StepNoise = step()  # type: ignore[operator]
            parts = [part for part in torch.utils._pytree.tree_leaves(tuple(draws)) if part is not None]
            total = torch.stack([_signature(part) for part in parts]).sum()
            kept.index_copy_(0, count.clamp(max=len(kept) - 1), total[None])
            count.add_(1)
            return draws

        training.randomness.step = watching  # type: ignore[method-assign]
        known = training.tensors
        training.tensors = lambda known=known, count=count: [*known(), count]  # type: ignore[method-assign,misc]
        training.train_epoch()
        seen[name] = [kept.cpu()]
    assert torch.equal(seen["plain"][0], seen["captured"][0])


def test_a_resumed_recording_ends_where_an_uninterrupted_one_does(plan: Experiment, images: Images) -> None:
    alone, first, second = (Training(plan, images) for _ in range(3))
    list(alone)
    first.train_epoch()
    second.load_state_dict(first.state_dict())
    list(second)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(weights(second), weights(alone), strict=True))


def test_an_epoch_may_be_shorter_than_the_warm_up(plan: Experiment, images: Images) -> None:
    few = plan.train.batch_size * plan.train.discriminator_steps
    training = Training(plan, images.index_select(torch.arange(few, device="cuda")))
    assert training.steps_per_epoch == 1
    assert [report.epoch for report in training] == [1, 2, 3]


def test_a_checkpoint_of_the_cpu_goes_on_on_the_gpu(plan: Experiment, images: Images) -> None:
    here = Training(plan.with_values({"train.device": "cpu"}), images.to("cpu"))
    here.train_epoch()
    there = Training(plan, images)
    there.load_state_dict(here.state_dict())
    assert there.train_epoch().epoch == 2


def test_training_on_cuda_follows_the_cpu(plan: Experiment, images: Images) -> None:
    """Draws differ between devices, so the same draws are handed to both."""
    here = Training(plan.with_values({"train.device": "cpu"}), images.to("cpu"))
    there = Training(plan, images, capture=False)
    there.load_state_dict(here.state_dict())
    here.randomness.begin(1)
    for _ in range(10):
        draws = here.randomness.step()
        moved = torch.utils._pytree.tree_map_only(torch.Tensor, lambda value: value.to("cuda"), draws)
        ours = step_on(here, draws)
        theirs = step_on(there, moved)
        assert torch.allclose(torch.stack(ours), torch.stack(theirs).cpu(), rtol=1e-3)


def test_recipes_on_cuda_follow_the_cpu(recipe: Experiment, images: Images) -> None:
    here = Training(recipe.with_values({"train.device": "cpu"}), images.to("cpu"), dtype=torch.float64)
    there = Training(recipe, images, dtype=torch.float64, capture=False)
    there.load_state_dict(here.state_dict())
    here.randomness.begin(1)
    for _ in range(10):
        draws = here.randomness.step()
        moved = torch.utils._pytree.tree_map_only(torch.Tensor, lambda value: value.to("cuda"), draws)
        ours = step_on(here, draws)
        theirs = step_on(there, moved)
        # A learning rate that lies on the device does so in fp32.
        assert torch.allclose(torch.stack(ours), torch.stack(theirs).cpu(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("capture", [False, True])
def test_members_of_recipes_end_as_lone_runs(recipe: Experiment, images: Images, capture: bool) -> None:
    narrower = 0 if ":" in recipe.generator.kind else 8
    plans = [
        recipe.with_values(
            {
                "train.seed": seed,
                "optimizer.lr": 1e-4 * (seed + 1),
                "generator.latent": 32 - narrower * seed,
                **{f"objective.{name}": 1.0 + seed for name in recipe.objective.penalties},
            }
        )
        for seed in range(3)
    ]
    alone = [Training(each, images, dtype=torch.float64, capture=False).train_epoch() for each in plans]
    together = BatchedTraining([Training(each, images, dtype=torch.float64, capture=capture) for each in plans])
    for theirs, (_, ours) in zip(alone, together.train_epoch(), strict=True):
        for name in ("loss/discriminator", "loss/generator"):
            assert ours.metrics[name] == pytest.approx(theirs.metrics[name], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("capture", [False, True])
def test_members_of_a_population_end_as_lone_runs(plan: Experiment, images: Images, capture: bool) -> None:
    plans = [
        plan.with_values({"train.seed": seed, "optimizer.lr": 1e-4 * (seed + 1), "generator.latent": 32 - 8 * seed})
        for seed in range(3)
    ]
    alone = [Training(each, images, capture=False) for each in plans]
    members = [Training(each, images, capture=capture) for each in plans]
    lone = [next(iter(training)) for training in alone]
    together = BatchedTraining(members).train_epoch()
    for theirs, (_, ours) in zip(lone, together, strict=True):
        for name in ("loss/discriminator", "loss/generator"):
            assert ours.metrics[name] == pytest.approx(theirs.metrics[name], rel=1e-3)


def test_members_leave_a_recorded_population(plan: Experiment, images: Images) -> None:
    members = [Training(plan.with_values({"train.seed": seed}), images) for seed in range(3)]
    population = BatchedTraining(members)
    population.train_epoch()
    population.keep_only(members[:2])
    population.train_epoch()
    population.keep_only(members[:1])
    population.train_epoch()
    assert [member.epoch for member in members] == [3, 2, 1]
    assert all(value.isfinite().all() for member in members for value in weights(member) if value.is_floating_point())


def test_resolving_and_generating_on_the_gpu(
    plan: Experiment, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    seconds: list[float] = []

    def other_is_faster(other: Timer, current: Timer) -> bool:
        seconds.extend([current(), other(), current(), other()])
        return True

    auto = resolve(plan.with_values({"train.precision": "auto"}), images, compare=other_is_faster)
    assert auto.train.precision == "bf16"
    assert resolve_batch_runs(plan, images, 3, compare=other_is_faster) == 3
    assert len(seconds) == 8
    assert min(seconds) > 0
    trainings = [Training(plan.with_values({"train.seed": seed}), images) for seed in range(2)]
    inputs = [sample_inputs(training.experiment, images, 50) for training in trainings]
    found = generate_all([training.generator_ema for training in trainings], inputs)
    for training, noise, ours in zip(trainings, inputs, found, strict=True):
        assert (ours.int() - generate(training.generator_ema, noise).int()).abs().max() <= 1
    (alone,) = generate_all([trainings[0].generator_ema], inputs[:1])
    assert torch.equal(alone, generate(trainings[0].generator_ema, inputs[0])), "one alone is no program of several"


def test_scores_on_the_gpu_are_those_of_the_cpu(images: Images) -> None:
    splits = data.load("mnist", validation=10_000)
    pixels = splits.train.pixels[:500].roll(2, dims=3)
    found = []
    for device in ("cpu", "cuda"):
        judge = load_judge("first", splits.train, device)
        found.append(Scorer(judge, splits.test, None, samples=500).score(pixels))
    assert found[1]["kid"] == pytest.approx(found[0]["kid"], rel=1e-3)
    assert found[1]["frechet"] == pytest.approx(found[0]["frechet"], rel=1e-3)
