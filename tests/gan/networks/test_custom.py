"""Networks of the user's own: trained, sampled, resumed, in populations; one clear line for what is wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import data
from harness import experiment as experiments
from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.gan import BatchedTraining, Training, resolve_batch_runs
from harness.gan.batched import batch_key
from harness.gan.networks import build, can_be_recorded
from harness.runs.batched import RunSpec, run_batched
from harness.runs.options import RunResult

from ...commands import Harness, client, only_run
from ..common import weights

PAIR = {
    "generator.kind": "tests.gan.custom_networks:Generator",
    "discriminator.kind": "tests.gan.custom_networks:Discriminator",
}

DOCS, OBJECTIVES = (Path(__file__).parents[3] / "docs" / name for name in ("networks.md", "objectives.md"))
NETWORKS = """
import math

import torch
from torch import nn

from harness.gan.networks.conv import ConvDiscriminator


class Generator(nn.Module):
    def __init__(self, shape, *, inputs, width=8):
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, math.prod(shape)), nn.Tanh())

    def forward(self, noise):
        return self.layers(noise).view(-1, *self.shape)


class Discriminator(nn.Module):
    def __init__(self, shape, *, classes, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, images, masks, labels):
        return self.layers(images).squeeze(1)


class Flat(Generator):
    def forward(self, noise):
        return self.layers(noise)


class Column(Discriminator):
    def forward(self, images, masks, labels):
        return self.layers(images)


class Pair(Discriminator):
    def forward(self, images, masks, labels):
        return super().forward(images, masks, labels), images


class Unfinished(Generator):
    def __init__(self, shape, **options):
        raise RuntimeError("not\\nyet")


class Idle(Generator):
    def __init__(self, shape, **options):
        super().__init__(shape, **options)
        self.spare = nn.Linear(2, 2)


class Weightless(nn.Module):
    def __init__(self, shape, *, inputs):
        super().__init__()
        self.shape = shape

    def forward(self, noise):
        return noise.new_zeros(len(noise), *self.shape)


class Dropping(Discriminator):
    def __init__(self, shape, **options):
        super().__init__(shape, **options)
        self.layers.insert(3, nn.Dropout(0.3))


class Normalised(Discriminator):
    def __init__(self, shape, *, classes, width=8):
        super().__init__(shape, classes=classes, width=width)
        self.layers.insert(2, nn.BatchNorm1d(width))


class Deaf(Discriminator):
    def forward(self, images):
        return super().forward(images, None, None)


def function(shape, **options):
    return nn.Linear(1, 1)
"""


@pytest.fixture
def images() -> Images:
    return data.load("mnist", subset=60).train


@pytest.fixture
def networks(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Modules of networks in the working directory, and no trace of those in another test's."""
    for name in ("networks", "broken"):
        sys.modules.pop(name, None)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if str(workplace.parents[1]) not in place])
    (workplace / "networks.py").write_text(NETWORKS)
    (workplace / "broken.py").write_text("import absent_from_here\n")
    return workplace


OWN = (
    *("--set", "generator.kind=networks:Generator", "--set", "discriminator.kind=networks:Discriminator"),
    *("--set", "discriminator.dropout=0", "--no-system-metrics"),
)


# From the command line -------------------------------------------------------------------------------------------


def test_they_are_trained_tracked_sampled_and_resumed(harness: Harness, networks: Path) -> None:
    answer = harness("run", "tiny.yaml", *OWN, "--set", "generator.width=12", "--epochs", "2")
    assert answer.code == 0, answer.err
    run = only_run()
    assert run.info.status == "FINISHED"
    assert run.data.params["generator.kind"] == "networks:Generator"
    assert run.data.params["generator.width"] == "12"
    assert harness("sample", "latest", "--trust", "--count", "20", "--out", "digits.npz").code == 0
    drawn = np.load("digits.npz")["images"]
    assert drawn.shape == (20, 28, 28)
    import mlflow.pytorch

    mlflow.set_tracking_uri(f"sqlite:///{networks / 'mlruns' / 'mlflow.db'}")
    generator = mlflow.pytorch.load_model(f"runs:/{run.info.run_id}/generator")
    assert generator(torch.randn(5, 8)).shape == (5, 1, 28, 28), "loads without the user's module"
    answer = harness("run", "--resume", "latest", "--trust", "--epochs", "3", "--no-system-metrics")
    assert answer.code == 0, answer.err
    assert len(client().get_metric_history(run.info.run_id, "loss/generator")) == 3


