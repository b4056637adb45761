"""``python -m onnxgru``."""

import sys

from onnxgru.cli import main

if __name__ == "__main__":
    sys.exit(main())
