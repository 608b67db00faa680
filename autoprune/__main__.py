"""``python -m autoprune``."""

from __future__ import annotations

import sys
from pathlib import Path

# Python puts the current folder first; a file of it is not to stand in for a package (typer.py, onnx.py).
if __name__ == "__main__" and not sys.flags.safe_path and sys.path and sys.path[0] in ("", str(Path.cwd())):
    del sys.path[0]

from autoprune.cli import run

if __name__ == "__main__":
    run()
