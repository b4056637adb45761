"""Print the tables of ``docs/settings.md``."""

import sys

from onnxgru.settings.config import Config
from onnxgru.settings.manual import page

if __name__ == "__main__":
    sys.stdout.write(page(Config))
