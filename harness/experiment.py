"""What to do: the experiment, validated, read from YAML, with dotted overrides.

Every field says here, once, what it means, its unit and its bounds; the command line, the docs and the JSON schema
(`harness schema`) are made from these declarations.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from harness.errors import HarnessError
from harness.ranking import Ranking, ranking_of


def _on_is_not_one(value: Any) -> Any:
    """pydantic by itself reads `lr: on` as 1.0."""
    if isinstance(value, bool):
        raise PydanticCustomError("boolean", "a number was expected (YAML reads yes, no, on and off as true and false)")
    return value


Int = Annotated[int, BeforeValidator(_on_is_not_one)]
Float = Annotated[float, BeforeValidator(_on_is_not_one)]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]
Rate = Annotated[Float, Field(ge=0, lt=1)]
Share = Annotated[Float, Field(ge=0, le=1)]
Weight = Annotated[Float, Field(ge=0, le=1e6)]
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


class Section(BaseModel):
    """A part of an experiment: frozen, unknown keys refused, numbers finite and not booleans."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def leaves(self) -> dict[str, Any]:
        """Every leaf by its dotted path, in the order of declaration."""
        return _leaves(self.model_dump(mode="json"))


_FOLDER: dict[str, Any] = {"size": 28, "channels": 1, "unreadable": "refuse"}


