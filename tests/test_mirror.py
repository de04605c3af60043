"""The tests of harness/a/b.py are in tests/a/test_b.py, or where this table says."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]

# Modules that are tested through what they are part of: commands, one public function, one kind of file.
ELSEWHERE = {
    # The Python API, function by function; its time estimates with the display that shows them.
    "api/test_api.py": ("arguments comparisons html runs samples session starting studies tuning", "api"),
    "api/test_display.py": ("progress remaining", "api"),
    # Commands, as they are typed.
    "cli/test_run.py": ("inspect maintain", "cli"),
    "cli/test_typed.py": ("common", "cli"),
    "cli/test_completion.py": ("shells", "cli"),
    "cli/test_pasted.py": ("serve tune", "cli"),
    "cli/test_tables.py": ("compare", "cli"),
    # `data.load` and the registry; the interface of a data set, by each of them.
    "data/test_images.py": ("base sources", "data"),
    "data/test_folder.py": ("progress", "data"),
    # Experiments as files: sections, YAML, names.
    "experiment/test_experiment.py": ("base loading networks param_names scores sections yaml_text", "experiment"),
    "experiment/test_search_space.py": ("dimensions", "experiment"),
    "experiment/test_trust.py": ("custom", "experiment"),
    # What `auto` stands for: timed, remembered, asked of the hardware. Networks: all kinds by the same tests.
    "gan/test_auto.py": ("auto_cache hardware timing", "gan"),
    "gan/networks/test_networks.py": ("conv layers mlp residual", "gan/networks"),
    # A judge is its network and its training; scores as runs get them.
    "quality/test_judge.py": ("networks train_judge", "quality"),
    "quality/test_scorer.py": ("cache ranked", "quality"),
    "results/test_evaluate.py": ("load", "results"),
    "results/compare/test_compare.py": ("selection table tiles", "results/compare"),
    "results/compare/test_report.py": ("curves looks", "results/compare"),
    # A study from its command to its run; its trials are in tuning/test_trials.py.
    "tuning/test_tune.py": (
        "confirm dashboard open_study plan settings study_run trial_times worker worker_pool",
        "tuning",
    ),
    "tuning/test_trials.py": ("list_studies progress request storage", "tuning"),
    # A run's log from the spool to the store, processes that die, servers that fail.
    "tracking/test_runlog.py": ("shipping spool system", "tracking"),
    "tracking/test_crash.py": ("inventory process_tags recovery", "tracking"),
    "tracking/test_lossy_server.py": ("creating", "tracking"),
    "tracking/test_store.py": ("artifacts", "tracking"),
    "tracking/test_sampler.py": ("sampler_code", "tracking"),
}
# In another folder than the module: what a command does, and what it leaves.
ELSEWHERE_ABROAD = {
    "harness/formatting.py": "cli/test_pasted.py",  # lines to paste
    "harness/quality/scoring.py": "results/test_evaluate.py",
    "harness/results/export.py": "tracking/test_sampler.py",
    "harness/runs/batched.py": "results/test_evaluate.py",
    "harness/runs/doctor.py": "cli/test_run.py",
    "harness/runs/prepare.py": "cli/test_typed.py",
    "harness/runs/provenance.py": "results/test_changes.py",
    "harness/runs/seeds.py": "results/test_evaluate.py",
    "harness/runs/small_data.py": "cli/test_typed.py",
    "harness/runs/smoke_test.py": "cli/test_run.py",
    "harness/runs/train.py": "cli/test_run.py",
    "harness/servers/ports.py": "servers/test_model_server.py",
    "harness/tracking/durations.py": "cli/test_run.py",
    "harness/tracking/pages.py": "browser/test_ui.py",
    "harness/tracking/registry.py": "servers/test_model_server.py",
    "harness/tracking/views.py": "servers/test_ui.py",
}
NO_BEHAVIOUR = {"harness/_version.py"}


def test_every_module_has_its_tests_where_one_looks() -> None:
    listed = {
        f"harness/{folder}/{name}.py": test for test, (names, folder) in ELSEWHERE.items() for name in names.split()
    }
    listed |= ELSEWHERE_ABROAD
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "harness").rglob("*.py")}
    modules = {path for path in modules if not path.endswith(("__init__.py", "__main__.py"))} - NO_BEHAVIOUR
    mirrored = {path for path in modules if (ROOT / "tests" / _mirror(path)).is_file()}
    assert modules - mirrored - set(listed) == set(), "without tests: add a file, or a line to the table"
    assert set(listed) - (modules - mirrored) == set(), "gone, or tested in a file of that name by now"
    assert {test for test in listed.values() if not (ROOT / "tests" / test).is_file()} == set()


def _mirror(module: str) -> Path:
    path = Path(module).relative_to("harness")
    return path.with_name(f"test_{path.name}")
