"""Dropout whose masks are handed in, so that a network is a pure function of its inputs."""

from torch import Tensor


def dropped(hidden: Tensor, keep: Tensor, rate: float) -> Tensor:
    """`hidden` where the bool mask `keep` is set, zero elsewhere, scaled by 1 / (1 - rate) to the same mean.

    Srivastava et al. 2014, in the inverted form: nothing is scaled when dropout is off.
    """
    return hidden * keep / (1 - rate)
