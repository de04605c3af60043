"""Save a generator as MLflow models that load without this package: the exported network, and a sampler."""

import copy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def save_generator(network: "torch.nn.Module", example: "np.ndarray", folder: Path) -> None:
    """Save a generator as an MLflow PyTorch model, exported with torch.export: nothing is pickled.

    mlflow.pytorch.load_model returns a module that maps latents [B, latent], for any B >= 1, to the images that
    `network.eval()` makes of them on the CPU.

    Args:
        network: From latents [B, latent] to images; it is not changed.
        example: Latents, float32 [B, latent].
        folder: Where to save it; it must not exist.
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
            # Without it, MLflow would load and run the model in a new process to infer the requirements.
            pip_requirements=_requirements(),
            serialization_format="pt2",
        )


def save_sampler(folder: Path, network: Path, latent: int, classes: int) -> None:
    """Save a pyfunc model that generates images by count and seed. Nothing is pickled: its code is sampler_code.py.

    Args:
        folder: Where to save it; it must not exist.
        network: Where `save_generator` has saved the network; it is copied.
        latent: The width of the network's noise.
        classes: The number of classes, one-hot, after the noise; 0 for an unconditional generator.
    """
    import mlflow.pyfunc
    import numpy as np
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    # `digits` is in the signature of every generator: MLflow drops unknown columns silently; harness refuses them.
    columns = [
        ColSpec("long", "count"),
        ColSpec(AnyType(), "seed", required=False),  # a "long" column cannot have an empty row: MLflow refuses it
        ColSpec("string", "digits", required=False),
    ]
    example = pd.DataFrame({"count": [4], "seed": [0], **({"digits": ["2026"]} if classes else {})})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(Path(__file__).with_name("sampler_code.py")),
            # As a URI: MLflow decodes %XX, in a plain path too.
            artifacts={"network": (network.absolute() / "data" / "model.pt2").as_uri()},
            model_config={"latent": latent, "classes": classes},
            signature=ModelSignature(
                inputs=Schema(columns),
                outputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
                params=ParamSchema([ParamSpec("format", "string", "array")]),
            ),
            input_example=(example, {"format": "array"}),
            pip_requirements=[*_requirements(), "pandas", "pillow"],
        )


def _requirements() -> list[str]:
    import mlflow
    import torch

    return [f"torch=={torch.__version__.split('+')[0]}", f"mlflow=={mlflow.__version__}", "numpy"]
