"""Networks, objectives, and the training core that uses them."""

from harness.gan.auto import resolve, resolve_batch_runs, resolve_untimed
from harness.gan.batched import BatchedTraining
from harness.gan.latent_interpolation import latent_walk
from harness.gan.report import Report
from harness.gan.sampling import from_uint8, generate, sample_inputs, to_uint8
from harness.gan.stacked_network import generate_all
from harness.gan.training import Training

__all__ = [
    "BatchedTraining",
    "Report",
    "Training",
    "from_uint8",
    "generate",
    "generate_all",
    "latent_walk",
    "resolve",
    "resolve_batch_runs",
    "resolve_untimed",
    "sample_inputs",
    "to_uint8",
]
