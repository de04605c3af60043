"""What the figures of a benchmark depend on besides the code."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import psutil
import torch

# A row is seen when it is measured, in a file and in a pipe, too.
sys.stdout.reconfigure(line_buffering=True)


def circumstances(device: str) -> dict[str, object]:
    """Hardware, threads, load, versions and commit."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line), cpu)
    return {
        "device": torch.cuda.get_device_name() if torch.device(device).type == "cuda" else cpu,
        "cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": psutil.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _git("rev-parse", "HEAD") + (" with changes" if _git("status", "--porcelain") else ""),
    }


def _git(*arguments: str) -> str:
    """What git says of this checkout; nothing where there is no git, or no checkout."""
    try:
        said = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return ""
    return said.stdout.strip()
