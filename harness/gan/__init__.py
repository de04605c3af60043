"""Networks, objectives, and the training core that uses them."""

from harness.gan.resolve import resolve
from harness.gan.training import Report, Training, from_uint8, generate, sample_inputs, to_uint8

__all__ = ["Report", "Training", "from_uint8", "generate", "resolve", "sample_inputs", "to_uint8"]
