"""The command line: parsers and tables only. Each command is a module with `Options` and `run(options)`."""
