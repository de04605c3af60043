"""The tests of harness/a/b.py are in tests/a/test_b.py, or where this table says."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]

# Modules that are tested through what they are part of: commands, one public function, one kind of file.
ELSEWHERE = {
    # The Python API, function by function; its time estimates with the display that shows them.
    "api/test_api.py": (
        "checks comparisons confirmation context evaluation html listings models options plans runs samples search "
        "stores studies study_table training tuning workers",
        "api",
    ),
    "api/test_display.py": ("eta live_line progress study_display", "api"),
    # Where workers run.
    "executors/test_local.py": ("base registry", "executors"),
    "executors/test_slurm.py": ("supervise", "executors"),
    # Commands, as they are typed.
    "cli/test_run.py": ("inspect maintain run_output", "cli"),
    "cli/test_typed.py": ("common options", "cli"),
    "cli/test_completion.py": ("shells", "cli"),
    "cli/test_pasted.py": ("serve study_output tune", "cli"),
    "cli/test_tables.py": ("compare", "cli"),
    # `data.load` and the registry; the interface of a data set, by each of them.
    "data/test_images.py": ("registry source", "data"),
    "data/test_folder.py": ("decoding mnist progress", "data"),
    # Experiments as files: sections, YAML, names.
    "experiment/test_experiment.py": (
        "annotations base loading networks param_names scheduled schedules sections yaml_text",
        "experiment",
    ),
    "experiment/test_search_space.py": ("dimensions search", "experiment"),
    "experiment/test_trust.py": ("custom", "experiment"),
    # What `auto` stands for: timed, remembered, asked of the hardware. Networks: all kinds by the same tests.
    "gan/test_auto.py": ("auto_cache hardware timing", "gan"),
    "gan/test_training.py": ("optimizers report sampling", "gan"),
    "gan/test_randomness.py": ("step_noise", "gan"),
    "gan/test_losses.py": ("batch_images logits", "gan"),
    "gan/test_batched.py": ("grouped stacked_network", "gan"),
    "gan/networks/test_networks.py": ("conv layers mlp residual", "gan/networks"),
    # A judge is its network and its training; scores as runs get them.
    "quality/test_judge.py": ("judges networks train_judge", "quality"),
    "quality/test_scorer.py": ("cache score_set", "quality"),
    "results/test_evaluate.py": ("load", "results"),
    "results/compare/test_compare.py": ("sample_grids selection table", "results/compare"),
    "results/compare/test_report.py": ("curves style", "results/compare"),
    # A run as it is trained, and as it ends.
    "runs/test_session.py": ("artifacts display final options resumable", "runs"),
    # A study from its command to its run; its trials are in tuning/test_trials.py.
    "tuning/test_tune.py": (
        "confirm dashboard edges new_study open_study plan settings study_run study_job trial_times worker",
        "tuning",
    ),
    "tuning/test_trials.py": (
        "held_trials list_studies monitor progress request shared_study storage trial_values",
        "tuning",
    ),
    "tuning/test_seeded_trial.py": ("pruning train_runs", "tuning"),
    "tuning/test_plots.py": ("figures lineage trial_grids", "tuning"),
    # A run's log from the spool to the store, processes that die, servers that fail.
    "tracking/test_run_log.py": (
        "background_shipper batches event_writer item_log shipping spool system_metrics",
        "tracking",
    ),
    "tracking/test_crash.py": ("before_resume logged_items process_tags recovery", "tracking"),
    "tracking/test_copy_runs.py": ("copy_contents", "tracking"),
    "tracking/test_lossy_server.py": ("retries", "tracking"),
    "tracking/test_store.py": ("artifacts ended_runs errors experiments sqlite_store store_reader", "tracking"),
    "tracking/test_sampler.py": ("sampler_code", "tracking"),
}
# In another folder than the module: what a command does, and what it leaves.
ELSEWHERE_ABROAD = {
    "harness/formatting.py": "cli/test_pasted.py",  # lines to paste
    "harness/quality/scoring.py": "results/test_evaluate.py",
    "harness/results/export.py": "tracking/test_sampler.py",
    "harness/results/sample.py": "cli/test_sample.py",
    "harness/runs/batched.py": "results/test_evaluate.py",
    "harness/runs/doctor.py": "cli/test_run.py",
    "harness/runs/prepare.py": "cli/test_typed.py",
    "harness/runs/provenance.py": "results/test_changes.py",
    "harness/runs/seed_summary.py": "results/test_evaluate.py",
    "harness/runs/seed_workers.py": "executors/test_slurm_commands.py",
    "harness/runs/seeds.py": "results/test_evaluate.py",
    "harness/runs/small_data.py": "cli/test_typed.py",
    "harness/runs/smoke_test.py": "cli/test_run.py",
    "harness/runs/train.py": "cli/test_run.py",
    "harness/servers/ports.py": "servers/test_model_server.py",
    "harness/tracking/offline.py": "api/test_deliver.py",
    "harness/tracking/run_duration.py": "cli/test_run.py",
    "harness/tracking/ui_links.py": "browser/test_ui.py",
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
