"""Several commands in order, as a folder's ``run.yaml`` names them: ``comsl run``."""
