"""Experiments: reading, overriding, and one clear line for everything that can be wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness import experiment as experiments
from harness.errors import HarnessError
from harness.experiment import Experiment, Section
from harness.experiment.networks import MLPDiscriminator
from harness.experiment.scheduled import Scheduled
from harness.experiment.schedules import stretched


def test_the_notebook_is_the_baseline_to_the_letter() -> None:
    leaves = experiments.load("notebook").flatten()
    assert leaves["generator.latent"] == 100
    assert leaves["generator.widths"] == [256, 512, 1024]
    assert leaves["discriminator.widths"] == [1024, 512, 256]
    assert leaves["discriminator.dropout"] == 0.3
    assert leaves["generator.slope"] == leaves["discriminator.slope"] == 0.2
    assert leaves["optimizer.lr"] == 2e-4
    assert leaves["optimizer.betas"] == [0.9, 0.999]
    assert (leaves["train.epochs"], leaves["train.batch_size"], leaves["train.precision"]) == (200, 100, "fp32")
    assert leaves["data.validation"] == 0
    assert leaves["data.subset"] is None
    assert leaves["track.samples_every"] is None
    assert experiments.load("notebook").samples_every == 10


@pytest.mark.parametrize(("epochs", "every"), [(1, 1), (3, 1), (19, 1), (25, 2), (100, 10), (1000, 10)])
def test_grids_are_as_frequent_as_a_run_is_short(tiny: Experiment, epochs: int, every: int) -> None:
    assert tiny.with_values({"track.samples_every": None, "train.epochs": epochs}).samples_every == every
    assert tiny.with_values({"track.samples_every": 7, "train.epochs": epochs}).samples_every == 7


@pytest.mark.parametrize("name", sorted(experiments.available()))
def test_every_bundled_experiment_loads_and_survives_its_own_yaml(name: str) -> None:
    experiment = experiments.load(name)
    assert experiment.name == name
    assert experiment.description
    assert experiments.from_yaml(experiment.to_yaml()) == experiment


def test_every_leaf_has_a_meaning() -> None:
    models = [*Section.__subclasses__(), *Scheduled.__subclasses__()]
    fields = [(model.__name__, *item) for model in models for item in model.model_fields.items()]
    bare = {(model, name) for model, name, field in fields if not field.description}
    assert bare == {
        ("Experiment", path.partition(".")[0]) for path in experiments.load("notebook").flatten() if "." in path
    }
    assert all(model.__doc__ for model in models)


def test_overrides_reach_leaves_by_their_dotted_path() -> None:
    experiment = experiments.load(
        "notebook", ["optimizer.lr=1e-4", "train.epochs=3", "discriminator.widths=[64, 32]", "data.subset=null"]
    )
    assert experiment.optimizer.lr == 1e-4
    assert experiment.train.epochs == 3
    assert isinstance(experiment.discriminator, MLPDiscriminator)
    assert experiment.discriminator.widths == (64, 32)
    assert experiment.data.subset is None
    assert set(experiments.load("notebook").differences(experiment)) == {
        "optimizer.lr",
        "train.epochs",
        "discriminator.widths",
    }


def test_an_experiment_is_frozen(tiny: Experiment) -> None:
    with pytest.raises(ValueError, match="frozen"):
        tiny.train.epochs = 5  # type: ignore[misc]


def test_schema_describes_every_section() -> None:
    schema = experiments.schema()
    assert set(schema["properties"]) >= {"data", "generator", "discriminator", "objective", "optimizer", "train"}
    assert schema["$defs"]["Optimizer"]["properties"]["lr"]["description"]
    assert schema["$defs"]["Optimizer"]["additionalProperties"] is False
    for name in ("generator", "discriminator"):
        kinds = [kind["$ref"].rpartition("/")[2] for kind in schema["properties"][name]["anyOf"]]
        assert [kind.removesuffix(name.title()) for kind in kinds] == ["MLP", "Conv", "Residual", "Custom"]
        assert schema["$defs"][kinds[-1]]["additionalProperties"] is True


def test_schema_has_the_bounds_of_every_number() -> None:
    parts = experiments.schema()["$defs"]
    latent, slope = (parts["ConvGenerator"]["properties"][name] for name in ("latent", "slope"))
    assert (latent["minimum"], latent["maximum"]) == (1, 4096)
    assert (slope["minimum"], slope["exclusiveMaximum"]) == (0, 1)
    assert parts["Optimizer"]["properties"]["lr"]["exclusiveMinimum"] == 0
    (subset,) = (kind for kind in parts["Data"]["properties"]["subset"]["anyOf"] if kind["type"] == "integer")
    assert subset["minimum"] == 1
    assert "required" not in experiments.schema(), "a file that names nothing has its own name"
    said = str(parts)
    assert not [name for name in ("'ge'", "'le'", "'gt'", "'lt'") if name in said]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lrr=3", "unknown key optimizer.lrr; did you mean optimizer.lr?"),
        ("lr=3", "unknown key lr; did you mean optimizer.lr?"),
        ("optimizer=3", "optimizer is a section, not a field; set optimizer.lr"),
        ("optimizer.lr.x=3", "not a field of the experiment"),
        ("nowhere.lr=3", "unknown key nowhere.lr"),
        ("optimizer.lr=-1", "optimizer.lr is -1; input should be greater than 0"),
        ("optimizer.lr=fast", "optimizer.lr is 'fast'; input should be a valid number"),
        ("optimizer.lr=.nan", "optimizer.lr is nan; input should be a finite number"),
        ("optimizer.lr=on", "optimizer.lr is 'on'; input should be a valid number"),
        ("optimizer.lr=true", "optimizer.lr is True; a number was expected"),
        ("train.epochs=yes", "train.epochs is 'yes'; input should be a valid number"),
        ("data.subset=no", "data.subset is 'no'; input should be a valid number"),
        ("generator.widths=[64, yes]", "generator.widths.1 is 'yes'; input should be a valid number"),
        (
            "generator.widths=[64, 0x10]",
            "generator.widths.1 is '0x10'; input should be a valid number (write it as a dec",
        ),
        ("optimizer.betas=[off, 0.9]", "optimizer.betas.0 is 'off'; input should be a valid number"),
        (
            "optimizer.lr=1:30",
            "optimizer.lr is '1:30'; input should be a valid number (minutes and seconds are not read",
        ),
        ("train.batch_size=1_000", "train.batch_size is '1_000'; input should be a valid number (write it without _)"),
        (
            "train.batch_size=0x10",
            "train.batch_size is '0x10'; input should be a valid number (write it as a decimal nu",
        ),
        (
            "train.batch_size=0o17",
            "train.batch_size is '0o17'; input should be a valid number (write it as a decimal nu",
        ),
        (
            "train.batch_size='10'",
            "train.batch_size is '10'; input should be a valid number (this is text; write it wit",
        ),
        ("optimizer.lr=inf", "optimizer.lr is 'inf'; input should be a valid number that is finite"),
        ("optimizer.lr=1e-4 # slow", "optimizer.lr is '1e-4 # slow'; input should be a valid number"),
        ("generator.widths=[64] # few", "not valid YAML"),
        ("conditional=maybe", "conditional is 'maybe'; input should be a valid boolean"),
        ("data.seed=9223372036854775808", "data.seed is 9223372036854775808; input should be less than 92233720368547"),
        ("optimizer.lr={[a]: 1}", "not valid YAML"),
        ("train.epochs=1.5", "train.epochs is 1.5; input should be a valid integer"),
        ("train.precision=fp16", "train.precision is 'fp16'; input should be 'auto', 'fp32' or 'bf16'"),
        ("data.subset=10", "data.subset is 10, less than one batch (train.batch_size 100)"),
        (
            "objective.r1=1",
            "objective.r1 is 1.0 and discriminator.dropout 0.3: a gradient penalty needs",
        ),
        ("objective.dragan=10", "objective.dragan is 10.0 and discriminator.dropout 0.3"),
        ("objective.r1=-1", "objective.r1 is -1; input should be greater than or equal to 0"),
        ("objective.kind=wgan", "objective.kind is 'wgan'; input should be 'non-saturating', 'minimax', 'lsgan'"),
        ("objective.label_smoothing=0.5", "objective.label_smoothing is 0.5; input should be less than 0.5"),
        (
            "discriminator.pack=3",
            "discriminator.pack is 3, and train.batch_size 100 is no multiple of it: set it to 99",
        ),
        ("train.discriminator_steps=0", "train.discriminator_steps is 0; input should be greater than or equal to 1"),
        ("augment.translation=2", "augment.translation is 2; input should be less than or equal to 1"),
        ("augment.flip=0.5", "unknown key augment.flip"),
        ("generator.blocks=2", "generator.blocks: generator.kind mlp has no such option; it has kind, latent, widths"),
        ("generator.kind=cnn", "generator.kind is 'cnn'; expected 'mlp', 'conv', 'residual', or package.module:Class"),
        ("generator.kind=3", "generator.kind is '3'; expected 'mlp', 'conv', 'residual', or package.module:Class"),
        (
            "generator.kind=null",
            "generator.kind is 'null'; expected 'mlp', 'conv', 'residual', or package.module:Class",
        ),
        ("generator.kind=[mlp]", "generator.kind is '[mlp]'; expected 'mlp', 'conv', 'residual', or package.module:Cl"),
        ("optimizer.schedule=cos", "optimizer.schedule is 'cos'; input should be 'constant', 'linear' or 'cosine'"),
        ("optimizer.lr", "expected path=value"),
        ("=3", "expected path=value"),
        ("optimizer.lr=[", "not valid YAML"),
    ],
)
def test_a_bad_override_is_refused_in_one_line(override: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        experiments.load("notebook", [override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "line 1, column 6: malformed YAML"),
        ("name: x\nname: y", "line 2, column 1: malformed YAML: name is given twice"),
        ("name: x\n? [a]\n: 3", "line 2, column 3: malformed YAML: a list or mapping cannot be a key"),
        ("name: x\n? {a: b}\n: 3", "line 2, column 3: malformed YAML: a list or mapping cannot be a key"),
        ("name: x\ntrain: {epochs: !!int x}", "malformed YAML: invalid literal for int()"),
        (
            "name: x\ntrain: {epochs: 0x10}",
            "train.epochs is '0x10'; input should be a valid number (write it as a decim",
        ),
        (
            "name: x\noptimizer: {lr: 1:30}",
            "optimizer.lr is '1:30'; input should be a valid number (minutes and seconds",
        ),
        ("name: x\ntrain: {epochs: yes}", "train.epochs is 'yes'; input should be a valid number"),
        ("name: x\n2024: 3", "unknown key 2024"),
        ("name: \x00", "malformed YAML: unacceptable character"),
        ("name: " + "[" * 10_000, "malformed YAML: maximum recursion depth exceeded"),
        ("- a", "expected a mapping of sections"),
        ("", "expected a mapping of sections"),
        ("name: x\ndata: 3", "data is 3; a mapping of keys was expected"),
        ("name: x\noptimizr: {lr: 3}", "unknown key optimizr; did you mean optimizer?"),
        ("name: x\ntrain: {epochs: 0, batch: 3}", "unknown key train.batch; did you mean train.batch_size?"),
        ("project: x", "name is missing"),
        ("name: x\ngenerator: 3", "generator is 3; a mapping of keys was expected"),
        (
            "name: x\ngenerator: {width: 3}",
            "generator.width: generator.kind mlp has no such option; it has kind, latent",
        ),
        (
            "name: x\ndiscriminator: {kind: conv, widths: [3]}",
            "discriminator.widths: discriminator.kind conv has no such option; it has kind, width, slope, dropout",
        ),
        ("name: x\ngenerator: {kind: residual, batch_norm: true}", "generator.kind residual has no such option"),
        (
            "name: x\nobjective: {kind: hinge, label_smoothing: 0.1}",
            "objective.label_smoothing is 0.1, but hinge has no target to smooth: set it to 0, or objective.kind to",
        ),
        (
            "name: x\nconditional: true\ndiscriminator: {pack: 2}",
            "discriminator.pack is 2, but a pack of images has no single class for a conditional discriminator",
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(HarnessError) as caught:
        experiments.from_yaml(text, "my.yaml")
    assert str(caught.value).startswith("my.yaml")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.batch_size=010", 10),
        ("train.epochs=09", 9),
        ("optimizer.lr=.5", 0.5),
        ("optimizer.lr=1e-4", 1e-4),
        ("optimizer.lr=1E-4", 1e-4),
        ("discriminator.widths=[010, 20]", [10, 20]),
        ("data.subset=null", None),
        ("name=2024", "2024"),
        ("name=yes", "yes"),
        ("name=null", "null"),
        ("name=2026-11-22", "2026-11-22"),
        ("project=1:30", "1:30"),
        ("description=best of #3: yes", "best of #3: yes"),
        ("description={a: [b", "{a: [b"),
        ('description="quoted"', '"quoted"'),
        ("description=", ""),
        ("quality.judge=null", None),
        ("quality.judge_weights=007", "007"),
        ("train.device=cpu", "cpu"),
    ],
)
def test_a_value_is_read_by_the_type_of_its_leaf(override: str, value: object) -> None:
    leaf = experiments.load("notebook", [override]).flatten()[override.partition("=")[0]]
    assert (leaf, type(leaf)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("010", 10),
        ("0x10", 16),
        ("1:30", "1:30"),
        ("2026-11-22", "2026-11-22"),
        ("1_000", "1_000"),
        ("1e5", 1e5),
        ("true", True),
        ("~", None),
        ("'5'", "5"),
        ("best of #3", "best of #3"),
        ("5 # or 6", "5 # or 6"),
        ("[1, no, 010]", [1, "no", 10]),
    ],
)
def test_options_of_ones_own_network_are_yaml_1_2(text: str, value: object) -> None:
    own = experiments.load("notebook", ["generator.kind=networks:G", f"generator.option={text}"])
    found = own.flatten()["generator.option"]
    assert (found, type(found)) == (value, type(value))
    if "#" not in text:
        file = experiments.from_yaml(f"name: x\ngenerator: {{kind: 'networks:G', option: {text}}}")
        assert file.flatten()["generator.option"] == value


@pytest.mark.parametrize("leaf", ["train.epochs", "data.subset"])
def test_a_leaf_that_is_given_two_values_is_refused(leaf: str) -> None:
    with pytest.raises(HarnessError, match=f"{leaf} is given twice, as 500 and as 400: give it once"):
        experiments.load("notebook", [f"{leaf}=500", f"{leaf}=400"])
    assert experiments.load("notebook", [f"{leaf}=500", f"{leaf}=500"]).flatten()[leaf] == 500


def test_text_in_a_file_is_taken_as_it_stands() -> None:
    text = "name: 2024\nproject: yes\ndescription: 1e5\nquality: {judge: null, judge_weights: 08}\ntrain: {epochs: 010}"
    leaves = experiments.from_yaml(text).flatten()
    assert [leaves[leaf] for leaf in ("name", "project", "description")] == ["2024", "yes", "1e5"]
    assert [leaves[leaf] for leaf in ("quality.judge", "quality.judge_weights", "train.epochs")] == [None, "08", 10]


AWKWARD = [
    *("2024", "010", "08", "0o7", "0x1F", "0b1", "1_000", "1:30", "1:30:00", "1e5", "1E-4", ".5", "5.", "+3", "-0"),
    *("yes", "No", "on", "OFF", "y", "n", "true", "False", "null", "Null", "~", ".inf", "-.INF", ".nan", "inf", "nan"),
    *(
        "2026-11-22",
        "2026-11-22 10:00:00",
        "<<",
        "=",
        "-",
        "?",
        ":",
        "a: b",
        "a #b",
        "#b",
        "- a",
        "? a",
        "[a",
        "{a: b}",
    ),
    *(
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "|",
        ">",
        "'",
        '"',
        "it's",
        "---",
        "...",
        "",
        " a",
        "a ",
        "a\nb",
        "\n",
        "\t",
        "a\tb",
    ),
    *("\\", "\x00", "\x07", "\x85", "\u2028", "\ufeff", "é", "数字", "😀", "a " * 120, "\r\n", "!!int 3", ",", "]"),
]


@pytest.mark.parametrize("text", AWKWARD)
def test_every_text_survives_the_yaml_of_its_experiment(text: str) -> None:
    own = {"kind": "networks:G", "option": text, "several": [text, 1, None, True, 1e-5]}
    plan = experiments.from_mapping({"name": text[:100] or "x", "description": text[:500], "generator": own}, "test")
    assert experiments.from_yaml(plan.to_yaml()) == plan
    earlier = yaml.safe_dump(
        plan.model_dump(mode="json"), sort_keys=False, width=120
    )  # YAML 1.1, as was written before
    assert experiments.from_yaml(earlier).flatten() | {"generator.option": 0, "generator.several": 0} == (
        plan.flatten() | {"generator.option": 0, "generator.several": 0}
    )


def test_switches_still_take_booleans() -> None:
    experiment = experiments.load("notebook", ["generator.kind=conv", "generator.batch_norm=on", "conditional=yes"])
    assert experiment.flatten()["generator.batch_norm"] is True
    assert experiment.conditional


def test_an_unknown_experiment_names_the_nearest() -> None:
    with pytest.raises(HarnessError, match="did you mean notebook"):
        experiments.load("notebok")


def test_an_experiment_in_the_working_directory_hides_a_bundled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "notebook.yaml").write_text("description: mine")
    monkeypatch.chdir(tmp_path)
    assert experiments.load("notebook").description == "mine"
    assert experiments.load("notebook").name == "notebook"


def test_a_schedule_is_kept_in_yaml_and_in_the_params_and_is_absent_without_one() -> None:
    plain = experiments.load("notebook")
    assert "schedule" not in yaml.safe_load(plain.to_yaml())
    assert not [path for path in plain.flatten() if path.startswith("schedule")]
    planned = plain.with_values(
        {"schedule.optimizer.lr": {1: 2e-4, 3: 1e-4}, "schedule.discriminator.dropout": {2: 0.1}}
    )
    assert experiments.from_yaml(planned.to_yaml()) == planned
    assert yaml.safe_load(planned.to_yaml())["schedule"]["optimizer.lr"] == {1: 2e-4, 3: 1e-4}
    assert planned.flatten()["schedule.optimizer.lr"] == {1: 2e-4, 3: 1e-4}
    assert list(plain.differences(planned)) == ["schedule.optimizer.lr", "schedule.discriminator.dropout"]
    assert len({planned, experiments.from_yaml(planned.to_yaml()), plain}) == 2, "it can be hashed"
    rates = [planned.at_epoch(epoch).optimizer.lr for epoch in (1, 2, 3, 4)]
    assert rates == [2e-4, 2e-4, 1e-4, 1e-4]
    drops = [planned.at_epoch(epoch).discriminator.dropout for epoch in (1, 2, 3)]
    assert drops == [plain.discriminator.dropout, 0.1, 0.1]
    assert planned.at_epoch(1).schedule == {}


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("generator.latent: {1: 5}", "schedule.generator.latent: expected one of optimizer.lr,"),
        ("optimizer.lr: {0: 0.1}", "schedule.optimizer.lr has epoch 0; epochs are counted from 1"),
        ("optimizer.lr: {3: 5}", "schedule, epoch 3: optimizer.lr is 5.0"),
        ("optimizer.lr: 5", "schedule.optimizer.lr is 5; a mapping of keys was expected"),
        ("optimizer.lr: {}", "schedule.optimizer.lr is empty"),
        ("optimizer.lr: {a: 5}", "input should be a valid integer"),
        ("objective.r1: {2: 1}", "schedule.objective.r1: the value of objective.r1 and all values of its schedule"),
    ],
)
def test_a_wrong_schedule_is_refused_in_words(schedule: str, message: str) -> None:
    with pytest.raises(HarnessError) as refused:
        experiments.from_yaml(f"name: wrong\nschedule:\n  {schedule}\n")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_stretched_schedule_changes_at_the_same_share_of_the_run() -> None:
    schedule = {"optimizer.lr": {1: 0.3, 2: 0.2, 5: 0.1}}
    assert stretched(schedule, 10) == {"optimizer.lr": {1: 0.3, 11: 0.2, 41: 0.1}}
    assert stretched(schedule, 1) == schedule
    assert stretched(schedule, 0.25) == {"optimizer.lr": {1: 0.2, 2: 0.1}}, "changes that fall together: the last"
