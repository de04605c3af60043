"""Properties of a device that need no training: its name, and whether it computes in bf16."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def device_name(device: str) -> str:
    """Return the name of the GPU, or the model of the processor."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return _cpu_model(_read(Path("/proc/cpuinfo"))) or platform.processor() or platform.machine()


def has_bf16(device: str) -> bool:
    """Return whether the device may have instructions for bf16 products; without them bf16 is emulated and slow.

    True if this cannot be found out.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device != "cpu" or cpu_has_bf16(_capabilities())


def cpu_has_bf16(capabilities: Mapping[str, Any]) -> bool:
    """Return `has_bf16` for a processor with these capabilities, named as by `torch.cpu.get_capabilities`."""
    known = [capabilities[name] for name in ("amx_bf16", "avx512_bf16", "bf16") if name in capabilities]
    return any(known) or not known


def _capabilities() -> Mapping[str, Any]:
    """The bf16 capabilities of this processor; empty if torch does not report any."""
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)
    if get_capabilities is not None:
        found: Mapping[str, Any] = get_capabilities()
        return found
    if platform.machine() in ("x86_64", "AMD64"):
        functions = {"amx_bf16": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}
        return {name: getattr(torch.cpu, f)() for name, f in functions.items() if hasattr(torch.cpu, f)}
    features = _read(Path("/proc/cpuinfo"))
    return {"bf16": " bf16" in features} if "Features" in features else {}


def _cpu_model(cpuinfo: str) -> str:
    """`AMD EPYC 25 17`: a virtual machine may hide the model in the name, but not in the numbers."""
    facts = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    names = ("model name", "cpu family", "model", "CPU implementer", "CPU part")
    return " ".join(facts[name] for name in names if name in facts)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
