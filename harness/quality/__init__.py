"""Score samples: the judge, and the scores in its feature space. docs/metrics.md explains them."""

from harness.quality.judge import Judge
from harness.quality.judges import has_judge, load_judge
from harness.quality.modes import ModeScorer
from harness.quality.score_set import ScoreSet
from harness.quality.scorer import MIN_IMAGES, Scorer

__all__ = ["MIN_IMAGES", "Judge", "ModeScorer", "ScoreSet", "Scorer", "has_judge", "load_judge"]
