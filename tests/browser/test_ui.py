"""MLflow's UI as `harness ui` opens it, step by step as a newcomer goes through it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from harness.servers import ui
from harness.tracking import Store, ui_links

from ..commands import run_named

CURVE = ".js-plotly-plot .scatterlayer .points path"


@pytest.fixture
def store(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(filled)
    return Store.open(create=False)


def _address(served: str, store: Store, *wanted: str) -> str:
    """Where `harness ui RUN ...` leads, on the server that runs already."""
    return f"{served.partition('/#')[0]}/{ui.choose_page(store, [store.find(text) for text in wanted]).path}"


def _card(page: Page, title: str):  # type: ignore[no-untyped-def]
    """A chart's card, by its title."""
    return page.get_by_test_id("experiment-view-compare-runs-card").filter(has_text=re.compile(title))


def test_the_experiment_opens_in_its_own_view_for_model_training(page: Page, served: str) -> None:
    page.goto(served)
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    expect(page.get_by_role("button", name="harness", exact=True)).to_be_visible()  # the view that is shown
    for name in ("slow", "quick", "seeds", "small"):
        expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    # Sections stand in the order of the view: samples before all numbers.
    sections = page.get_by_text(re.compile(r"^\s*(samples|quality|best|trial|loss)\s*\(\d+\)"))
    expect(sections.first).to_have_text(re.compile("samples"))


def test_a_chart_of_kid_has_points(page: Page, served: str) -> None:
    page.goto(served)
    card = _card(page, "quality/kid(?!_)").first
    expect(card.locator(CURVE).first).to_be_visible()
    assert card.locator(CURVE).count() >= 2


def test_the_list_nests_trials_below_their_study(page: Page, served: str) -> None:
    page.goto(served)
    study = page.get_by_role("row").filter(has=page.get_by_role("link", name="small", exact=True))
    expect(page.get_by_role("link", name="small-3", exact=True)).to_have_count(0)
    study.get_by_role("button").first.click()
    for number in range(5):
        expect(page.get_by_role("link", name=f"small-{number}", exact=True)).to_be_visible()


def test_the_columns_are_those_that_differ(page: Page, served: str) -> None:
    page.goto(served.replace("compareRunsMode=CHART", "compareRunsMode=TABLE"))
    for column in ("metrics.`test/kid`", "metrics.`quality/kid`"):
        expect(page.locator(f'.ag-header-cell[col-id="{column}"]')).to_be_visible()
    page.locator(".ag-body-horizontal-scroll-viewport").evaluate("each => each.scrollLeft = 10000")
    for column in ("params.`optimizer.lr`", "params.`generator.latent`"):
        expect(page.locator(f'.ag-header-cell[col-id="{column}"]')).to_be_visible()


def test_stepping_changes_the_samples(page: Page, served: str) -> None:
    page.goto(served)
    card = _card(page, "samples").first
    images = card.locator("img")
    expect(images.first).to_be_visible()
    before = images.first.get_attribute("src")
    card.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    expect(images.first).not_to_have_attribute("src", before or "")
    assert images.first.evaluate("async image => { await image.decode(); return image.naturalWidth; }") > 200


def test_a_study_opens_as_its_trials_with_the_best_first(page: Page, served: str, store: Store) -> None:
    page.goto(_address(served, store, "small"))
    expect(page.get_by_role("button", name="study small", exact=True)).to_be_visible()
    trials = [run_named(f"small-{number}") for number in range(5)]
    ranked = sorted(trials, key=lambda trial: trial.data.metrics["validation/kid"])
    links = page.get_by_role("link", name=re.compile(r"^small-\d$"))
    expect(links).to_have_text([str(trial.info.run_name) for trial in ranked])
    card = _card(page, "Parallel Coordinates").first
    expect(card.locator("canvas").first).to_be_visible()
    expect(card.get_by_text("validation/kid").first).to_be_visible()  # the objective is the axis that gives the colours
    expect(card.get_by_text("quality/kid")).to_have_count(0)


def test_a_study_shows_its_own_charts_without_being_unfolded(page: Page, served: str) -> None:
    page.goto(served)
    card = _card(page, "best/kid").first
    expect(card.locator(CURVE).first).to_be_visible()
    assert card.locator(CURVE).count() >= 5, "a point a trial"


def test_a_run_opens_as_its_pictures_and_its_curves(page: Page, served: str, store: Store) -> None:
    page.goto(_address(served, store, "quick"))
    expect(page.get_by_role("button", name="run quick", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="slow", exact=True)).to_have_count(0)
    images = _card(page, "samples").first.locator("img")
    expect(images).to_have_count(1)
    expect(_card(page, "quality/kid(?!_)").first.locator(CURVE).first).to_be_visible()
    sections = page.get_by_text(re.compile(r"^\s*\w+\s*\(\d+\)"))
    expect(sections.nth(0)).to_have_text(re.compile("samples"))
    expect(sections.nth(1)).to_have_text(re.compile("quality"))
    expect(page.get_by_text("AI Gateway")).to_have_count(0)  # which the view for language models has


def test_the_page_of_a_run_describes_it_and_shows_its_grid(page: Page, served: str, store: Store) -> None:
    quick = run_named("quick")
    page.goto(f"{served.partition('/#')[0]}/{ui_links.run_page(quick)}")
    expect(page.get_by_role("heading", name="quick")).to_be_visible()
    expect(page.get_by_text(f"Test KID {quick.data.metrics['test/kid']:.4f}")).to_be_visible()
    grid = page.locator("img[src*=get-artifact]")
    assert grid.evaluate("async image => { await image.decode(); return image.naturalWidth; }") == 302
    expect(page.get_by_text("<!--")).to_have_count(0)


def test_the_newest_pictures_come_first(page: Page, served: str) -> None:
    page.goto(served)
    card = _card(page, "samples").first
    expect(card.locator("img").first).to_be_visible()
    names = card.inner_text().split("\n")
    shown = [name for name in names if name in ("slow", "quick", "seeds", "small")]
    assert shown == ["small", "seeds", "quick", "slow"]


def test_several_runs_open_as_their_comparison(page: Page, served: str, store: Store) -> None:
    page.goto(_address(served, store, "slow", "quick"))
    expect(page.get_by_text("Comparing 2 Runs from 1 Experiment").first).to_be_visible()