def test_the_example_of_the_docs_works(harness: Harness, networks: Path) -> None:
    """docs/networks.md, its two files as they stand there; and its options, searched and changed."""
    text = DOCS.read_text()
    (module,), (experiment,) = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "yaml"))
    (networks / "networks.py").write_text(module)
    (networks / "own.yaml").write_text(experiment)
    small = settings(
        "data.subset=60", "train.batch_size=20", "data.validation=0", "quality.samples=50", "train.device=cpu"
    )
    answer = harness("run", "own.yaml", *small, "--epochs", "2", "--no-system-metrics")
    assert answer.code == 0, answer.err
    run = only_run()
    assert (run.data.params["generator.kind"], run.data.params["generator.width"]) == ("networks:Generator", "128")
    kept = client().download_artifacts(run.info.run_id, "networks/networks.py")
    assert Path(kept).read_text() == module
    assert harness("sample", "latest", "--trust", "--count", "10", "--out", "digits.png").code == 0
    packed = settings("conditional=false", "discriminator.pack=2", "discriminator.dropout=0", "objective.r1=1")
    seeds = harness("run", "own.yaml", *small, *packed, "--epochs", "1", "--seeds", "2", "--batch-runs", "2")
    assert seeds.code == 0, seeds.err
    (said,) = re.findall(r"^    harness: (discriminator.kind .*)$", text, re.MULTILINE)
    (networks / "networks.py").write_text(
        module.replace("logits = self.last(hidden).squeeze(1)", "return self.last(hidden)")
    )
    sys.modules.pop("networks")
    answer = harness("run", "own.yaml", *small, "--set", "conditional=false")
    assert answer.code == 2
    assert said in answer.err


def test_the_recipe_of_the_docs_is_an_experiment(harness: Harness, networks: Path) -> None:
    (command,) = re.findall(r"^    harness (run r3gan .*?) +#", OBJECTIVES.read_text(), re.MULTILINE)
    answer = harness(*command.split(), "--set", "train.precision=fp32", "--dry-run")
    assert answer.code == 0, answer.err
    assert "kind: relativistic" in answer.out
    assert "r2: 0.5" in answer.out


def test_seeds_of_them_are_trained_together(harness: Harness, networks: Path) -> None:
    answer = harness("run", "tiny.yaml", *OWN, "--seeds", "2", "--batch-runs", "2", "--epochs", "1")
    assert answer.code == 0, answer.err
    assert answer.out.count("FINISHED") == 3


def settings(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ["generator.kind=networks:Flat"],
            "generator.kind networks:Flat returned [2, 784] for [2, 8]; expected [2, 1, 28",
        ),
        (["discriminator.kind=networks:Column"], "returned [2, 1] for [2, 1, 28, 28]; expected [2]"),
        (["discriminator.kind=networks:Pair"], "returned tuple for [2, 1, 28, 28]; expected [2]"),
        (["generator.kind=networks:Absent"], "networks has no torch.nn.Module class named 'Absent'"),
        (["generator.kind=networks:function"], "networks has no torch.nn.Module class named 'function'"),
        (["generator.kind=networks:torch"], "networks has no torch.nn.Module class named 'torch'"),
        (["generator.kind=nowhere:Generator"], "generator.kind nowhere:Generator: cannot import 'nowhere': No module"),
        (
            ["discriminator.kind=broken:D"],
            "discriminator.kind broken:D: cannot import 'broken': No module named 'absent",
        ),
        (["generator.kind=networks:Unfinished"], "Unfinished((1, 28, 28), inputs=8) failed: not"),
        (
            ["generator.kind=networks:Generator", "generator.size=3"],
            "inputs=8) failed: Generator.__init__() got an unexp",
        ),
        (["generator.kind=networks:Idle"], "the output does not depend on the weight spare.weight: remove it"),
        (["generator.kind=networks:Weightless"], "generator.kind networks:Weightless has no weights to train"),
        (
            ["discriminator.kind=networks:Dropping"],
            "returned another output for the same inputs: it must be a pure function",
        ),
        (
            ["discriminator.kind=networks:Deaf"],
            "discriminator.kind networks:Deaf failed on [2, 1, 28, 28]: Deaf.forward()",
        ),
        (
            ["discriminator.kind=networks:Discriminator", "discriminator.dropout=0.2"],
            "discriminator.dropout is 0.2, but networks:Discriminator has no attribute mask_shapes",
        ),
        (
            ["discriminator.kind=networks:Normalised", "objective.r1=1"],
            "networks:Normalised: the logit of an image depends on the rest of the batch (as with batch norm)",
        ),
        (
            ["generator.kind=networks:Generator", "generator.inputs=3"],
            "inputs is 3, but harness passes inputs itself",
        ),
        (["generator.kind=networks:Generator", "generator.w={a: 1}"], "w is {'a': 1}; an option of a custom network"),
        (["generator.kind=networks:Generator", "generator.w=.nan"], "w is nan; an option of a custom network"),
        (
            ["generator.kind=networks:Generator:x"],
            "generator.kind is 'networks:Generator:x'; expected package.module:Cl",
        ),
        (["generator.kind=networks.py:Gen erator"], "expected package.module:Class, such as networks:Generator"),
        (
            ["generator.kind=own"],
            "generator.kind is 'own'; expected 'mlp', 'conv', 'residual', or package.module:Class",
        ),
    ],
)
def test_what_is_wrong_with_one_is_one_line_and_nothing_is_tracked(
    harness: Harness, networks: Path, changes: list[str], said: str
) -> None:
    dropout = [] if any("dropout" in change for change in changes) else ["discriminator.dropout=0"]
    answer = harness("run", "tiny.yaml", *settings(*dropout, *changes))
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert client().search_runs([e.experiment_id for e in client().search_experiments()]) == []


