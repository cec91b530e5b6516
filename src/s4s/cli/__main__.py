"""python -m s4s.cli is the command s4s."""

from s4s.cli import main

main()
