"""What the description of a run says, and that a user's own text survives."""

from __future__ import annotations

from harness.tracking import Store, run_description

from ..commands import Harness, client, only_run, run_named

DESCRIBED = ("--set", "description=Tiny digits.", "--no-system-metrics")
SCORED = ("--set", "data.validation=100", "--set", "track.score_every=1")


def test_a_description_has_the_scores_the_experiment_and_the_grid(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", *DESCRIBED, *SCORED).code == 0
    run = only_run()
    first, grid = run_description.generated_text(run.data.tags[run_description.TAG]).split("\n\n")
    assert first.startswith(f"**Test KID {run.data.metrics['test/kid']:.4f} ±")
    assert first.endswith("3 of 3 epochs.** Tiny digits.")
    epoch = int(run.data.tags["harness.best_epoch"])
    path = f"samples%2Fepoch-{epoch:04d}.png"
    assert grid == f"![samples of epoch {epoch}](get-artifact?path={path}&run_uuid={run.info.run_id})"


def test_resuming_replaces_the_description_and_keeps_what_a_user_has_written(harness: Harness) -> None:
    said = harness("run", "tiny.yaml", *DESCRIBED, "--name", "short", "--epochs", "1", "--note", "My *first*.")
    assert said.code == 0, said.err
    run = run_named("short")
    before = run.data.tags[run_description.TAG]
    assert before.startswith(f"My *first*.\n\n{run_description.MARK}\n\n**")
    assert "1 of 1 epoch" in before
    client().set_tag(run.info.run_id, run_description.TAG, before.replace("*first*", "*second*"))
    assert harness("run", "--resume", "short", "--epochs", "2", "--no-system-metrics").code == 0
    after = run_named("short").data.tags[run_description.TAG]
    assert after.startswith(f"My *second*.\n\n{run_description.MARK}\n\n**")
    assert "2 of 2 epochs" in after
    assert "1 of 1 epoch" not in after
    assert after.count("![") == after.count(run_description.MARK) == 1


def test_a_run_that_is_stopped_says_so(harness: Harness) -> None:
    harness("run", "tiny.yaml", *DESCRIBED, "--name", "late", "--max-time", "0.001s")
    assert "**Stopped" in run_named("late").data.tags[run_description.TAG]


def test_a_text_that_is_too_long_changes_nothing() -> None:
    note = "x" * run_description.MAX_LENGTH
    assert run_description.combine(note, "more") == note
    assert run_description.combine("mine", "more") == f"mine\n\n{run_description.MARK}\n\nmore"
    assert (
        run_description.combine(f"mine\n\n{run_description.MARK}\n\nmore", "other")
        == f"mine\n\n{run_description.MARK}\n\nother"
    )


def test_the_description_of_a_run_that_has_ended_is_rewritten(harness: Harness) -> None:
    assert harness("run", "tiny.yaml", *DESCRIBED, "--epochs", "1", "--note", "mine").code == 0
    store, run = Store.open(create=False), only_run()
    store.describe(run.info.run_id, lambda text: text.replace("Tiny", "Small"))
    text = only_run().data.tags[run_description.TAG]
    assert text.startswith("mine\n")
    assert "Small digits." in text
