"""Train, track, score and search small GANs.

    import harness

    run = harness.run("default", epochs=2)
    run.scores["test/kid"], run.samples(100), run.history()

`harness.run`, `harness.tune` and `harness.compare` do what the commands of these names do. Names are imported when they
are used: `import harness` alone takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness._version import __version__

if TYPE_CHECKING:
    from harness.api import (
        Comparison,
        Confirmation,
        Run,
        Samples,
        Study,
        compare,
        load_run,
        load_study,
        push,
        resume,
        run,
        sync,
        tune,
    )
    from harness.errors import HarnessError
    from harness.experiment import Experiment
    from harness.gan import Training

__all__ = [
    "Comparison",
    "Confirmation",
    "Experiment",
    "HarnessError",
    "Run",
    "Samples",
    "Study",
    "Training",
    "__version__",
    "compare",
    "load_run",
    "load_study",
    "push",
    "resume",
    "run",
    "sync",
    "tune",
]

_ELSEWHERE = {"Experiment": "harness.experiment", "HarnessError": "harness.errors", "Training": "harness.gan"}


def __getattr__(name: str) -> Any:
    if name.startswith("__") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ELSEWHERE.get(name, "harness.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
