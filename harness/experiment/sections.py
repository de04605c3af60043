"""The sections of an experiment other than its networks: data, objective, optimizer, training, tracking, scoring."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.experiment.base import Float, Int, Rate, Section, Share, Weight

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]

VALIDATION_IMAGES = 10_000  # default of data.validation

_FOLDER_DEFAULTS: dict[str, Any] = {"size": 28, "channels": 1, "unreadable": "refuse"}
_FOLDER_FIELDS = ("path", *_FOLDER_DEFAULTS, "test")


class Data(Section):
    """The images to train on, and the validation images."""

    name: str = Field("mnist", description="data set, by its name in the registry")
    subset: Int | None = Field(None, ge=1, description="train on this many images only, class-balanced; null for all")
    validation: Int = Field(
        VALIDATION_IMAGES,
        ge=0,
        description="training images held out for scoring while training and for choosing (of stacked-mnist none, "
        "unless it is set)",
    )
    seed: Int = Field(0, ge=0, lt=2**63, description="which images a subset takes; the same for every training seed")

    path: str | None = Field(
        None, min_length=1, description="of name folder: the folder of your images (docs/data.md); made absolute"
    )
    size: Int | None = Field(None, ge=4, le=1024, description="of name folder: side of the images made of them (28)")
    channels: Literal[1, 3] | None = Field(None, description="of name folder: 1 for grey images, 3 for colour (1)")
    unreadable: Literal["refuse", "skip"] | None = Field(
        None, description="of name folder: what to do with images that cannot be read (refuse)"
    )

    test: Int | None = Field(
        None, ge=1, description="of name folder: images of the random test split (null: a tenth, at most 10,000)"
    )

    @model_validator(mode="before")
    @classmethod
    def _set_folder_defaults(cls, raw: Any) -> Any:
        """Set the defaults of a folder here: they are stored with its experiments, and with no others."""
        if not isinstance(raw, dict):
            return raw
        given = {field for field in _FOLDER_FIELDS if raw.get(field) is not None}
        if raw.get("name") != "folder":
            if given:
                raise ValueError(
                    f"data.{min(given)} is set, but data.name is {raw.get('name', 'mnist')}: it belongs to folder; "
                    "set data.name to folder, or leave it out"
                )
            return raw
        if "path" not in given:
            raise ValueError("data.name is folder, but data.path is not set: set it to the folder of your images")
        path = raw["path"]
        path = str(Path(path).expanduser().absolute()) if path and isinstance(path, str) else path
        return {
            **raw,
            "path": path,
            **{field: raw[field] if field in given else _FOLDER_DEFAULTS[field] for field in _FOLDER_DEFAULTS},
        }

    def source_options(self) -> dict[str, Any]:
        """Return the name of the data set and its options, as `harness.data.create_source` takes them."""
        return self.model_dump(exclude={"subset", "validation", "seed"})


class Objective(Section):
    """The losses of the two networks, and the penalties on the discriminator's gradient."""

    kind: Literal["non-saturating", "minimax", "lsgan", "hinge", "wasserstein", "relativistic"] = Field(
        "non-saturating", description="loss pair, on logits"
    )
    label_smoothing: Float = Field(
        0.0, ge=0, lt=0.5, description="real images count as this much less than certain (one-sided)"
    )
    gradient_penalty: Weight = Field(
        0.0, description="WGAN-GP's weight: slope 1 between real and generated; 0 for none"
    )
    dragan: Weight = Field(0.0, description="DRAGAN's weight: slope 1 around real images; 0 for none")
    r1: Weight = Field(0.0, description="R1's gamma: slope 0 at real images; 0 for none")
    r2: Weight = Field(0.0, description="R2's gamma: slope 0 at generated images; 0 for none")

    @model_validator(mode="after")
    def _check_smoothing(self) -> Objective:
        if self.label_smoothing and self.kind not in ("non-saturating", "minimax", "lsgan"):
            raise ValueError(
                f"objective.label_smoothing is {self.label_smoothing}, but {self.kind} has no target to smooth: "
                "set it to 0, or objective.kind to non-saturating, minimax or lsgan"
            )
        return self

    @property
    def penalties(self) -> tuple[str, ...]:
        """Names of the penalties whose weight is not 0."""
        return tuple(name for name in PENALTIES if getattr(self, name))


