"""`write` as people type it, on real runs that are told the class; every file is opened again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from harness.experiment import Experiment
from harness.gan.randomness import sample_noise
from harness.media.pictures import Picture
from harness.media.typesetting import ASCENT, DESCENT, PITCH
from harness.results.handwriting import generate_digits

from ..commands import Harness, frames_of, size_of

PLAIN = ["run", "tiny.yaml", "--no-system-metrics", "--epochs", "1"]
TOLD = ["--set", "generator.kind=conv", "--set", "discriminator.kind=conv", "--set", "conditional=true"]
TRAINED = [*PLAIN, *TOLD, "--set", "train.ema_half_life=100"]


class Stub(nn.Module):
    """A generator that draws every digit in the grey of its label, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked.append(inputs)
        grey = inputs[:, 8:].argmax(1) * 20 / 127.5 - 1
        return grey.view(-1, 1, 1, 1).expand(-1, 1, 28, 28)


def read(path: str) -> Picture:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def files() -> set[str]:
    return {path.name for path in Path().iterdir()} - {"mlruns", "tiny.yaml"}


def test_the_digits_asked_for_are_drawn_line_by_line(tiny: Experiment) -> None:
    for style in ("one", "each"):
        drawn = generate_digits(Stub(), tiny, [[2, 0, 2], [], [9]], style=style)
        assert [image.shape for image in drawn] == [(3, 28, 28), (0, 28, 28), (1, 28, 28)]
        assert all(image.dtype == torch.uint8 for image in drawn)
        assert [[int(image.float().mean()) for image in line] for line in drawn] == [[40, 0, 40], [], [180]]
    assert [len(line) for line in generate_digits(Stub(), tiny, [[], []])] == [0, 0]


def test_one_hand_is_one_draw_of_noise_a_line_and_else_each_digit_has_its_own(tiny: Experiment) -> None:
    lines = [[1, 2, 3], [1, 2, 3]]
    one, each = Stub(), Stub()
    generate_digits(one, tiny, lines, style="one", seed=5)
    generate_digits(each, tiny, lines, style="each", seed=5)
    (inputs,) = one.asked
    expected = sample_noise(5, 2, 8)
    assert torch.equal(inputs[:, :8], expected[[0, 0, 0, 1, 1, 1]])
    assert not torch.equal(expected[0], expected[1])
    assert inputs[:, 8:].argmax(1).tolist() == [1, 2, 3, 1, 2, 3]
    (inputs,) = each.asked
    assert torch.equal(inputs[:, :8], sample_noise(5, 6, 8))


def test_a_text_is_a_png_that_seed_rows_style_and_ground_change(harness: Harness) -> None:
    said = harness(*TRAINED)
    assert said.code == 0, said.err

    def write(name: str, *options: str, text: str = "2026-11-22") -> bytes:
        said = harness("write", "latest", text, "--out", name, *options)
        assert (said.code, said.err) == (0, ""), said.err
        return Path(name).read_bytes()

    plain = write("a.png")
    assert harness("write", "latest", "2026-11-22", "--out", "z.png").out == "2026-11-22 in z.png\n"
    assert harness("write", "latest", "2026-11-22").out == "2026-11-22 in written.png\n"
    assert plain == Path("written.png").read_bytes()
    assert harness("write", "latest", "--out", "y.png", "--", "-5").out == "-5 in y.png\n"
    picture = read("a.png")
    assert picture.shape[0] == 4 * (ASCENT + DESCENT)
    assert picture.any()
    assert plain == write("b.png")
    for name, *options in (
        ("c.png", "--seed", "1"),
        ("d.png", "--style", "each"),
        ("e.png", "--raw"),
    ):
        assert plain != write(name, *options)
    assert plain == write("f.png", "--weights", "last", "--style", "one", "--scale", "4")

    write("g.png", "--paper")
    assert np.array_equal(read("g.png"), 255 - picture)
    write("h.png", "--scale", "2")
    assert size_of(Path("h.png"))[1] == 2 * (ASCENT + DESCENT)

    said = harness("write", "latest", "12\n3", "--rows", "2", "--out", "i.png")
    assert said.out == "12 / 3, 2 times, in i.png\n"
    rows = read("i.png")
    assert rows.shape[0] == 4 * (ASCENT + DESCENT + 3 * PITCH)
    pitch = 4 * PITCH
    assert not np.array_equal(rows[:pitch], rows[2 * pitch : 3 * pitch])


