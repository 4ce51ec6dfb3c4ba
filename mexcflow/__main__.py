"""`python -m mexcflow` is the command `mexcflow`."""

from mexcflow.cli.main import main

main()
