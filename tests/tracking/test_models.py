"""The stored generator loads and samples anywhere MLflow and torch are."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.tracking import Store, save_generator

LOADS = """
import sys
import mlflow, numpy as np, torch

mlflow.set_tracking_uri(sys.argv[1])
generator = mlflow.pytorch.load_model(sys.argv[2])
noise = torch.from_numpy(np.load(sys.argv[3]))
np.save(sys.argv[4], generator(noise).numpy())
assert generator(torch.randn(1, 10)).shape == (1, 1, 4, 4)
assert generator(torch.randn(33, 10)).shape == (33, 1, 4, 4)
assert mlflow.pyfunc.load_model(sys.argv[2]).predict(noise.numpy()).shape == (7, 1, 4, 4)
assert "harness" not in sys.modules
"""


def normalised_network() -> nn.Sequential:
    """Noise [B, 10] to images [B, 1, 4, 4]; its normalisation has seen a batch."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(10, 16),
        nn.BatchNorm1d(16),
        nn.LeakyReLU(0.2),
        nn.Linear(16, 16),
        nn.Tanh(),
        nn.Unflatten(1, (1, 4, 4)),
    )
    network(torch.randn(64, 10))
    return network


@pytest.mark.slow
def test_a_stored_generator_makes_the_same_images_elsewhere(store: Store, tmp_path: Path) -> None:
    network = normalised_network()
    save_generator(network, np.zeros((1, 10), np.float32), tmp_path / "model")
    assert network.training, "it is left as it was"
    run = store.start_run(project="gan", name="one", kind="run", params={})
    run.model("generator", tmp_path / "model", 5, "a key")
    assert run.finish("FINISHED"), run.shipping_error

    noise = torch.randn(7, 10)
    np.save(tmp_path / "noise.npy", noise.numpy())
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", LOADS, store.uri, f"runs:/{run.run_id}/generator"),
            *(tmp_path / "noise.npy", tmp_path / "images.npy"),
        ],
        check=True,
        cwd=tmp_path,
    )
    with torch.no_grad():
        expected = network.eval()(noise).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "images.npy"), expected, atol=1e-6)

    from mlflow.models import Model

    folder = store.download(run.run_id, "generator", tmp_path / "back")
    model = Model.load(str(folder))
    assert model.run_id == run.run_id
    assert model.signature.inputs.inputs[0].shape == (-1, 10)
    assert model.saved_input_example_info is not None
    assert len((folder / "requirements.txt").read_text().split()) == 3
    with zipfile.ZipFile(folder / "data" / "model.pt2") as archive:
        assert archive.testzip() is None
    assert not (tmp_path / "mlflow.db").exists()
