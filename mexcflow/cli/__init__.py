"""The command line: a file a command; Rich and typer live here only."""
