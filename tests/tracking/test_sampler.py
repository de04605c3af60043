"""The logged sampler draws what `harness sample` draws, where there is no harness."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.experiment import Experiment

from ..commands import Harness, client, run_named

CONDITIONAL = ("--set", "conditional=true", "--name", "told")

DRAWS = """
import sys
import mlflow, numpy as np, pandas as pd

mlflow.set_tracking_uri(sys.argv[1])
sampler = mlflow.pyfunc.load_model(sys.argv[2])
tables = [pd.DataFrame(rows) for rows in eval(sys.argv[3])]
np.savez(sys.argv[4], *(sampler.predict(table) for table in tables))
assert "harness" not in sys.modules
"""


def _drawn(run_id: str, tables: Sequence[Sequence[Mapping[str, object]]], folder: Path) -> list[np.ndarray]:
    """What the sampler draws in a process that has no harness."""
    uri = f"sqlite:///{Path('mlruns/mlflow.db').absolute()}"
    words = [uri, f"runs:/{run_id}/sampler", repr(tables), str(folder / "drawn.npz")]
    subprocess.run([sys.executable, "-W", "ignore", "-c", DRAWS, *words], check=True, cwd=folder)
    with np.load(folder / "drawn.npz") as arrays:
        return [arrays[name] for name in arrays]


@pytest.mark.slow
def test_it_draws_what_sample_draws(harness: Harness, tmp_path: Path) -> None:
    assert harness("run", "tiny.yaml", "--name", "plain", "--no-system-metrics").code == 0
    rows = [{"count": 7, "seed": 3}, {"count": 12, "seed": 0}]
    (drawn,) = _drawn(run_named("plain").info.run_id, [rows], tmp_path)
    assert drawn.dtype == np.uint8
    assert drawn.shape == (19, 28, 28)
    expected = []
    for row in rows:
        wish = (f"--count={row['count']}", f"--seed={row['seed']}")
        assert harness("sample", "plain", "--out", "x.npz", *wish).code == 0
        expected.append(np.load("x.npz")["images"])
    np.testing.assert_array_equal(drawn, np.concatenate(expected))


@pytest.mark.slow
def test_it_draws_the_digits_that_are_asked_for(harness: Harness, tmp_path: Path) -> None:
    assert harness("run", "tiny.yaml", *CONDITIONAL, "--no-system-metrics").code == 0
    tables: Sequence[Sequence[Mapping[str, object]]] = [
        [{"count": 12, "seed": 5}],
        [{"count": 12, "seed": 5, "digits": "0123456789"}],
        [{"count": 4, "seed": 5, "digits": "2026"}],
        [{"count": 4, "seed": 5, "digits": "7"}],
        [{"count": 4, "seed": 5, "digits": ""}, {"count": 1, "seed": 5, "digits": "7"}],
        [{"count": 1, "seed": 5, "digits": "7"}],
    ]
    in_turn, the_same, year, seven, mixed, single = _drawn(run_named("told").info.run_id, tables, tmp_path)
    assert harness("sample", "told", "--out", "x.npz", "--count", "12", "--seed", "5").code == 0
    np.testing.assert_array_equal(in_turn, np.load("x.npz")["images"])
    np.testing.assert_array_equal(in_turn, the_same)
    for digits, count, drawn in (("2026", 4, year), ("7", 4, seven), ("7", 1, single)):
        wish = ("--count", str(count), "--seed", "5", "--digits", digits)
        assert harness("sample", "told", "--out", "x.npz", *wish).code == 0
        np.testing.assert_array_equal(drawn, np.load("x.npz")["images"])
    assert (year != seven).any(axis=(1, 2)).all(), "another class is another image"
    assert len(mixed) == 5
    np.testing.assert_array_equal(mixed[-1], single[0])


def test_digits_are_the_classes_that_the_network_is_told(tiny: Experiment, tmp_path: Path) -> None:
    import mlflow
    import pandas as pd
    import torch
    from mlflow.exceptions import MlflowException

    from harness import data
    from harness.gan import Training, generate, resolve
    from harness.gan.randomness import sample_noise
    from harness.gan.step_noise import concat_onehot
    from harness.results.export import save_models

    images = data.load_split("mnist", "test")
    training = Training(resolve(tiny.with_values({"conditional": True}), images), images)
    save_models(training.experiment, images, training.generator_ema, tmp_path)
    sampler = mlflow.pyfunc.load_model(str(tmp_path / "sampler"))
    for wanted, seed in (("2026", 5), ("9", 2**63 - 1)):
        inputs = concat_onehot(
            sample_noise(seed, 6, 8), torch.tensor([int((wanted * 6)[at]) for at in range(6)]), 10, 8
        )
        drawn = sampler.predict(pd.DataFrame({"count": [6], "seed": [seed], "digits": [wanted]}))
        np.testing.assert_array_equal(drawn, generate(training.generator_ema, inputs).squeeze(1).numpy())
    for wrong in ("2a", "2 0", "-1", "\u0663"):
        with pytest.raises(MlflowException, match="expected some of 0123456789") as refused:
            sampler.predict(pd.DataFrame({"count": [1], "seed": [0], "digits": [wrong]}))
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def _files_of_the_sampler() -> Path:
    """Of a run that is not told classes."""
    outputs = client().get_run(run_named("quick").info.run_id).outputs.model_outputs
    models = [client().get_logged_model(output.model_id) for output in outputs]
    (sampler,) = [model for model in models if model.name == "sampler"]
    return Path(sampler.artifact_location.removeprefix("file://"))


@pytest.fixture
def loaded(gallery: Harness):  # type: ignore[no-untyped-def]
    import mlflow

    return mlflow.pyfunc.load_model(str(_files_of_the_sampler()))


def test_png_is_a_grid_a_row(loaded) -> None:  # type: ignore[no-untyped-def]
    import base64
    import io

    import pandas as pd
    from PIL import Image

    table = pd.DataFrame({"count": [23, 3], "seed": [1, 2]})
    first, second = loaded.predict(table, params={"format": "png"})
    images = loaded.predict(table)
    grid = np.asarray(Image.open(io.BytesIO(base64.b64decode(first))))
    assert grid.shape == (3 * 30 + 2, 10 * 30 + 2)
    np.testing.assert_array_equal(grid[2:30, 2:30], images[0])
    np.testing.assert_array_equal(grid[62:90, 62:90], images[22])
    assert Image.open(io.BytesIO(base64.b64decode(second))).size == (3 * 30 + 2, 32)


@pytest.mark.parametrize("rows", [[{"count": 3}], [{"count": 3, "seed": None}]])
def test_without_a_seed_it_is_0(loaded, rows) -> None:  # type: ignore[no-untyped-def]
    import pandas as pd

    expected = loaded.predict(pd.DataFrame({"count": [3], "seed": [0]}))
    np.testing.assert_array_equal(loaded.predict(pd.DataFrame(rows)), expected)
    assert (loaded.predict(pd.DataFrame({"count": [3], "seed": [1]})) != expected).any()


def test_one_row_of_several_may_have_no_seed(loaded) -> None:  # type: ignore[no-untyped-def]
    import pandas as pd

    expected = loaded.predict(pd.DataFrame({"count": [3, 3], "seed": [7, 0]}))
    np.testing.assert_array_equal(loaded.predict(pd.DataFrame([{"count": 3, "seed": 7}, {"count": 3}])), expected)


@pytest.mark.parametrize(
    ("row", "params", "said"),
    [
        ({"count": 0, "seed": 0}, {}, "count 0: expected 1 to 10,000"),
        ({"count": 10_001, "seed": 0}, {}, "count 10001: expected 1 to 10,000"),
        ({"count": 1, "seed": -1}, {}, "seed -1: expected 0 or more"),
        ({"count": 1, "seed": 1.5}, {}, "seed 1.5: expected a whole number"),
        ({"count": 1, "seed": "one"}, {}, "seed 'one': expected a whole number"),
        ({"count": 1, "seed": 0}, {"format": "jpg"}, "format 'jpg': expected array or png"),
        ({"count": 1, "seed": 0, "digits": "2026"}, {}, "this generator is unconditional; leave digits out"),
        ({"count": 1.5, "seed": 0}, {}, "enforce schema"),
        ({"seed": 0}, {}, "missing inputs"),
    ],
)
def test_a_wrong_wish_is_refused_as_such(loaded, row, params, said) -> None:  # type: ignore[no-untyped-def]
    import pandas as pd
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=said) as refused:
        loaded.predict(pd.DataFrame([row]), params=params)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_nothing_is_pickled(gallery: Harness) -> None:
    files = {path.name for path in _files_of_the_sampler().rglob("*") if path.is_file()}
    assert {"MLmodel", "sampler_code.py", "model.pt2"} <= files
    assert not any(name.endswith((".pkl", ".pickle")) for name in files)
