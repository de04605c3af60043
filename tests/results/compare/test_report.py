"""The page of a comparison holds everything itself."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

from ...commands import Harness


class Page(HTMLParser):
    """What a page asks for, the tables and texts in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.cells: list[str] = []
        self._inside: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside.append(tag)
        self.asked += [value or "" for name, value in attrs if name == "src" or (name == "href" and tag == "link")]

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            while self._inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "td" in self._inside:
            self.cells.append(data)


def test_the_page_asks_for_nothing_and_shows_the_logged_grids(gallery: Harness, filled: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    said = gallery("compare", "--study", "small", "--html", str(out))
    assert said.code == 0, said.err
    page = Page(out)
    assert len(page.asked) == 5
    logged = {path.read_bytes() for path in (filled / "mlruns/artifacts").glob("gan/*/artifacts/samples/*.png")}
    pixels = {_pixels(data) for data in logged}
    for source in page.asked:
        head, _, data = source.partition(",")
        assert head == "data:image/png;base64"
        assert _pixels(base64.b64decode(data)) in pixels
    text = out.read_text(encoding="utf-8")
    for identity in ("figure-params", "figure-quality-kid", "figure-loss-generator"):
        assert f'id="{identity}"' in text
    assert text.count("plotly.js v") == 1, "the library is there, once"
    assert {"small-0", "small-4"} <= set(page.cells)


def test_a_run_has_the_same_colour_and_dash_everywhere_and_no_other_run_has_both(
    gallery: Harness, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    said = gallery("compare", "slow", "quick", "seeds", "--study", "small", "--html", str(out))
    assert said.code == 0, said.err
    text = out.read_text(encoding="utf-8")
    mark = re.compile(r'<svg class="mark".*?stroke="(#\w+)" stroke-width="4"(?: stroke-dasharray="([\d ]+)")?/>')
    table, _, rest = text.partition('<section id="samples">')
    listed = mark.findall(table)
    assert len(set(listed)) == len(listed) == 8
    assert mark.findall(rest.partition("</section>")[0]) == listed
    dashes = {"": "solid", "9 9": "dash"}
    figure = text.partition('id="figure-loss-generator"')[2].partition("</script>")[0]
    drawn = re.findall(r'"line":\{"color":"(#\w+)","dash":"(\w+)"', figure)
    assert set(drawn) <= {(colour, dashes[dash]) for colour, dash in listed}
    assert len(drawn) == len(set(drawn)) >= 7
    assert '"tick0":0,"dtick":1' in figure, "there is no epoch 1.5"


def _pixels(data: bytes) -> bytes:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.tobytes()


def test_names_cannot_break_the_page(harness: Harness, tmp_path: Path) -> None:
    wicked = "<script>alert('1')</script>&\"</td>"
    for name in (wicked, "tame"):
        assert harness("run", "tiny.yaml", "--name", name, "--epochs", "1", "--no-system-metrics").code == 0
    out = tmp_path / "page.html"
    said = harness("compare", "--experiment", "tiny", "--html", str(out))
    assert said.code == 0, said.err
    text = out.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert wicked in Page(out).cells
    assert re.search(r"\\u003cscript\\u003ealert|&lt;script&gt;alert|\\u0026lt;script", text)
