"""The command line: `commands` has what each command takes, `flags` reads it, `run` runs it."""

from onnxgru.cli.run import main as main
