"""What the performance pages quote, rerun by one command each."""
