"""How cost grows: manifests, training steps, processes, and what that predicts; ``python -m benchmarks.scale``."""