PENALTIES = ("gradient_penalty", "dragan", "r1", "r2")


class Optimizer(Section):
    """Adam, one for each network."""

    lr: Float = Field(2e-4, gt=0, le=1, description="learning rate, of both networks unless discriminator_lr is set")
    discriminator_lr: Float | None = Field(None, gt=0, le=1, description="the discriminator's own learning rate")
    betas: tuple[Rate, Rate] = Field((0.9, 0.999), description="decay of Adam's two running averages, a step")
    eps: Float = Field(1e-8, gt=0, le=1, description="added to Adam's denominator")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="linear, cosine: the learning rates fall to zero over the whole run"
    )


class Train(Section):
    """Length, batch size, seed, precision and device of the training."""

    epochs: Int = Field(200, ge=1, description="passes over the training images by the discriminator")
    batch_size: Int = Field(100, ge=2, description="images an update; a last, partial batch is dropped")
    discriminator_steps: Int = Field(
        1, ge=1, le=100, description="updates of D for one of G, each on a batch of its own"
    )
    seed: Int = Field(0, ge=0, lt=2**63, description="all randomness is a function of (seed, stream, epoch)")
    precision: Precision = Field(
        "fp32", description="arithmetic of the networks; auto takes the faster one on this machine"
    )
    device: Device = Field("auto", description="auto takes cuda, then mps, then cpu")
    ema_half_life: Float | None = Field(
        None,
        gt=0,
        description="in images: of the average of the generator's weights that generates samples; null for none",
    )


class Augment(Section):
    """Distortions of real and generated images before the discriminator (Zhao et al. 2020, DiffAugment); no flips.

    Every image is distorted at random in every update. Pixels from outside, or cut out, are black.
    """

    translation: Share = Field(0.0, description="shift of up to this share of the side, either way; 0.125 in the paper")
    cutout: Share = Field(0.0, description="side of a square cut out, as a share of the image's; 0.5 in the paper")
    brightness: Share = Field(0.0, description="added to pixels in [-1, 1], up to this, either way; 0.5 in the paper")
    contrast: Share = Field(0.0, description="distance from the mean, up to this share, either way; 0.5 in the paper")

    @property
    def enabled(self) -> bool:
        """Whether any distortion is on."""
        return any((self.translation, self.cutout, self.brightness, self.contrast))


class Track(Section):
    """What is logged, and how often: in epochs, counted from 1; the last epoch always counts."""

    samples_every: Int | None = Field(
        None, ge=1, description="epochs between sample grids; null for a tenth of train.epochs, from 1 to 10"
    )
    checkpoint_every: Int = Field(10, ge=1, description="epochs between checkpoints")
    checkpoint_minutes: float | None = Field(
        None,
        gt=0,
        description="minutes between checkpoints in the middle of an epoch, for epochs of many minutes; null saves "
        "between epochs alone",
    )
    score_every: Int | None = Field(
        None, ge=1, description="epochs between scores on the validation images; null scores at the end alone"
    )


class Quality(Section):
    """How samples are scored (docs/metrics.md)."""

    judge: str | None = Field(
        "first", description="first, second, or package.module:Class of a feature network; null for no scores at all"
    )
    judge_weights: str | None = Field(None, description="weights file of a custom feature network")
    samples: Int = Field(
        10_000,
        ge=10,
        description="generated and real images compared when a run has ended (of stacked-mnist 26,000, unless it is "
        "set)",
    )
    samples_while_training: Int = Field(2_000, ge=10, description="the same, for the scores between epochs")
