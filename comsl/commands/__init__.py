"""A file a command: what it is called with, and what it calls. Nothing heavy is imported before that."""
