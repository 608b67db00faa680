"""``python -m autoprune``."""

from __future__ import annotations

import sys

from autoprune.cli import main

if __name__ == "__main__":
    sys.exit(main())
