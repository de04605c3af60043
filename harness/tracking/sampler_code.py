"""The code of the logged model `sampler`: a trained generator as a function from (count, seed, digits) to images.

MLflow copies this file into the model, and runs it where the model is loaded. It needs MLflow, torch, numpy, pandas and
Pillow, but not harness. It repeats parts of harness; tests compare them with the original.
"""

import base64
import hashlib
import io

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

MAX_COUNT = 10_000  # images per row
BATCH_SIZE = 1_000  # images that the network generates at once
COLUMNS, GAP = 10, 2  # of a grid; the gap is in pixels


class Sampler(mlflow.pyfunc.PythonModel):
    """Generates images; the same seed gives the same ones as `harness sample`.

    Input: a table with one row per request: `count`, `seed` (default 0), and, for a class-conditional generator,
    `digits`: the classes, repeated up to `count` ("2026"; all classes if it is missing or empty). An unconditional
    generator refuses digits.
    Output: the images of all rows, uint8 [N, H, W], or [N, C, H, W] in colour. With the param `format` "png": a list
    with one grid per row, as PNG in base64.
    """

    def load_context(self, context):
        """Load the exported network. MLflow calls it once, with the files and settings of the model."""
        self.latent = int(context.model_config["latent"])
        self.classes = int(context.model_config["classes"] or 0)
        self.network = torch.export.load(context.artifacts["network"]).module()

    def predict(self, context, model_input: pd.DataFrame, params=None):
        """Generate the images of all rows; see the class. Raises MlflowException (HTTP 400) for a bad request."""
        form = (params or {}).get("format", "array")
        if form not in ("array", "png"):
            raise _refusal(f"format {form!r}: expected array or png")
        rows = model_input.to_dict("records")
        if not rows:
            raise _refusal("no rows: expected at least one, with count and seed")
        inputs = [self._inputs(**row) for row in rows]  # all rows are checked before the first is generated
        generated = [self._generate(batch) for batch in inputs]
        if form == "png":
            return [base64.b64encode(_png(images)).decode() for images in generated]
        images = np.concatenate(generated)
        return images[:, 0] if images.shape[1] == 1 else images

    def _inputs(self, count, seed=None, digits=None):
        """Noise [count, latent], with the one-hot class joined to it where there are classes."""
        count, seed = int(count), 0 if seed is None or seed != seed else _whole_number("seed", seed)  # NaN: missing
        if not 1 <= count <= MAX_COUNT:
            raise _refusal(f"count {count}: expected 1 to {MAX_COUNT:,}")
        if seed < 0:
            raise _refusal(f"seed {seed}: expected 0 or more")
        wanted = "" if digits is None or digits != digits else str(digits)  # NaN is what pandas makes of a missing one
        allowed = "".join(str(number) for number in range(min(self.classes, 10)))
        if wanted and not self.classes:
            raise _refusal(f"digits {wanted!r}: this generator is unconditional; leave digits out")
        if not set(wanted) <= set(allowed):
            raise _refusal(f"digits {wanted!r}: expected some of {allowed}")
        digest = hashlib.sha256(f"{seed}/samples/0".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        noise = torch.randn(count, self.latent, generator=generator)
        if not self.classes:
            return noise
        cycle = torch.tensor([int(digit) for digit in wanted]) if wanted else torch.arange(self.classes)
        labels = cycle[torch.arange(count) % len(cycle)]
        return torch.cat([noise, torch.nn.functional.one_hot(labels, self.classes).float()], dim=1)

    @torch.no_grad()
    def _generate(self, inputs):
        batches = [self.network(batch) for batch in torch.split(inputs, BATCH_SIZE)]
        images = (torch.cat(batches) + 1) * 127.5
        return images.nan_to_num(nan=127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def _png(images):
    from PIL import Image

    count, channels, height, width = images.shape
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    sheet = np.zeros((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, channels), np.uint8)
    for index, image in enumerate(images.transpose(0, 2, 3, 1)):
        row, column = divmod(index, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    file = io.BytesIO()
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(file, format="PNG")
    return file.getvalue()


def _whole_number(name, value):
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise _refusal(f"{name} {value!r}: expected a whole number")
    if not float(value).is_integer():
        raise _refusal(f"{name} {value}: expected a whole number")
    return int(value)


def _refusal(text):
    return MlflowException(text, error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(Sampler())
