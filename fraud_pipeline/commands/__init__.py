"""The subcommands of `fraud-pipeline`, a module each: `register` declares its arguments, `run` does the work."""
