"""``python -m cosmosaic``: the ``cosmosaic`` command, which lies above the library and is found by its entry point."""

import sys
from importlib.metadata import entry_points

(command,) = entry_points(group="console_scripts", name="cosmosaic")
sys.exit(command.load()())
