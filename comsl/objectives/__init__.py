"""One file an objective; one pass over the batch for all of them."""

from comsl.objectives.base import Memory, Objective, ObjectiveError, Reads, Target, Term
from comsl.objectives.joint import JointModel, JointOutput
from comsl.objectives.settings import OBJECTIVES, ObjectiveSet

__all__ = [
    "OBJECTIVES",
    "JointModel",
    "JointOutput",
    "Memory",
    "Objective",
    "ObjectiveError",
    "ObjectiveSet",
    "Reads",
    "Target",
    "Term",
]
