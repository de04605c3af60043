"""Networks, objectives, and the training core that uses them."""

from harness.gan.auto import resolve, resolve_untimed, resolved_population
from harness.gan.population import Population, generate_all
from harness.gan.training import Report, Training, from_uint8, generate, sample_inputs, to_uint8
from harness.gan.walks import walk

__all__ = [
    "Population",
    "Report",
    "Training",
    "from_uint8",
    "generate",
    "generate_all",
    "resolve",
    "resolve_untimed",
    "resolved_population",
    "sample_inputs",
    "to_uint8",
    "walk",
]