def test_batch_norm_in_d_is_taken_where_no_penalty_asks_for_slopes(harness: Harness, networks: Path) -> None:
    changes = settings("discriminator.kind=networks:Normalised", "discriminator.dropout=0")
    assert harness("run", "tiny.yaml", *changes, "--epochs", "1", "--no-system-metrics").code == 0


def test_a_generator_that_cannot_be_exported_costs_its_models_and_not_its_run(harness: Harness, networks: Path) -> None:
    changes = settings("generator.kind=tests.gan.custom_networks:BranchingGenerator", "discriminator.kind=mlp")
    answer = harness("run", "tiny.yaml", *changes, "--epochs", "1", "--no-system-metrics")
    assert answer.code == 0, answer.err
    assert "no models are logged, only checkpoints: torch.export cannot export" in answer.out
    assert answer.err == ""
    run = only_run()
    assert run.info.status == "FINISHED"
    assert "test/kid" in run.data.metrics
    assert harness("sample", "latest", "--trust", "--out", "digits.png").code == 0
    served = harness("serve", "latest", "--trust")
    assert served.code == 2
    assert "torch.export cannot export generator.kind tests.gan.custom_networks:BranchingGenerator" in served.err


def test_trials_that_cannot_share_one_program_are_trained_one_after_the_other(
    harness: Harness, networks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart: list[int] = []
    from harness.tuning import train_runs

    def watching(plans: list[RunSpec], *rest: object) -> list[RunResult]:
        apart.append(len(plans))
        return run_batched(plans, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(train_runs, "run_batched", watching)
    changes = settings(
        "generator.kind=tests.gan.custom_networks:BranchingGenerator",
        "discriminator.dropout=0",
        "data.validation=100",
        "search.optimizer.lr={low: 1e-4, high: 1e-2, log: true}",
    )
    options = ("--trials", "2", "--batch-runs", "2", "--pruner", "none", "--no-system-metrics")
    said = harness("tune", "tiny.yaml", *changes, *options)
    assert said.code == 0, said.err
    assert apart == [2]
    trials = [run for run in client().search_runs(["1"]) if "harness.trial" in run.data.tags]
    assert [run.info.status for run in trials] == ["FINISHED"] * 2
    best = experiments.load(Path("mlruns/studies/tiny/best.yaml"))
    assert best.generator.kind == "tests.gan.custom_networks:BranchingGenerator"


# In the core -----------------------------------------------------------------------------------------------------


def test_a_module_beside_the_working_directory_is_found(tiny: Experiment, images: Images, networks: Path) -> None:
    plan = tiny.with_values({"generator.kind": "networks:Generator", "generator.width": 3})
    generator, _ = build(plan, images)
    assert type(generator).__name__ == "Generator"
    assert len(generator.get_parameter("layers.0.weight")) == 3


def test_the_weights_come_from_the_seed_and_trying_leaves_no_trace(tiny: Experiment, images: Images) -> None:
    plan = tiny.with_values(PAIR)
    before = torch.get_rng_state()
    pairs = [build(plan, images) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    for first, second in zip(*pairs, strict=True):
        states = first.state_dict().values(), second.state_dict().values()
        assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
        assert all(weight.grad is None for weight in first.parameters())
    other, _ = build(plan.with_values({"train.seed": 1}), images)
    assert not torch.equal(other.get_parameter("first.weight"), pairs[0][0].get_parameter("first.weight"))


def test_frozen_weights_stay_as_they_are(tiny: Experiment, images: Images, networks: Path) -> None:
    with (networks / "networks.py").open("a") as module:
        module.write(
            "\n\nclass Frozen(Discriminator):\n    def __init__(self, shape, **options):\n"
            "        super().__init__(shape, **options)\n        self.layers[1].requires_grad_(False)\n"
        )
    plan = tiny.with_values({"discriminator.kind": "networks:Frozen", "discriminator.dropout": 0})
    plans = [plan.with_values({"train.seed": seed}) for seed in range(2)]
    alone, members = ([Training(each, images, dtype=torch.float64) for each in plans] for _ in range(2))
    frozen = [training.discriminator.get_parameter("layers.1.weight").clone() for training in alone]
    for _ in BatchedTraining(members):
        pass
    for lone, member, before in zip(alone, members, frozen, strict=True):
        list(lone)
        assert torch.equal(lone.discriminator.get_parameter("layers.1.weight"), before)
        assert torch.equal(member.discriminator.get_parameter("layers.1.weight"), before)
        pairs = zip(weights(lone), weights(member), strict=True)
        assert all(torch.allclose(a, b, rtol=0, atol=1e-9) for a, b in pairs)


def test_those_that_cannot_be_vectorised_are_refused_together_and_trained_alone(
    tiny: Experiment, images: Images
) -> None:
    plan = tiny.with_values({**PAIR, "discriminator.kind": "tests.gan.custom_networks:Branching"})
    trainings = [Training(plan.with_values({"train.seed": seed}), images) for seed in range(2)]
    before = [value.clone() for training in trainings for value in weights(training)]
    with pytest.raises(
        HarnessError,
        match=r"vmap, which batched training needs, cannot map .*Branching: .*; train these one after the other",
    ):
        BatchedTraining(trainings)
    after = [value for training in trainings for value in weights(training)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert resolve_batch_runs(plan, images, 3, compare=lambda other, current: True) == 1
    assert trainings[0].train_epoch().diverged is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, True),
        ({**PAIR, "conditional": True, "discriminator.pack": 1}, True),
        ({**PAIR, "discriminator.pack": 2, "discriminator.spectral_norm": True}, True),
        ({"discriminator.kind": "networks:Normalised", "discriminator.dropout": 0}, True),
        ({**PAIR, "discriminator.kind": "tests.gan.custom_networks:Branching"}, False),
        ({**PAIR, "generator.kind": "tests.gan.custom_networks:BranchingGenerator"}, False),
    ],
)
def test_a_step_is_recorded_only_where_no_network_looks_at_values(
    tiny: Experiment, images: Images, networks: Path, values: dict[str, object], expected: bool
) -> None:
    plan = tiny.with_values(values)
    built = build(plan, images)
    before = [value.clone() for network in built for value in network.state_dict().values()]
    assert can_be_recorded(plan, images, *built) is expected
    after = [value for network in built for value in network.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_trying_a_population_trains_nothing(tiny: Experiment, images: Images) -> None:
    plans = [tiny.with_values({**PAIR, "train.seed": seed}) for seed in range(2)]
    trainings = [Training(plan, images) for plan in plans]
    before = [value.clone() for training in trainings for value in weights(training)]
    BatchedTraining(trainings)
    after = [value for training in trainings for value in weights(training)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(training.generator_optimizer.state for training in trainings)


@pytest.mark.parametrize(
    "values",
    [{"generator.latent": 6}, {"generator.width": 3}, {"generator.latent_scale": 2}, {"discriminator.dropouts": 1}],
)
def test_what_shapes_a_network_of_ones_own_must_be_common_to_a_population(
    tiny: Experiment, values: dict[str, object]
) -> None:
    """Zeros after the noise may mean anything to it, and so may every option, whatever it is called."""
    plan = tiny.with_values(PAIR)
    assert batch_key(plan) != batch_key(plan.with_values(values))
    assert batch_key(plan) == batch_key(plan.with_values({"train.seed": 5, "discriminator.dropout": 0.1}))
    assert batch_key(tiny) == batch_key(tiny.with_values({"generator.latent": 6})), "harness's own take any"


def test_setting_the_kind_that_it_has_keeps_the_options(tiny: Experiment) -> None:
    own = tiny.with_values({**PAIR, "generator.width": 3})
    assert own.with_values({"generator.kind": PAIR["generator.kind"]}) == own
    assert re.search(r"width: 3", own.to_yaml())
    other = own.with_values({"generator.kind": "tests.gan.custom_networks:BranchingGenerator"})
    assert "generator.width" not in other.flatten(), "options of another class are not its own"
