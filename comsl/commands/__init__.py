"""Commands of the command line that fill a file of their own: what they are called with, and what they call."""
