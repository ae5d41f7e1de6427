"""``python -m comsl``, and what torchrun and accelerate launch start."""

import sys

from comsl.cli import main

if __name__ == "__main__":
    sys.exit(main())
