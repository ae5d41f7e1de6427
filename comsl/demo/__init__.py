"""The small world that runs anywhere, and the models that ship."""

PARTS = ("speech", "text", "composite")
"""What ships. It stands where the command line finds it without importing anything heavy."""
