"""The names of our tags are typed in one module, and stay what stored runs and studies have."""

import ast
import re
from pathlib import Path

import pytest

import harness
from harness.experiment.tags import Kind, StudyAttribute, Tag, TrialAttribute

PACKAGE = Path(harness.__file__).parent
NAMES = PACKAGE / "experiment" / "tags.py"
MODULES = {"harness.experiment"}  # also the name of a package, which may be imported by its name


def _names(*groups: type) -> dict[str, str]:
    return {
        f"{group.__name__}.{key}": value
        for group in groups
        for key, value in vars(group).items()
        if not key.startswith("_")
    }


def _typed(path: Path) -> list[str]:
    """Names of ours in the string constants of a module, docstrings apart."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    ]
    names = set(_names(Tag, StudyAttribute, TrialAttribute).values())
    whole = {name for name in names if name[-1] not in "._"}
    found = [text for text in texts if text in names - MODULES or text.startswith(tuple(names - whole))]
    quoted = [match for text in texts for match in re.findall(r"[`'\"](harness\.[\w.]+)[`'\"]", text)]
    in_words = [match for text in texts for match in re.findall(r"\btag(?:ged)? (harness\.\w+)", text)]
    return [*found, *(name for name in quoted + in_words if name in names)]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_name_of_ours_is_typed_in_the_module_of_names_alone(path: Path) -> None:
    if path != NAMES:
        assert _typed(path) == []


def test_the_module_of_names_imports_nothing() -> None:
    tree = ast.parse(NAMES.read_text(encoding="utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_no_name_is_there_twice() -> None:
    for group in (Tag, Kind, StudyAttribute, TrialAttribute):
        names = list(_names(group).values())
        assert len(names) == len(set(names)), group


def test_the_names_are_those_of_stored_runs_and_studies() -> None:
    """A changed value makes stored runs and studies unreadable."""
    assert _names(Tag, Kind, StudyAttribute, TrialAttribute) == {
        "Tag.KIND": "harness.kind",
        "Tag.EXPERIMENT": "harness.experiment",
        "Tag.ID": "harness.id",
        "Tag.VERSION": "harness.version",
        "Tag.HOST": "harness.host",
        "Tag.PID": "harness.pid",
        "Tag.JOB": "harness.job",
        "Tag.PROCESS_START": "harness.process_start",
        "Tag.DEVICE": "harness.device",
        "Tag.THREADS": "harness.threads",
        "Tag.GIT_DIRTY": "harness.git.dirty",
        "Tag.DATASET": "harness.dataset",
        "Tag.DATA_": "harness.data.",
        "Tag.CODE_": "harness.code.",
        "Tag.JUDGE": "harness.judge",
        "Tag.JUDGE_": "harness.judge.",
        "Tag.CHANGED": "harness.changed",
        "Tag.EPOCH": "harness.epoch",
        "Tag.EPOCHS": "harness.epochs",
        "Tag.BEST_EPOCH": "harness.best_epoch",
        "Tag.BEST_": "harness.best_",
        "Tag.SECONDS": "harness.seconds",
        "Tag.RESUMED": "harness.resumed",
        "Tag.DIVERGED": "harness.diverged",
        "Tag.PRUNED": "harness.pruned",
        "Tag.ERROR": "harness.error",
        "Tag.SEEDS": "harness.seeds",
        "Tag.SEEDS_ENDED": "harness.seeds.ended",
        "Tag.BATCH_RUNS": "harness.batch_runs",
        "Tag.STUDY": "harness.study",
        "Tag.STORAGE": "harness.storage",
        "Tag.TRIAL": "harness.trial",
        "Tag.TRIALS_": "harness.trials.",
        "Tag.BEST_TRIAL": "harness.best_trial",
        "Tag.BEST_VALUE": "harness.best_value",
        "Tag.BEST_VALUE_OF_": "harness.best.",
        "Tag.DRAWN_TRIAL": "harness.drawn_trial",
        "Tag.SCORED_TRIAL": "harness.scored_trial",
        "Tag.VERDICT": "harness.verdict",
        "Tag.FRONT": "harness.front",
        "Tag.CONFIRMED": "harness.confirmed",
        "Tag.CONFIRMED_": "harness.confirmed.",
        "Tag.CONFIRM": "harness.confirm",
        "Tag.CONFIRM_BUDGET": "harness.confirm.budget",
        "Tag.CONFIRM_SEEDS": "harness.confirm.seeds",
        "Tag.CONFIRM_TRIAL": "harness.confirm.trial",
        "Tag.EVENT": "harness.event",
        "Tag.MODEL": "harness.model",
        "Tag.RUN_ID": "harness.run_id",
        "Tag.TEST_": "harness.test_",
        "Kind.RUN": "run",
        "Kind.SEED": "seed",
        "Kind.REPLICATES": "replicates",
        "Kind.STUDY": "study",
        "Kind.TRIAL": "trial",
        "Kind.CHECK": "check",
        "Kind.CONFIRM": "confirm",
        "StudyAttribute.SETTINGS": "harness.settings",
        "StudyAttribute.IDENTITY": "harness.identity",
        "StudyAttribute.PARENT": "harness.parent",
        "StudyAttribute.TOTAL": "harness.total",
        "StudyAttribute.KEPT": "harness.kept",
        "TrialAttribute.RUN_ID": "harness.run_id",
        "TrialAttribute.PROCESS": "harness.process",
        "TrialAttribute.ATTEMPT": "harness.attempt",
        "TrialAttribute.AGAIN": "harness.again",
        "TrialAttribute.RETRIED": "harness.retried",
        "TrialAttribute.RETRY_OF": "harness.retry_of",
        "TrialAttribute.SURPLUS": "harness.surplus",
        "TrialAttribute.SEED_SCORES": "harness.seed_scores",
        "TrialAttribute.FROM": "harness.from",
        "TrialAttribute.MEASURED": "harness.measured",
        "TrialAttribute.SEED_MEASURED": "harness.seed_measured",
        "TrialAttribute.RACING": "harness.racing",
        "TrialAttribute.NEEDED_SEEDS": "harness.needed_seeds",
        "TrialAttribute.GIVEN_UP": "harness.given_up",
        "TrialAttribute.SCHEDULE": "harness.schedule",
        "TrialAttribute.VALUES": "harness.values",
        "TrialAttribute.PARENTS": "harness.parents",
        "TrialAttribute.CUSTOM": "harness.experiment.custom",
        "TrialAttribute.PRUNED": "harness.pruned",
        "TrialAttribute.DIVERGED": "harness.diverged",
        "TrialAttribute.ERROR": "harness.error",
    }


@pytest.mark.parametrize(
    "source",
    [
        'run.data.tags.get("harness.kind")',
        'f"harness.best.{path}"',
        "f\"tags.`harness.id` = '{harness_id}'\"",
        "rows(\"AND tags.key = 'harness.study'\")",
        'help("The run is tagged harness.changed.")',
    ],
)
def test_a_typed_name_is_found(tmp_path: Path, source: str) -> None:
    module = tmp_path / "module.py"
    module.write_text(source)
    assert _typed(module)


def test_a_module_and_a_docstring_are_no_typed_names(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text('"""`harness.kind`"""\nimport_module("harness.experiment")\nfiles("harness.data")\n')
    assert _typed(module) == []
