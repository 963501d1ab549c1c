"""`python -m snnir.conformance my_package:adapter`: what another library makes of the suite."""

from snnir.cli.conformance import main

if __name__ == "__main__":
    main()
