"""From a PyTorch module to a graph, and trained weights back into the module.

The module's forward() is run once on symbols (torch.fx). Layers of `snnir.nn` and of `torch.nn` become ops named by
their module paths; every op knows the line of forward() that called it.
"""

from snnir.frontends.torch_fx.load import load_module
from snnir.frontends.torch_fx.weights import to_module_weights

__all__ = ["load_module", "to_module_weights"]
