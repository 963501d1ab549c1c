"""The command `snnir`: a thin shell over the API. It parses, calls and prints; everything else is elsewhere.

Modules of commands import click alone at the top, so that `snnir --help` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from snnir import __version__
from snnir.cli.common import HELP_NAMES, State, debug_option
from snnir.cli.compile import compile_command
from snnir.cli.conformance import conformance_command
from snnir.cli.diff import diff_command
from snnir.cli.doctor import doctor_command
from snnir.cli.failure import explain, finish_output
from snnir.cli.inspect import inspect_command
from snnir.cli.passes import passes_command
from snnir.cli.sample import sample_command
from snnir.cli.targets import targets_command
from snnir.cli.train import train_command
from snnir.cli.validate import validate_command
from snnir.cli.visualize import visualize_command


@click.group(name="snnir", context_settings=HELP_NAMES)
@click.version_option(__version__, message="%(prog)s %(version)s")
@debug_option
def cli() -> None:
    """Compile spiking neural networks: defined once, emitted everywhere, proven equal.

    SRC is a model.py[:name], a .nir or .onnx file, or the folder of an artifact. Exit status: 0 fine, 1 something was
    found, 2 wrong usage, 3 a target's package is missing.

    \b
    Examples:
      snnir compile model.py --target norse,xylo-audio3 -o out
      snnir validate model.py --targets torch,norse,xylo-audio3
      snnir COMMAND --help
    """


for command in (
    compile_command,
    validate_command,
    conformance_command,
    inspect_command,
    diff_command,
    doctor_command,
    visualize_command,
    passes_command,
    targets_command,
    train_command,
    sample_command,
):
    cli.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits with its status."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status. Errors become messages on stderr, not tracebacks."""
    # On few cores PyTorch's threads, which wait by spinning, make everything several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no Greek gets question marks, not a traceback
    state = State(debug=os.environ.get("SNNIR_DEBUG", "") not in ("", "0"))
    try:
        status = cli.main(args=arguments, prog_name="snnir", standalone_mode=False, obj=state)
        finish_output()
        return status if isinstance(status, int) else 0
    except Exception as error:
        return explain(error, state)
    except KeyboardInterrupt:
        return explain(click.Abort(), state)
    except SystemExit:  # click's way of saying that whoever read stdout has gone
        return explain(BrokenPipeError(), state)
