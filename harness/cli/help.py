"""Additions to `--help`: commands grouped by subject, and examples of each command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

START = "Start here"
GROUPS: Mapping[str, Sequence[str]] = {
    START: ("run", "sample", "tune", "compare", "ui"),
    "Runs and scores": ("runs", "studies", "evaluate", "check"),
    "Pictures": ("write", "history"),
    "Models": ("promote", "serve"),
    "Experiment files": ("experiments", "schema"),
    "Clusters": ("worker", "storage", "sync", "push"),
    "Maintenance": ("doctor",),
}

# By command: a description of the example, and a line that can be pasted into a shell.
EXAMPLES: Mapping[str, Sequence[tuple[str, str]]] = {
    "run": (
        ("Train for two epochs on 6,000 images.", "harness run --epochs 2 --subset 6000"),
        (
            "Train another experiment with another learning rate.",
            "harness run conditional --epochs 2 --set optimizer.lr=1e-3",
        ),
        ("Train under three seeds and report mean and deviation.", "harness run --subset 6000 --seeds 3"),
        ("Print all values of an experiment without training.", "harness run notebook --dry-run"),
    ),
    "tune": (
        ("Run five trials of the default experiment, or continue up to five.", "harness tune --trials 5"),
        ("Print what is searched and what a trial costs.", "harness tune --dry-run"),
        (
            "Search another range, in a new study.",
            "harness tune --study rates --trials 5 --set 'search.optimizer.lr={low: 1e-4, high: 1e-2, log: true}'",
        ),
        ("Train the best and the baseline values under three new seeds.", "harness tune --confirm 3"),
    ),
    "studies": (
        ("List the studies of this folder.", "harness studies"),
        ("Save the list for a program.", "harness studies --json > studies.json"),
    ),
    "check": (
        ("Test the default experiment in a few seconds.", "harness check default"),
        ("Test two experiments on the CPU.", "harness check default notebook --device cpu"),
    ),
    "runs": (
        ("List the 20 newest runs.", "harness runs"),
        ("Include the trials of studies.", "harness runs --all --limit 50"),
        ("Save the list for a program.", "harness runs --json > runs.json"),
    ),
    "evaluate": (
        ("Score the newest run again.", "harness evaluate latest"),
        ("Score it with fewer images, which is faster.", "harness evaluate latest --samples 1000"),
        (
            "Score images from a file.",
            "harness sample latest --count 500 --out digits.npz && harness evaluate --images digits.npz --samples 500",
        ),
    ),
    "sample": (
        ("Draw a grid of 100 images with the newest run.", "harness sample latest --out digits.png"),
        ("Draw 1,000 images into a NumPy archive.", "harness sample latest --count 1000 --out digits.npz"),
        ("Draw sevens only.", "harness sample latest --digits 7 --out sevens.png"),
        ("Draw walks through latent space, as an animation.", "harness sample latest --interpolate --out walk.webp"),
    ),
    "write": (
        ("Write a date into written.png.", 'harness write latest "2026-11-22"'),
        ("Write a time three times, dark on white.", "harness write latest 10:45 --rows 3 --paper --out time.png"),
        ("Animate a pen that writes a number.", "harness write latest 31415 --out pen.gif"),
    ),
    "history": (
        ("Animate the sample grids of the newest run.", "harness history latest"),
        ("Put the grids on one sheet.", "harness history latest --out history.png"),
    ),
    "compare": (
        ("Compare the runs of an experiment.", "harness compare --experiment default"),
        ("Compare the trials of a study, as a web page.", "harness compare --study default --html study.html"),
        (
            "Draw the samples of the three best trials side by side.",
            "harness compare --study default --best 3 --picture best.png",
        ),
    ),
    "ui": (
        ("Open the newest project in the browser.", "harness ui"),
        ("Open the page of the newest run.", "harness ui latest"),
        ("Only print the address, for a browser on another machine.", "harness ui --no-open --port 5050"),
    ),
    "serve": (
        ("Serve the newest run's generator.", "harness serve latest"),
        (
            "Register the generator, then serve it from the model registry.",
            "harness promote latest --as digits && harness serve models:/digits@champion --port 5051",
        ),
    ),
    "promote": (
        ("Register the newest run's generator as digits@champion.", "harness promote latest --as digits"),
        ("Register it under another alias.", "harness promote latest --as digits --alias staging"),
    ),
    "experiments": (
        ("List the experiments and their descriptions.", "harness experiments"),
        ("Save the list for a program.", "harness experiments --json > experiments.json"),
    ),
    "schema": (
        ("Save the schema for an editor.", "harness schema > schema.json"),
        ("Print the schema.", "harness schema"),
    ),
    "sync": (
        ("Send offline runs, and what is left in ./mlruns/spool.", "harness sync"),
        (
            "Train offline into a folder, then send its runs.",
            "harness run --offline --spool node7 --epochs 2 --subset 6000 && harness sync node7",
        ),
    ),
    "worker": (
        ("Join the study `default` of this folder.", "harness worker --study default"),
        (
            "Start a search in a storage that other machines can reach, and join it.",
            "harness tune --trials 2 --storage sqlite:///studies.db && "
            "harness worker --study default --storage sqlite:///studies.db",
        ),
    ),
    "storage": (
        ("Serve the studies of this folder to this machine.", "harness storage serve"),
        ("Serve a database on another port.", "harness storage serve --storage sqlite:///studies.db --port 13001"),
    ),
    "push": (
        ("Copy the newest run to another store.", "harness push latest --to sqlite:///team.db"),
        ("Copy a study with all its trials.", "harness push --study default --to sqlite:///team.db"),
    ),
    "doctor": (
        ("Check this machine and this folder.", "harness doctor"),
        ("Check another store.", "harness doctor --tracking-uri sqlite:///mlruns/mlflow.db"),
    ),
}


class CommandGroup(click.Group):
    """A group that lists its commands by subject, the first ones first. Without arguments it shows its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of their groups."""
        grouped = [name for names in GROUPS.values() for name in names if name in self.commands]
        return grouped + sorted(self.commands.keys() - grouped)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands first, then the options."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list of commands for each group."""
        width = max(map(len, self.commands), default=0)
        other = sorted(self.commands.keys() - {name for names in GROUPS.values() for name in names})
        for subject, names in {**GROUPS, "Other": other}.items():
            found = [self.commands[name] for name in names if name in self.commands]
            if not found:
                continue
            limit = formatter.width - width - 6
            with formatter.section(subject):
                formatter.write_dl(
                    [(str(command.name).ljust(width), command.get_short_help_str(limit)) for command in found]
                )


class DocumentedCommand(click.Command):
    """A copy of a command whose help ends with its examples."""

    def __init__(self, command: click.Command) -> None:
        super().__init__(
            command.name,
            context_settings=command.context_settings,
            callback=command.callback,
            params=command.params,
            help=command.help,
            epilog=command.epilog,
            short_help=command.short_help,
            options_metavar=command.options_metavar,
            add_help_option=command.add_help_option,
            no_args_is_help=command.no_args_is_help,
            hidden=command.hidden,
            deprecated=command.deprecated,
        )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog, then the examples."""
        super().format_epilog(ctx, formatter)
        examples = EXAMPLES.get(str(self.name), ())
        if not examples:
            return
        with formatter.section("Examples"):
            indent = " " * formatter.current_indent
            for text, line in examples:  # never wrapped: a broken line cannot be pasted
                formatter.write(f"{indent}# {text}\n{indent}{line}\n")
