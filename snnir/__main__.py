"""`python -m snnir` is the command `snnir`."""

from snnir.cli import main

main()
