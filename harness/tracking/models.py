"""A generator as MLflow models, loadable without this package: the exported network, and what samples with it."""

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
            pip_requirements=_requirements(),
            serialization_format="pt2",
        )


def save_sampler(folder: Path, network: Path, latent: int, classes: int) -> None:
    """Save in `folder`, which must not exist, a pyfunc model that draws images by count and seed: see `sampler_code`.

    network: where `save_generator` has put the network; it is copied. latent: how much noise it takes. classes: how
    many it is told of, after the noise; 0 for none. Nothing is pickled: the model is the file sampler_code.py.
    """
    import mlflow.pyfunc
    import numpy as np
    import pandas as pd
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

    # MLflow drops columns that a signature lacks without a word: where `digits` are refused, they have to arrive first.
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
