"""`python -m suffice`."""

from suffice.cli.main import main

main()