class Data(Section):
    """Which images are trained on, and which are held out."""

    name: str = Field("mnist", description="data set, by its name in the registry")
    subset: Int | None = Field(None, ge=1, description="train on this many images only, class-balanced; null for all")
    validation: Int = Field(
        10_000,
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

    @model_validator(mode="before")
    @classmethod
    def _a_folder_has_options(cls, raw: Any) -> Any:
        """Its defaults are settled here, so that they stand in the stored experiment, and nowhere else."""
        if not isinstance(raw, dict):
            return raw
        given = {leaf for leaf in ("path", *_FOLDER) if raw.get(leaf) is not None}
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
        return {**raw, "path": path, **{leaf: raw[leaf] if leaf in given else _FOLDER[leaf] for leaf in _FOLDER}}

    def origin(self) -> dict[str, Any]:
        """The data set: its name and its options, as `harness.data.source` takes them."""
        return self.model_dump(exclude={"subset", "validation", "seed"})


class MLPGenerator(Section):
    """Fully connected: latent -> widths -> image, LeakyReLU between, tanh at the end."""

    kind: Literal["mlp"] = Field("mlp", description="network")
    latent: Latent = 100
    widths: Widths = Field((256, 512, 1024), description="units of the hidden layers, input side first")
    slope: Slope = 0.2


class ConvGenerator(Section):
    """Convolutional: linear to a quarter of the size, twice doubled, tanh at the end."""

    kind: Literal["conv"] = Field("conv", description="network")
    latent: Latent = 64
    width: Width = 16
    slope: Slope = 0.2
    batch_norm: bool = Field(False, description="normalise before every hidden activation")


class ResidualGenerator(Section):
    """As the convolutional one, with residual blocks at a quarter and at half of the size; no normalisation."""

    kind: Literal["residual"] = Field("residual", description="network")
    latent: Latent = 64
    width: Width = 16
    blocks: Blocks = 1
    slope: Slope = 0.2


class _Own(Section):
    """A network of the user's own: what is not declared here is handed to its class by name."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _options_are_plain(self) -> _Own:
        for name, value in (self.model_extra or {}).items():
            if name in ("shape", "inputs", "classes"):
                raise ValueError(f"{name} is {shown(value)}, but harness itself tells a network its {name}: rename it")
            if not _plain(value):
                raise ValueError(f"{name} is {shown(value)}; an option of one's own network is a number, text or list")
        return self


def _plain(value: Any) -> bool:
    """Whether a value comes back from YAML and JSON as it was."""
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value))


class OwnGenerator(_Own):
    """A generator of the user's own, by its dotted path (docs/networks.md); options of its own stand beside it."""

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
    """Convolutional: twice halved, then linear to one logit; the mirror of the convolutional generator."""

    kind: Literal["conv"] = Field("conv", description="network")
    width: Width = 16
    slope: Slope = 0.2
    dropout: Dropout = 0.0
    spectral_norm: SpectralNorm = False
    pack: Pack = 1


class ResidualDiscriminator(Section):
    """As the convolutional one, with residual blocks at half and at a quarter of the size; no normalisation."""

    kind: Literal["residual"] = Field("residual", description="network")
    width: Width = 16
    blocks: Blocks = 1
    slope: Slope = 0.2
    dropout: Dropout = 0.0
    spectral_norm: SpectralNorm = False
    pack: Pack = 1


class OwnDiscriminator(_Own):
    """A discriminator of the user's own, by its dotted path (docs/networks.md)."""

    kind: str = Field(pattern=r"^[\w.]+:\w+$", description="package.module:Class, found from the working directory")
    dropout: Dropout = 0.0
    spectral_norm: SpectralNorm = False
    pack: Pack = 1


class Objective(Section):
    """What the two networks minimise, and the penalties on the discriminator's slope."""

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
    def _smoothing_has_a_target(self) -> Objective:
        if self.label_smoothing and self.kind not in ("non-saturating", "minimax", "lsgan"):
            raise ValueError(
                f"objective.label_smoothing is {self.label_smoothing}, but {self.kind} has no target to smooth: "
                "set it to 0, or objective.kind to non-saturating, minimax or lsgan"
            )
        return self

    @property
    def penalties(self) -> tuple[str, ...]:
        """Names of the penalties that are on."""
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
    """How long, in what portions, from which seed, on what."""

    epochs: Int = Field(200, ge=1, description="passes over the training images by the discriminator")
    batch_size: Int = Field(100, ge=2, description="images an update; a last, partial batch is dropped")
    discriminator_steps: Int = Field(
        1, ge=1, le=100, description="updates of D for one of G, each on a batch of its own"
    )
    seed: Int = Field(0, ge=0, lt=2**63, description="every random draw is a function of (seed, stream, epoch)")
    precision: Precision = Field("fp32", description="arithmetic of the networks; auto times both on this machine")
    device: Device = Field("auto", description="auto takes cuda, then mps, then cpu")
    ema_half_life: Float | None = Field(
        None, gt=0, description="in images: of the average of the generator's weights that draws samples; null for none"
    )


class Augment(Section):
    """What is done to real and generated images alike before D sees them (Zhao et al. 2020, DiffAugment); no flips.

    Each image anew, in every update. What is moved in from outside, or cut out, is black.
    """

    translation: Share = Field(0.0, description="shift of up to this share of the side, either way; 0.125 in the paper")
    cutout: Share = Field(0.0, description="side of a square cut out, as a share of the image's; 0.5 in the paper")
    brightness: Share = Field(0.0, description="added to pixels in [-1, 1], up to this, either way; 0.5 in the paper")
    contrast: Share = Field(0.0, description="distance from the mean, up to this share, either way; 0.5 in the paper")

    @property
    def on(self) -> bool:
        return any((self.translation, self.cutout, self.brightness, self.contrast))


class Track(Section):
    """What is kept, and how often: in epochs, counted from 1; the last epoch always counts."""

    samples_every: Int = Field(10, ge=1, description="epochs between sample grids")
    checkpoint_every: Int = Field(10, ge=1, description="epochs between checkpoints")
    score_every: Int | None = Field(
        None, ge=1, description="epochs between scores on the validation images; null scores at the end alone"
    )


class Quality(Section):
    """How samples are scored (docs/metrics.md)."""

    judge: str | None = Field(
        "first", description="first, second, or package.module:Class of a feature network; null for no scores at all"
    )
    judge_weights: str | None = Field(None, description="weights file of a feature network of one's own")
    samples: Int = Field(
        10_000,
        ge=10,
        description="generated and real images compared when a run has ended (of stacked-mnist 26,000, unless it is "
        "set)",
    )
    samples_while_training: Int = Field(2_000, ge=10, description="the same, for the scores between epochs")


def _tag(model: type[Section]) -> str:
    """The kind of a model of one of the networks."""
    default = model.model_fields["kind"].default
    return default if isinstance(default, str) else "own"


def _kind(section: Any) -> str | None:
    """Which of the networks a section describes: mlp unless it says, `own` for every dotted path; None for nonsense."""
    kind = section.get("kind", "mlp") if isinstance(section, Mapping) else getattr(section, "kind", None)
    if not isinstance(kind, str) or kind == "own":
        return None
    return "own" if ":" in kind else kind


Generators = Annotated[
    Annotated[MLPGenerator, Tag("mlp")]
    | Annotated[ConvGenerator, Tag("conv")]
    | Annotated[ResidualGenerator, Tag("residual")]
    | Annotated[OwnGenerator, Tag("own")],
    Discriminator(_kind),
]
Discriminators = Annotated[
    Annotated[MLPDiscriminator, Tag("mlp")]
    | Annotated[ConvDiscriminator, Tag("conv")]
    | Annotated[ResidualDiscriminator, Tag("residual")]
    | Annotated[OwnDiscriminator, Tag("own")],
    Discriminator(_kind),
]


class Experiment(Section):
    """Everything that a run depends on. Its leaves, by dotted path, are the params in MLflow."""

    name: str = Field(min_length=1, max_length=100, description="what the experiment is called")
    project: str = Field("gan", min_length=1, max_length=100, description="the MLflow experiment that holds its runs")
    description: str = Field("", max_length=500, description="one line: what it shows and where it comes from")
    conditional: bool = Field(False, description="both networks are told the class; the data needs labels")
    data: Data = Data()
    generator: Generators = MLPGenerator()
    discriminator: Discriminators = MLPDiscriminator()
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    train: Train = Train()
    augment: Augment = Augment()
    track: Track = Track()
    quality: Quality = Quality()

    @model_validator(mode="before")
    @classmethod
    def _modes_are_counted_as_published(cls, raw: Any) -> Any:
        parts = {name: raw.get(name, {}) for name in _COUNTED} if isinstance(raw, dict) else {}
        if not parts or not all(isinstance(part, dict) for part in parts.values()):
            return raw
        name = parts["data"].get("name")
        if not isinstance(name, str) or ranking_of(name).against_real:
            return raw
        return {**raw, **{name: {**_COUNTED[name], **part} for name, part in parts.items()}}

    @model_validator(mode="after")
    def _a_batch_fits(self) -> Experiment:
        if self.data.subset is not None and self.data.subset < self.train.batch_size:
            raise ValueError(
                f"data.subset is {self.data.subset}, less than one batch (train.batch_size {self.train.batch_size}): "
                "take more images or a smaller batch"
            )
        return self

    @model_validator(mode="after")
    def _packs_fill_a_batch(self) -> Experiment:
        pack, batch = self.discriminator.pack, self.train.batch_size
        if batch % pack:
            raise ValueError(
                f"discriminator.pack is {pack}, and train.batch_size {batch} is no multiple of it: "
                f"set it to {batch - batch % pack or pack}"
            )
        if pack > 1 and self.conditional:
            raise ValueError(
                f"discriminator.pack is {pack}, but a pack of images has no one class for a conditional discriminator "
                "to be told: set discriminator.pack to 1, or conditional to false"
            )
        return self

    @model_validator(mode="after")
    def _penalties_see_the_whole_network(self) -> Experiment:
        on, dropout = self.objective.penalties, self.discriminator.dropout
        if on and dropout:
            raise ValueError(
                f"objective.{on[0]} is {getattr(self.objective, on[0])} and discriminator.dropout {dropout}: the slope "
                "of a network with units dropped is not the slope of the network; set one of them to 0"
            )
        return self

    @model_validator(mode="after")
    def _scores_have_images(self) -> Experiment:
        if self.track.score_every is None:
            return self
        if self.quality.judge is None:
            raise ValueError("track.score_every needs a judge: set quality.judge, or track.score_every to null")
        if self.ranking.against_real and self.data.validation < self.quality.samples_while_training:
            raise ValueError(
                f"track.score_every is {self.track.score_every}, but data.validation is {self.data.validation:,} and "
                f"quality.samples_while_training {self.quality.samples_while_training:,} images: set data.validation "
                "to 10000, or quality.samples_while_training to no more than is held out, or track.score_every to null"
            )
        return self

    @property
    def ranking(self) -> Ranking:
        """By which score its runs are chosen and compared: that of its data set."""
        return ranking_of(self.data.name)

    def with_values(self, values: Mapping[str, Any]) -> Experiment:
        """A copy with the leaves of the given dotted paths changed.

        Raises HarnessError for a path that is not a leaf and for a value that its field refuses.
        """
        return from_mapping(_with_overrides(self.model_dump(mode="json"), values), "the overrides")

    def to_yaml(self) -> str:
        """The YAML text that `from_yaml` turns back into an equal experiment."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, width=120)

    def differences(self, other: Experiment) -> dict[str, tuple[Any, Any]]:
        """Leaves in which two experiments differ: path -> (here, there); None where one has no such leaf."""
        here, there = self.leaves(), other.leaves()
        return {
            path: (here.get(path), there.get(path))
            for path in {**here, **there}
            if here.get(path) != there.get(path) or (path in here) != (path in there)
        }


_KINDS = ("generator", "discriminator")
_COUNTED = {"data": {"validation": 0}, "quality": {"samples": 26_000}}  # where modes are counted, and nothing is told
SEARCH = (
    "search",
    "search_budget",
    "search_prune_from",
)  # keys of an experiment file that are no part of the experiment


# Reading ---------------------------------------------------------------------------------------------------------


def load(name: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of that name (or in that YAML file), with `--set`-style `path=value` overrides applied.

    What the file says of a search is left to `harness.search`: no run depends on where its values were looked for.
    Raises HarnessError for an unknown name, malformed YAML, unknown keys, and values out of bounds.
    """
    raw, origin = read(name)
    raw = {key: part for key, part in raw.items() if key not in SEARCH}
    if overrides:
        from_mapping(raw, origin)  # a fault in the file is reported as the file's, not as the override's
        raw = _with_overrides(raw, dict(parse_override(text) for text in overrides))
    return from_mapping(raw, "--set" if overrides else origin)


def read(name: str | Path) -> tuple[dict[str, Any], str]:
    """What the file of an experiment holds, as it stands there, and the file's path for messages."""
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HarnessError(f"cannot read the experiment file {path}: {error}") from error
    return {"name": path.stem, **parse_yaml(text, str(path))}, str(path)


def from_yaml(text: str, origin: str = "the experiment") -> Experiment:
    """The experiment written in a YAML text. Raises HarnessError as `load` does."""
    return from_mapping(parse_yaml(text, origin), origin)


def from_mapping(raw: Mapping[str, Any], origin: str) -> Experiment:
    """A validated experiment. Raises HarnessError, one line that names every fault."""
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        faults = "; ".join(_fault(detail, raw) for detail in error.errors())
        raise HarnessError(f"{origin}: {faults}") from error


def folders() -> list[Path]:
    """Where experiment names are looked up: ./experiments first, then those that come with harness."""
    package = Path(__file__).resolve().parent
    bundled = [package / "experiments", package.parent / "experiments"]  # in a wheel; in a checkout
    return [folder for folder in [Path.cwd() / "experiments", *bundled] if folder.is_dir()]


def known() -> dict[str, Path]:
    """Experiment files by name; a file in ./experiments hides a bundled one of the same name."""
    files: dict[str, Path] = {}
    for folder in folders():
        for path in sorted(folder.glob("*.yaml")):
            files.setdefault(path.stem, path)
    return files


def find(name: str | Path) -> Path:
    """The file that an experiment name or path stands for. Raises HarnessError with the nearest names."""
    if Path(name).suffix in {".yaml", ".yml"}:
        if not Path(name).is_file():
            raise HarnessError(f"there is no experiment file {name}")
        return Path(name)
    files = known()
    if str(name) not in files:
        near = difflib.get_close_matches(str(name), files, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(files)}"
        raise HarnessError(f"there is no experiment {str(name)!r}; {hint} (or give the path of a .yaml file)")
    return files[str(name)]


def schema() -> dict[str, Any]:
    """JSON schema of an experiment file, for editors."""
    described = Experiment.model_json_schema()
    for name in _KINDS:  # `oneOf` would refuse what several kinds take, where the kind is left out
        described["properties"][name]["anyOf"] = described["properties"][name].pop("oneOf")
    described["properties"] |= {
        "search": {"type": "object", "description": "what `harness tune` varies: dotted path -> range or choices"},
        "search_budget": {"type": "object", "description": "what `harness tune` changes to make trials cheap"},
        "search_prune_from": {"type": "integer", "description": "the epoch at which its trials are first compared"},
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: `1e-4` is a number, and a key given twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a list or mapping cannot be a key", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


_UNREADABLE = (yaml.YAMLError, ValueError, RecursionError)  # the latter two for 2026-13-01 and for [[[[...


def parse_yaml(text: str, origin: str) -> dict[str, Any]:
    """The mapping in a YAML text. Raises HarnessError with line and column."""
    try:
        raw = yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise HarnessError(f"{origin}{where}: malformed YAML: {error.problem}") from error
    except _UNREADABLE as error:
        raise HarnessError(f"{origin}: malformed YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise HarnessError(f"{origin}: expected a mapping of sections (data, generator, ...), got {shown(raw)}")
    return raw


def parse_override(text: str) -> tuple[str, Any]:
    """`path=value` as (path, value), the value read as YAML. Raises HarnessError for anything else."""
    path, sign, value = text.partition("=")
    if not sign or not path.strip():
        raise HarnessError(f"--set {text!r}: expected path=value, for example --set optimizer.lr=1e-4")
    try:
        return path.strip(), yaml.load(value, _Loader)
    except _UNREADABLE as error:
        raise HarnessError(f"--set {text!r}: the value is not valid YAML") from error


def _with_overrides(raw: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {key: dict(part) if isinstance(part, dict) else part for key, part in raw.items()}
    for path, value in sorted(values.items(), key=lambda item: not item[0].endswith(".kind")):
        if path in _sections():
            leaves = [leaf for leaf in _known_paths() if leaf.startswith(f"{path}.")]
            raise HarnessError(f"--set {path}={shown(value)}: {path} is a section, not a leaf; set {', '.join(leaves)}")
        section, dot, leaf = path.partition(".")
        if not dot:
            changed[section] = value
        elif section not in _sections():
            raise HarnessError(f"--set {path}={shown(value)}: {unknown(path)}")
        elif "." in leaf:
            raise HarnessError(f"--set {path}={shown(value)}: not a leaf of the experiment; {unknown(path)}")
        else:
            changed[section] = {**(changed.get(section) or {}), leaf: value}
        if section in _KINDS and leaf == "kind" and value != (raw.get(section) or {}).get("kind", "mlp"):
            # Another kind has options of its own; those of the old kind would only be in its way.
            models = {_tag(model): model for model in _sections()[section]}
            if (tag := _kind({"kind": value})) in models:
                known = models[tag].model_fields
                changed[section] = {key: kept for key, kept in changed[section].items() if key in known}
    return changed


# Saying what is wrong --------------------------------------------------------------------------------------------


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found.update(_leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return found


def _section_models(annotation: Any) -> list[type[Section]]:
    """The Section classes that a field's annotation admits: one, or one for each kind."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in get_args(annotation) for model in _section_models(part)]


def _sections() -> dict[str, list[type[Section]]]:
    fields = Experiment.model_fields.items()
    return {name: models for name, field in fields if (models := _section_models(field.annotation))}


def _known_paths() -> list[str]:
    sections = _sections()
    plain = [name for name in Experiment.model_fields if name not in sections]
    nested = [f"{name}.{leaf}" for name, models in sections.items() for model in models for leaf in model.model_fields]
    return list(dict.fromkeys(plain + nested))


def unknown(path: str) -> str:
    """That there is no such leaf, and which may have been meant."""
    candidates = [*_known_paths(), *([] if "." in path else _sections())]
    near = difflib.get_close_matches(path, candidates, n=1, cutoff=0.6) or [
        known for known in _known_paths() if known.rpartition(".")[2] == path.rpartition(".")[2]
    ]
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(_known_paths())}"
    return f"unknown key {path}; {hint}"


def _fault(detail: Any, raw: Mapping[str, Any]) -> str:
    """One pydantic error in our words: what arrived, what was expected."""
    parts = list(detail["loc"])
    if len(parts) > 2 and parts[0] in _sections() and parts[1] == _kind(raw.get(parts[0])):
        del parts[1]  # pydantic names the kind of a section where several are possible; the user wrote no such key
    path = ".".join(str(part) for part in parts)
    match detail["type"]:
        case "extra_forbidden":
            if path in _known_paths():
                section, kind = parts[0], _kind(raw.get(parts[0]))
                model = next(model for model in _sections()[section] if _tag(model) == kind)
                return f"{path}: {section}.kind {kind} has no such option; it has {', '.join(model.model_fields)}"
            return unknown(path)
        case "missing":
            return f"{path} is missing"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "union_tag_invalid" | "union_tag_not_found" if isinstance(detail["input"], Mapping):
            kinds = ", ".join(repr(_tag(model)) for model in _sections()[path] if _tag(model) != "own")
            kind = shown(detail["input"].get("kind"))
            return f"{path}.kind is {kind}; expected {kinds}, or package.module:Class of your own"
        case "union_tag_not_found":
            return f"{path} is {shown(detail['input'])}; a mapping of keys was expected"
        case "string_pattern_mismatch" if path.endswith(".kind"):
            return f"{path} is {shown(detail['input'])}; expected package.module:Class, for example networks:Generator"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{path} is {shown(detail['input'])}; a mapping of keys was expected"
    return f"{path} is {shown(detail['input'])}; {_lowered(detail['msg'])}"


def scalar_types(experiment: Experiment, path: str) -> set[type]:
    """Which of bool, int, float and str a leaf of the experiment may be; empty for a list."""
    owner: Section = experiment
    *sections, leaf = path.split(".")
    for section in sections:
        owner = getattr(owner, section)
    declared = type(owner).model_fields.get(leaf)
    if declared is None:  # an option of one's own network is what it is
        value = getattr(owner, leaf)
        return {type(value)} & {bool, int, float, str}
    return _scalars(declared.annotation)


def _scalars(annotation: Any) -> set[type]:
    if annotation in (bool, int, float, str):
        return {annotation}
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return set()
    if origin is Literal:
        return {type(part) for part in parts}
    return {found for part in parts for found in _scalars(part)}


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


def shown(value: Any) -> str:
    """A value as it stands in messages."""
    text = str(value) if isinstance(value, (int, float)) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
