"""Train, track, score and search small GANs."""

__version__ = "0.1.0"
