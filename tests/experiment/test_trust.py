"""Code that a stored run or study names: imported only with --trust, whichever command would need it."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness import experiment as experiments
from harness.errors import HarnessError
from harness.experiment import trust
from harness.experiment.custom import import_class
from harness.quality import load_judge
from harness.tuning import worker_pool
from harness.tuning.request import TuneRequest

from ..commands import Harness, only_run, run_named
from ..tuning.common import QUIET, optuna_trials, runs, the_study

NETWORKS = """
import math
from pathlib import Path
from torch import nn

Path("{module} was imported").touch()


class Generator(nn.Module):
    def __init__(self, shape, *, inputs):
        super().__init__()
        self.shape = shape
        self.layers = nn.Sequential(nn.Linear(inputs, math.prod(shape)), nn.Tanh())

    def forward(self, noise):
        return self.layers(noise).view(-1, *self.shape)


class Judge(nn.Module):
    def forward(self, pixels):
        return pixels.flatten(1)[:, ::31].float() / 255
"""


@pytest.fixture
def code(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with deploy.py in it, which leaves a file behind when it is imported."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if str(workplace.parents[1]) not in place])
    (workplace / "deploy.py").write_text(NETWORKS.format(module="deploy"))
    sys.modules.pop("deploy", None)
    yield workplace
    sys.modules.pop("deploy", None)


def forget(code: Path) -> None:
    """As a new process would begin: nothing is imported."""
    sys.modules.pop("deploy", None)
    (code / "deploy was imported").unlink(missing_ok=True)


def assert_refused(harness: Harness, code: Path, *arguments: str) -> str:
    said = harness(*arguments)
    assert (said.code, said.err.count("\n")) == (2, 1), said.err
    assert f"(from {code / 'deploy.py'})" in said.err
    assert "--trust" in said.err
    assert not (code / "deploy was imported").exists()
    assert "deploy" not in sys.modules
    return said.err


# Commands --------------------------------------------------------------------------------------------------------


def test_the_judge_of_a_stored_run_is_not_imported_without_trust(harness: Harness, code: Path) -> None:
    run = ("run", "tiny.yaml", "--set", "quality.judge=deploy:Judge", "--epochs", "1", "--no-system-metrics")
    assert harness(*run, "--name", "foreign").code == 0, "the user named it: it is trusted"
    before = only_run()
    forget(code)
    said = assert_refused(harness, code, "evaluate", "foreign")
    assert "the experiment of run foreign" in said
    assert "quality.judge deploy:Judge" in said
    assert_refused(harness, code, "run", "--resume", "foreign", "--epochs", "2")
    assert harness("sample", "foreign", "--out", "a.png", "--count", "4").code == 0, "it needs no judge"
    assert harness("evaluate", "foreign", "--judge", "first").code == 0, "nor does another judge"
    assert not (code / "deploy was imported").exists()
    after = only_run().info
    assert (after.status, after.end_time) == (before.info.status, before.info.end_time)
    assert harness("evaluate", "foreign", "--trust").code == 0
    assert (code / "deploy was imported").exists()
    forget(code)
    assert harness("evaluate", "foreign", "--judge", "deploy:Judge").code == 0, "the user names it"


def test_the_networks_of_a_stored_run_are_not_imported_without_trust(harness: Harness, code: Path) -> None:
    own = ("--set", "generator.kind=deploy:Generator", "--epochs", "1", "--no-system-metrics")
    assert harness("run", "tiny.yaml", *own, "--name", "one").code == 0
    assert harness("run", "tiny.yaml", *own, "--name", "two", "--seeds", "2", "--batch-runs", "1").code == 0
    forget(code)
    for arguments in (
        ("sample", "one", "--out", "a.png"),
        ("sample", "one", "--out", "a.png", "--stored-code"),
        ("sample", "one", "--out", "a.png", "--interpolate"),
        ("write", "one", "2026"),
        ("evaluate", "one"),
        ("evaluate", "two"),
        ("run", "--resume", "one", "--epochs", "2"),
        ("run", "--resume", "two"),
    ):
        assert_refused(harness, code, *arguments)
    for words in (("compare", "one", "two"), ("promote", "one", "--as", "digits"), ("runs",)):
        assert harness(*words).code == 0, "these import nothing"
    assert not (code / "deploy was imported").exists()
    assert run_named("one").info.status == run_named("two").info.status == "FINISHED"
    assert harness("sample", "one", "--out", "a.png", "--trust").code == 0


def test_a_study_names_code_too(harness: Harness, code: Path) -> None:
    from ..tuning.common import SMALL

    searched = "search:\n  optimizer.lr: {low: 1e-4, high: 1e-2, log: true}\n"
    text = SMALL.partition("search:")[0] + searched
    text = text.replace("{kind: mlp, latent: 8, widths: [16, 16]}", '{kind: "deploy:Generator", latent: 8}')
    (code / "small.yaml").write_text(text)
    options = (*QUIET, "--epochs", "1", "--pruner", "none")
    assert harness("tune", "small.yaml", *options, "--trials", "1").code == 0
    forget(code)
    said = assert_refused(harness, code, "tune", "--study", "small", *QUIET, "--trials", "2")
    assert "the experiment of study small names code to import: generator.kind deploy:Generator" in said
    assert harness("studies").code == 0
    assert not (code / "deploy was imported").exists()
    assert (the_study().info.status, len(optuna_trials())) == ("FINISHED", 1)
    assert harness("tune", "small.yaml", *options, "--trials", "2").code == 0, "the file names the same class"
    forget(code)
    assert harness("tune", "--study", "small", *QUIET, "--trials", "3", "--trust").code == 0
    assert [run.info.status for run in runs("trial").values()] == ["FINISHED"] * 3


def test_workers_inherit_what_may_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []

    class Process:
        def __init__(self, target: Any, args: tuple[Any, ...], daemon: bool) -> None:
            started.extend(args)

        def start(self) -> None: ...

    monkeypatch.setattr(
        "harness.tuning.worker_pool.multiprocessing.get_context", lambda kind: SimpleNamespace(Process=Process)
    )
    trust.set_policy(trust.Policy(trust=True, stored_code=True, strict=True, allowed={"a:B"}))
    named: Any = SimpleNamespace(name="study", uri="sqlite:///x", root=Path())
    worker_pool._spawn(0, named, TuneRequest(), named)
    place = pickle.loads(pickle.dumps(started[0]))
    assert place.policy == trust.get_policy()


# The policy ------------------------------------------------------------------------------------------------------


@pytest.fixture
def policy() -> trust.Policy:
    return trust.get_policy()


def test_in_a_notebook_only_what_a_store_names_is_refused(policy: trust.Policy, code: Path) -> None:
    text = experiments.load("tiny.yaml").with_values({"generator.kind": "deploy:Generator"}).to_yaml()
    assert import_class("deploy:Generator", "generator.kind").__name__ == "Generator"
    experiments.from_store(text, "the experiment of run x")
    with pytest.raises(trust.UntrustedError, match=r"the experiment of run x names code to import: generator.kind dep"):
        import_class("deploy:Generator", "generator.kind")
    with trust.trusting():
        import_class("deploy:Generator", "generator.kind")
    with pytest.raises(trust.UntrustedError):
        import_class("deploy:Generator", "generator.kind")
    (code / "mine.yaml").write_text(text)
    experiments.load("mine.yaml")
    import_class("deploy:Generator", "generator.kind")


def test_strictly_whatever_the_user_has_not_named_is_refused(policy: trust.Policy, code: Path) -> None:
    """Wherever the name came from: a search's choices, a trial's params, a budget."""
    policy.strict = True
    with pytest.raises(trust.UntrustedError, match=r"the store names code to import: quality.judge deploy:Judge"):
        import_class("deploy:Judge", "quality.judge")
    trust.allow(["deploy:Judge", "first", None])
    import_class("deploy:Judge", "quality.judge")


def test_choices_of_a_search_in_the_users_file_are_given(policy: trust.Policy, code: Path) -> None:
    from harness.experiment import search_space

    policy.strict = True
    choices = ["search.generator.kind=[mlp, 'deploy:Generator']", "search_budget.quality.judge=deploy:Judge"]
    search_space.load("tiny.yaml", choices)
    assert policy.allowed == {"deploy:Generator", "deploy:Judge"}


def test_finding_the_file_imports_nothing(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    for place in ("pack/__init__.py", "pack/inner/__init__.py", "pack/inner/nets.py", "space/nets.py"):
        (workplace / place).parent.mkdir(parents=True, exist_ok=True)
        (workplace / place).write_text("raise AssertionError('it was imported')")
    assert trust.find_module("pack.inner.nets") == workplace / "pack" / "inner" / "nets.py"
    assert trust.find_module("pack.inner") == workplace / "pack" / "inner" / "__init__.py"
    assert trust.find_module("space.nets") == workplace / "space" / "nets.py", "a folder without __init__.py"
    for absent in ("pack.other.nets", "nowhere", "space", "sys", "pack.inner.nets.more"):
        assert trust.find_module(absent) is None, absent
    assert not {"pack", "pack.inner", "pack.inner.nets", "space"} & set(sys.modules)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("the weights were run"),)


def test_judge_weights_of_somebody_else_are_read_and_not_run(code: Path, policy: trust.Policy) -> None:
    from harness import data

    images = data.load("mnist", subset=10).train
    for name, content in (("harmful.pt", {"weight": Harmful()}), ("wrong.pt", [1, 2])):
        torch.save(content, name)
        with pytest.raises(HarnessError, match=r"weights .* cannot be used"):
            load_judge("deploy:Judge", images, weights=Path(name))
    assert not Path("the weights were run").exists()
