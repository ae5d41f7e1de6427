"""Manifests -> hypotheses, scores and a report; comparisons of systems."""

SYSTEMS = ("direct", "cascade", "mixed", "pooled", "memory", "text")
"""What can be scored. It stands where the command line finds it without importing anything heavy."""
USUAL_SYSTEMS = ("direct", "cascade", "text")
"""What is scored where nothing is asked for."""
LOOKUP = "lookup"
"""The floor beside them."""
