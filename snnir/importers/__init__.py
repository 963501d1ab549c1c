"""The frameworks' own NIR importers, put to the test: what they build from a file, against what the file means.

`check_importer` hands a NIR file to `from_nir` of Norse, snnTorch, sinabs, SpikingJelly or Rockpool as their users do,
runs what it built step by step, and names what it got wrong. Nothing is taken from a table of known faults:

* every node's input and output are recorded while the network runs, so what feeds it is seen, not assumed;
* a node that answers its own input otherwise than the file's equation does is held against one changed reading after
  the other (r ignored, reset to 0, another time step, ...) until one answers as it does, step for step;
* what was found is put together into one model, which must reproduce the importer's own output. How much of it the
  model reproduces is part of the report.
"""

from snnir.importers.checking import check_importer
from snnir.importers.findings import Fault, ImporterVerdict, Refusal
from snnir.importers.table import IMPORTERS, Importer, importer_names

__all__ = ["IMPORTERS", "Fault", "Importer", "ImporterVerdict", "Refusal", "check_importer", "importer_names"]
