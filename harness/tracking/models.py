"""A generator as an MLflow model: the exported graph and its weights, loadable without this package."""

import copy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def save_generator(network: "torch.nn.Module", example: "np.ndarray", folder: Path) -> None:
    """Save `network` (latents [B, latent] to images) in `folder`, which must not exist, as an MLflow PyTorch model.

    It is exported in evaluation mode, on the CPU, for any B >= 1, with torch.export: nothing is pickled. `example` is
    latents, float32 [B, latent]. mlflow.pytorch.load_model gives a module that maps latents to the images that
    `network.eval()` makes of them.
    """
    import mlflow.pytorch
    import numpy as np
    import torch
    from mlflow.models import infer_signature

    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    # A batch of one would be exported as the constant 1.
    latents = np.resize(example.astype(np.float32), (2, *example.shape[1:]))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        images = network(torch.from_numpy(latents)).numpy()
        mlflow.pytorch.save_model(
            network,
            str(folder),
            signature=infer_signature(latents, images),
            input_example=latents,
            # Given, so that MLflow does not load and run the model in a new process to find out.
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"mlflow=={mlflow.__version__}", "numpy"],
            serialization_format="pt2",
        )
