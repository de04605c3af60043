"""docs/tutorial.md: every command of the page, as it stands there, in a fresh clone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import NamedTuple

import pytest

from harness import experiment

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tutorial.md"
FENCED = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FIRST_EPOCH = "epoch 1/"
OBEYING_CTRL_C = (
    "python -c 'import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execvp(sys.argv[1], sys.argv[1:])'"
)


class Step(NamedTuple):
    """A command of the page, or a file that it asks for. interrupted: by Ctrl-C, after the first epoch."""

    command: str = ""
    file: str = ""
    content: str = ""
    interrupted: bool = False


def steps() -> list[Step]:
    """The page's `sh` and `console` blocks, and the files that its `yaml` blocks name, in order."""
    found = []
    for language, title, block in FENCED.findall(PAGE.read_text(encoding="utf-8")):
        if language == "sh":
            found += [Step(line) for line in block.splitlines()]
        elif language == "console":
            commands = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
            found += [Step(command, interrupted="^C" in block) for command in commands]
        elif title:
            found.append(Step(file=title, content=block))
    return found


def clone_to(folder: Path) -> None:
    """A fresh clone whose .venv has the packages of this environment, and harness from the clone."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    shutil.copytree(ROOT / "harness", folder / "harness", dirs_exist_ok=True)  # what is not committed yet, too
    environment = folder / ".venv"
    venv.create(environment, symlinks=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(f"{folder}\n{sysconfig.get_path('purelib')}\n")
    script = environment / "bin" / "harness"
    script.write_text(f"#!{environment}/bin/python\nfrom harness.cli import main\nmain()\n")
    script.chmod(0o755)
    (environment / ".ready").touch()  # `make` installs nothing


class Shell:
    """One bash for the whole page: `source` in one block counts in the next."""

    def __init__(self, folder: Path) -> None:
        hidden = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "VIRTUAL_ENV")
        environment = {key: value for key, value in os.environ.items() if key not in hidden}
        environment["PYTHONUNBUFFERED"] = "1"
        self.bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, step: Step) -> tuple[int, str]:
        """Exit code and output. An interrupted command gets SIGINT after its first epoch, as at Ctrl-C."""
        assert self.bash.stdin is not None
        assert self.bash.stdout is not None
        # A background job of bash ignores SIGINT, unless it is given back before the command starts.
        command = f"{OBEYING_CTRL_C} {step.command} & echo pid $!; wait $!" if step.interrupted else step.command
        self.bash.stdin.write(f"{command}\necho exit-code $?\n")
        self.bash.stdin.flush()
        output, pid = "", 0
        while True:
            line = self.bash.stdout.readline()
            assert line, f"bash ended: {output}"
            if line.startswith("exit-code "):
                return int(line.split()[1]), output
            if line.startswith("pid "):
                pid = int(line.split()[1])
            output += line
            if pid and line.startswith(FIRST_EPOCH):
                os.kill(pid, signal.SIGINT)

    def close(self) -> None:
        self.bash.kill()
        self.bash.communicate()


def test_the_page_uses_every_command_of_the_start() -> None:
    commands = " ; ".join(step.command for step in steps())
    for wanted in ("make run", "harness run", "harness sample", "--resume", "harness compare", "harness tune"):
        assert wanted in commands


def test_the_experiment_of_the_page_is_valid() -> None:
    (file,) = [step for step in steps() if step.file]
    folder_of, name = file.file.split("/")
    assert folder_of == "experiments"
    raw = experiment.parse_yaml(file.content, name)
    assert raw["name"] == Path(name).stem
    assert set(raw["search"]) == {"optimizer.lr", "generator.latent"}


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git checkout to clone")
@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.skipif(sys.platform == "win32", reason="the page is for a POSIX shell")
def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    clone_to(folder)
    shell = Shell(folder)
    outputs = {}
    try:
        for step in steps():
            if step.file:
                (folder / step.file).write_text(step.content)
                continue
            code, output = shell.run(step)
            assert code == (128 + signal.SIGINT if step.interrupted else 0), f"{step.command}\n{output}"
            outputs[step.command] = output
    finally:
        shell.close()
    said = list(outputs.values())
    assert "FINISHED  first  2 of 2 epochs" in said[0]
    (stopped,) = [output for output in said if "STOPPED" in output]
    assert "longer" in stopped
    assert "FINISHED  longer  5 of 5 epochs" in outputs["harness run --resume longer"]
    assert "FINISHED  study quick  3 of 3 trials" in outputs["harness tune quick --trials 3"]
    for name in ("digits.png", "compare.html", "study.html", "mlruns/studies/quick/best.yaml"):
        assert (folder / name).stat().st_size > 0, name
