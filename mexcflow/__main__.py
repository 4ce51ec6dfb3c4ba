"""`python -m mexcflow` is the command `mexcflow`."""

from mexcflow.cli.app import main

main()
