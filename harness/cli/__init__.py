"""The command line: parses, calls, prints. No logic lives here, and heavy imports happen inside the commands."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from harness import console
from harness._version import __version__
from harness.cli import compare, completion, inspect, maintain, run, sample, serve, shells, tune
from harness.cli.common import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OF_SIGNAL
from harness.cli.help import CommandGroup, DocumentedCommand
from harness.environment import check_working_directory, prepare_environment
from harness.errors import HarnessError, redact
from harness.experiment import trust


def main() -> NoReturn:
    """The console script `harness`."""
    if os.environ.get("_HARNESS_COMPLETE"):
        _complete()
    console.install()
    debug = "--debug" in sys.argv or bool(os.environ.get("HARNESS_DEBUG"))
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        # Not cli.main(): it exits silently at every BrokenPipeError, even at one that is not about the output.
        with cli.make_context("harness", arguments) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("harness: stopped", file=sys.stderr)
        sys.exit(EXIT_OF_SIGNAL["SIGINT"])
    except HarnessError as error:
        if debug:
            raise
        print(f"harness: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except Exception as error:
        if debug:
            raise
        text = " ".join(redact(str(error)).split())
        print(f"harness: {type(error).__name__}: {text[:500]} (a bug in harness; --debug shows where)", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    if isinstance(code, int):
        sys.exit(code)
    sys.exit(EXIT_FAILED if console.output_failed() else 0)  # a command that cannot print has failed


def _complete() -> NoReturn:
    """Print the suggestions that the shell asks for. Errors print nothing."""
    try:
        cli.main(prog_name="harness")
    except HarnessError:
        sys.exit(EXIT_BAD_INPUT)
    except Exception:
        sys.exit(EXIT_FAILED)
    sys.exit(0)


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    subcommand_metavar="COMMAND ...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, message="harness %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error (with any command).")
@click.pass_context
def cli(context: click.Context) -> None:
    """Train, track, score and search small GANs. MLflow keeps every run.

    `harness COMMAND --help` shows the options of a command, and examples. A RUN is a run id, the beginning of one, a
    run name, or `latest`.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        return
    check_working_directory()
    prepare_environment()
    previous = trust.get_policy()
    trust.set_policy(trust.Policy(strict=True))
    context.call_on_close(lambda: trust.set_policy(previous))


for command in (
    run.run,
    tune.tune,
    tune.studies,
    tune.worker,
    tune.storage,
    run.check,
    inspect.runs,
    inspect.evaluate,
    sample.sample,
    sample.write,
    compare.compare,
    inspect.ui,
    sample.history,
    serve.serve,
    serve.promote,
    inspect.experiments,
    maintain.schema,
    maintain.sync,
    maintain.push,
    maintain.doctor,
):
    cli.add_command(DocumentedCommand(command))
completion.attach(cli)
shells.install()
