"""Manifests -> hypotheses, scores and a report; comparisons of systems."""

SYSTEMS = ("direct", "cascade", "text")
"""What can be scored. It stands where the command line finds it without importing anything heavy."""
LOOKUP = "lookup"
"""The floor beside them."""