def test_an_animation_is_written_then_held_and_loops(harness: Harness) -> None:
    assert harness(*TRAINED).code == 0
    assert harness("write", "latest", "1-2", "--paper", "--out", "a.png").code == 0
    whole = read("a.png")
    for name in ("a.webp", "a.gif"):
        said = harness("write", "latest", "1-2", "--paper", "--out", name)
        assert (said.code, said.out, said.err) == (0, f"1-2 in {name}\n", "")
        frames, milliseconds, loop = frames_of(Path(name))
        assert loop == 0
        assert sum(milliseconds) == 18 * 50 + 2000
        assert milliseconds[-1] >= 2050
        assert np.array_equal(frames[-1][:, :, 0], whole)
        assert frames[0].shape == (*whole.shape, 3)
        for before, after in pairwise(frames):
            assert (after <= before).all()  # ink on paper is only added
    assert len(frames) > 6
    assert (whole < 255).sum() > 2 * (frames[0][:, :, 0] < 255).sum()


def test_signs_alone_need_no_digit(harness: Harness) -> None:
    assert harness(*TRAINED).code == 0
    assert harness("write", "latest", "./:", "--out", "a.png").code == 0
    assert read("a.png").max() == 255


def test_runs_that_cannot_be_asked_for_a_digit_say_so(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert harness(*PLAIN, "--name", "untold").code == 0
    said = harness("write", "untold", "1", "--out", "a.png")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "run untold" in said.err
    assert "is unconditional, so the class of its digits cannot be chosen: train one with conditional: true" in said.err

    assert harness(*TRAINED, "--name", "clothes").code == 0
    monkeypatch.setattr("harness.results.handwriting.DIGIT_DATASETS", {"letters"})
    said = harness("write", "clothes", "1", "--out", "a.png")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "generates mnist, not the digits 0 to 9" in said.err
    assert files() == set()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["12", "--out", "a.jpg"],
            "--out a.jpg: the name must end in .png (a picture) or .webp",
        ),
        (["12", "--out", "a.npz"], "the name must end in .png"),
        (["2026 AD", "--out", "a.png"], "'A' is not supported: expected digits, spaces, - / . : and new lines"),
        (["", "--out", "a.png"], "the text is empty: expected digits, for example 2026-11-22"),
        (["1" * 101, "--out", "a.png"], "a line of the text has 101 characters; expected at most 100"),
        (["1\n2", "--rows", "51", "--out", "a.png"], "the text has 102 lines, including --rows; expected at most 100"),
        (["1" * 100, "--rows", "100", "--out", "a.png"], "6,880 x 12,832 pixels; expected at most 16 million in all"),
        (["1" * 100, "--rows", "10", "--out", "a.gif"], "6,880 x 1,312 pixels; expected at most 2 million in all"),
        (["12", "--out", "a.png"], "there is no run"),
    ],
)
def test_bad_requests_are_one_line_and_leave_nothing(harness: Harness, arguments: list[str], said: str) -> None:
    answer = harness("write", "latest", *arguments)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert said in answer.err
    assert files() == set()


def test_what_cannot_be_written_to_is_one_line(harness: Harness) -> None:
    assert harness(*TRAINED).code == 0
    Path("file").touch()
    for name in ("file/a.webp", "file/a.png"):
        answer = harness("write", "latest", "1", "--out", name)
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert f"cannot write {name}" in answer.err
    assert files() == {"file"}
