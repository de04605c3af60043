"""The sections `generator` and `discriminator` of an experiment, one class for each kind of network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from harness.experiment.base import Float, Int, Rate, Section, format_value

Widths = Annotated[tuple[Annotated[Int, Field(ge=1)], ...], Field(min_length=1)]
Width = Annotated[
    Int, Field(ge=1, le=1024, description="a quarter of the channels of the layer at a quarter of the size")
]
Blocks = Annotated[Int, Field(ge=1, le=16, description="residual blocks at half and at a quarter of the size, each")]
Latent = Annotated[Int, Field(ge=1, le=4096, description="size of the noise vector")]
Slope = Annotated[Float, Field(ge=0, lt=1, description="negative slope of the LeakyReLU")]
Dropout = Annotated[Rate, Field(description="share of hidden units set to zero in training")]
SpectralNorm = Annotated[
    bool, Field(description="divide every weight by its largest singular value (Miyato et al. 2018)")
]
Pack = Annotated[
    Int, Field(ge=1, le=64, description="images that are judged together, as channels of one (PacGAN, Lin et al. 2018)")
]


class MLPGenerator(Section):
    """Fully connected: latent -> widths -> image; LeakyReLU in between, tanh at the end."""

    kind: Literal["mlp"] = Field("mlp", description="network")
    latent: Latent = 100
    widths: Widths = Field((256, 512, 1024), description="units of the hidden layers, input side first")
    slope: Slope = 0.2


class ConvGenerator(Section):
    """Convolutional: linear to a quarter of the size, upsampled twice, tanh at the end."""

    kind: Literal["conv"] = Field("conv", description="network")
    latent: Latent = 64
    width: Width = 16
    slope: Slope = 0.2
    batch_norm: bool = Field(False, description="normalise before every hidden activation")


class ResidualGenerator(Section):
    """The convolutional one with residual blocks at a quarter and at half of the size; no normalisation."""

    kind: Literal["residual"] = Field("residual", description="network")
    latent: Latent = 64
    width: Width = 16
    blocks: Blocks = 1
    slope: Slope = 0.2


class _Custom(Section):
    """A custom network: fields that are not declared here are keyword arguments of its class."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _check_options(self) -> _Custom:
        for name, value in (self.model_extra or {}).items():
            if name in ("shape", "inputs", "classes"):
                raise ValueError(
                    f"{name} is {format_value(value)}, but harness passes {name} itself: rename the option"
                )
            if not _is_plain(value):
                raise ValueError(
                    f"{name} is {format_value(value)}; an option of a custom network is a number, text or list"
                )
        return self


def _is_plain(value: Any) -> bool:
    """Whether a value survives YAML and JSON unchanged."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


class CustomGenerator(_Custom):
    """A custom generator (docs/networks.md); its options are further fields of the section."""

    kind: str = Field(pattern=r"^[\w.]+:\w+$", description="package.module:Class, found from the working directory")
    latent: Latent = 64


class MLPDiscriminator(Section):
    """Fully connected: image -> widths -> one logit, LeakyReLU and dropout after every hidden layer."""

    kind: Literal["mlp"] = Field("mlp", description="network")
    widths: Widths = Field((1024, 512, 256), description="units of the hidden layers, input side first")
    slope: Slope = 0.2
    dropout: Dropout = 0.3
    spectral_norm: SpectralNorm = False
    pack: Pack = 1


class ConvDiscriminator(Section):
    """Convolutional: downsampled twice, then linear to one logit; mirrors the convolutional generator."""

    kind: Literal["conv"] = Field("conv", description="network")
    width: Width = 16
    slope: Slope = 0.2
    dropout: Dropout = 0.0
    spectral_norm: SpectralNorm = False
    pack: Pack = 1


class ResidualDiscriminator(Section):
    """The convolutional one with residual blocks at half and at a quarter of the size; no normalisation."""

    kind: Literal["residual"] = Field("residual", description="network")
    width: Width = 16
    blocks: Blocks = 1
    slope: Slope = 0.2
    dropout: Dropout = 0.0
    spectral_norm: SpectralNorm = False
    pack: Pack = 1


class CustomDiscriminator(_Custom):
    """A custom discriminator (docs/networks.md); its options are further fields of the section."""

    kind: str = Field(pattern=r"^[\w.]+:\w+$", description="package.module:Class, found from the working directory")
    dropout: Dropout = 0.0
    spectral_norm: SpectralNorm = False
    pack: Pack = 1


def tag_of(model: type[Section]) -> str:
    """Return the kind of a section class: its name in YAML, or `custom`."""
    default = model.model_fields["kind"].default
    return default if isinstance(default, str) else "custom"


def kind_of(section: Any) -> str | None:
    """Return the kind of a network section: `mlp` by default, `custom` for a dotted path, None if it is not valid."""
    kind = section.get("kind", "mlp") if isinstance(section, Mapping) else getattr(section, "kind", None)
    if not isinstance(kind, str) or kind == "custom":
        return None
    return "custom" if ":" in kind else kind


Generators = Annotated[
    Annotated[MLPGenerator, Tag("mlp")]
    | Annotated[ConvGenerator, Tag("conv")]
    | Annotated[ResidualGenerator, Tag("residual")]
    | Annotated[CustomGenerator, Tag("custom")],
    Discriminator(kind_of),
]
Discriminators = Annotated[
    Annotated[MLPDiscriminator, Tag("mlp")]
    | Annotated[ConvDiscriminator, Tag("conv")]
    | Annotated[ResidualDiscriminator, Tag("residual")]
    | Annotated[CustomDiscriminator, Tag("custom")],
    Discriminator(kind_of),
]
