"""The page of `compare --html`, opened from its file with no network."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from ..commands import Harness


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_opens_offline_and_complains_of_nothing(
    browser: Browser, gallery: Harness, tmp_path: Path, scheme: str
) -> None:
    file = tmp_path / "report.html"
    assert gallery("compare", "--study", "small", "--html", str(file)).code == 0
    context = browser.new_context(offline=True, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else complaints.append(request.url),
    )
    page.goto(file.as_uri())
    images = page.locator("#samples img")
    expect(images).to_have_count(5)
    for index in range(5):
        assert images.nth(index).evaluate("async image => { await image.decode(); return image.naturalWidth; }") == 302
    expect(page.locator("#figure-quality-kid .scatterlayer .points path").first).to_be_visible()
    ground, ink = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    assert _light(ground) > 0.9 if scheme == "light" else _light(ground) < 0.15
    label = page.locator("#figure-quality-kid .xtitle").evaluate("each => getComputedStyle(each).fill")
    assert abs(_light(label) - _light(ink)) < 0.01
    first = page.locator("#runs tbody tr").first
    best = first.inner_text()
    page.locator("#runs th", has_text="KID").click()
    assert first.inner_text() == best
    page.locator("#runs th", has_text="KID").click()
    assert first.inner_text() != best
    page.get_by_text("more curves").click()
    expect(page.locator("#figure-accuracy-fake .scatterlayer .points path").first).to_be_visible()
    context.close()
    assert not complaints


def _light(colour: str) -> float:
    """0 to 1, of `rgb(r, g, b)`."""
    parts = colour[colour.index("(") + 1 : -1].split(",")[:3]
    return sum(float(part) for part in parts) / 3 / 255
