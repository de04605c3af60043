"""How good samples are: the judge, and the scores in its feature space. docs/metrics.md says how to read them."""

from harness.quality.judge import Judge
from harness.quality.judges import has_judge, load_judge
from harness.quality.modes import ModeScorer
from harness.quality.score_set import ScoreSet
from harness.quality.scorer import FEWEST, Scorer

__all__ = ["FEWEST", "Judge", "ModeScorer", "ScoreSet", "Scorer", "has_judge", "load_judge"]
