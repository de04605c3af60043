"""How many real images a training step needs."""

from __future__ import annotations

from harness.data import Images
from harness.errors import HarnessError
from harness.experiment import Experiment


def images_per_step(experiment: Experiment) -> int:
    """Return the number of real images of a step: a batch for each update of D."""
    return experiment.train.batch_size * experiment.train.discriminator_steps


def check_image_count(experiment: Experiment, images: Images) -> None:
    """Raise HarnessError if there are fewer images than one step needs."""
    batch, needed = experiment.train.batch_size, images_per_step(experiment)
    if len(images) < needed:
        several = "" if needed == batch else f" for each of train.discriminator_steps {needed // batch}"
        raise HarnessError(
            f"{images.name} has {len(images)} images to train on, less than one batch "
            f"(train.batch_size {batch}){several}: take a smaller batch"
        )
