"""The doctor's rules: what each looks for, how grave it is, what importers make of it, what to do, what is repaired.

What importers do was measured with norse 1.1.0, snntorch 1.0.0, spikingjelly 2.0.0, sinabs 3.1.3, rockpool 3.1.0, nir
1.0.8 and nirtorch 2.6. The table in docs/doctor.md is made from this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["fault", "risk", "note"]
SEVERITIES: tuple[Severity, ...] = ("fault", "risk", "note")


@dataclass(frozen=True)
class Rule:
    """One rule; `repair` says what --fix does, and is empty where the file does not say the answer."""

    severity: Severity
    title: str
    meaning: str
    todo: str
    repair: str = ""


_REFUSED = "nir.read raises, so no importer takes the file"
_COPY = "write or copy the file again"

RULES: Mapping[str, Rule] = {
    # -- the file
    "file": Rule("fault", "the file is there, can be read, and is not empty", _REFUSED, "give the .nir file itself"),
    "file-format": Rule(
        "fault", "the file is HDF5", _REFUSED, "write it with nir.write or `snnir compile --target nir`"
    ),
    "file-damaged": Rule("fault", "the file is whole", _REFUSED, _COPY),
    "file-content": Rule(
        "fault", "the file holds a NIRGraph with nodes and edges", _REFUSED, "write the graph with nir.write"
    ),
    "version": Rule(
        "risk",
        "the file says the version of NIR that it was written with",
        "nir.read_version raises; readers cannot tell which fields to expect",
        "add the dataset /version",
        "writes the version that is known here",
    ),
    "version-unknown": Rule(
        "note",
        "the version is one that is known here",
        "fields may mean something else than they did in nir 1.0.8",
        "check it with the nir that wrote it",
    ),
    "own-metadata": Rule(
        "fault",
        "snnir's own notes in the file can be read",
        "snnir refuses the file; other importers do not look",
        "write the file again, or delete the metadata key 'snnir' to read it as a foreign file",
    ),
    "link": Rule(
        "fault",
        "no node or field is a link that leads nowhere or out of the file",
        "nir.read leaves it out and raises on the missing field",
        "write the file again, with the data in it",
    ),
    # -- nodes and fields
    "node": Rule("fault", "every node has a type", _REFUSED, "write the graph again with nir.write"),
    "node-type": Rule(
        "fault",
        "every type is one of NIR's",
        _REFUSED,
        "express the node in NIR's primitives, or as a subgraph of them",
    ),
    "field-missing": Rule("fault", "every node has all fields of its type", _REFUSED, "write the field"),
    "field-unknown": Rule(
        "fault",
        "no node has fields that its type lacks",
        _REFUSED,
        "remove it, or keep it in the node's metadata",
    ),
    "not-numbers": Rule(
        "fault",
        "parameters hold numbers: no text, no objects, no pickles",
        "nir.read hands it on as it is; importers raise, and who unpickles it runs what somebody else wrote",
        "write the field as an array of float32",
    ),
    "not-finite": Rule(
        "fault",
        "parameters are finite",
        "one NaN silences or poisons every neuron behind it, without an error",
        "look for what diverged in training, and export again",
    ),
    "field-sizes": Rule(
        "fault",
        "strides, paddings, kernel sizes, groups and shapes are whole numbers, as many as there are axes",
        "importers raise, or take another size",
        "write whole numbers, one per axis",
    ),
    "dtype": Rule(
        "risk",
        "parameters are float32 or float64 in this machine's byte order",
        "PyTorch refuses other byte orders and long doubles; integers and half floats give layers of that type, which "
        "fail or round time constants to whole numbers",
        "store float32",
        "converts to float32, or float64 where that would change a number",
    ),
    "dtype-mixed": Rule(
        "note",
        "a node's parameters are all of one type",
        "torch-based importers take types as they are and may raise on mixing float and double",
        "store all as float32",
    ),
    "scalar-parameter": Rule(
        "fault",
        "parameters are arrays of the population's full shape, not scalars",
        "nir asserts that all shapes are equal and raises, or gives the node an empty type that fails its type check",
        "write the array in full",
        "writes the value out to the population's shape",
    ),
    "broadcast-parameter": Rule(
        "fault",
        "parameters have the population's full shape: NIR does not broadcast",
        "nir asserts that all shapes are equal and raises",
        "write the array in full",
        "writes the values out to the population's shape",
    ),
    "parameter-shapes": Rule(
        "fault", "the shapes of a node's parameters agree", "nir's assertion on shapes fails", "export the layer again"
    ),
    "weight-axes": Rule(
        "fault",
        "weights have the axes of their type: (out, in), or (out, in / groups, kernel)",
        "importers raise on the shape",
        "reshape the weight",
    ),
    "bias-shape": Rule(
        "fault",
        "a bias has one number per output",
        "nir does not check it: importers raise, or broadcast the bias over the wrong axis",
        "write one number per output",
    ),
    "v-reset-missing": Rule(
        "note",
        "spiking neurons say their v_reset",
        "files before nir 1.0.5 have none; readers take 0",
        "write zeros",
        "writes zeros",
    ),
    "w-in-missing": Rule(
        "note",
        "current-based neurons say their w_in",
        "nir and snnir take 1",
        "write ones",
        "writes ones",
    ),
    "input-shape-missing": Rule(
        "risk",
        "convolutions declare the shape of their input",
        "nir.read 1.0.8 raises; snnir infers it",
        "write the shape",
        "writes the shape that arrives",
    ),
    "input-type-missing": Rule(
        "note",
        "Flatten declares the shape of its input",
        "nir infers it on reading; importers that do not run nir's inference get None",
        "write the shape",
        "writes the shape that arrives",
    ),
    # -- convolutions
    "conv-grouped": Rule(
        "risk",
        "convolutions have one group",
        "nir's type check takes weight.shape[1] for the number of channels, so nir.read raises; SpikingJelly and "
        "PAIBox refuse groups",
        "read it with type_check=False, or write it as one group with zeros (`snnir compile --target nir` does)",
    ),
    "conv-non-square": Rule(
        "risk",
        "kernels are square",
        "nir 1.0.8 infers the output's size with the first kernel size for both axes, so nir.read raises",
        "read it with type_check=False, or pad the kernel with zeros (`snnir compile --target nir` does)",
    ),
    "conv-invalid": Rule(
        "fault",
        "groups divide the channels, 'same' has stride 1, padding is a size, 'same' or 'valid'",
        "PyTorch refuses such a convolution; nir.read raises, or computes another shape",
        "correct the field",
    ),
    # -- edges and structure
    "edge-dangling": Rule("fault", "edges join nodes that exist", _REFUSED, "correct or remove the edge"),
    "edge-duplicate": Rule(
        "fault",
        "no edge stands twice",
        "nir 1.0.8 refuses it; older readers count it once or twice",
        "remove one; a factor of two belongs into the weights",
        "keeps one of them",
    ),
    "edge-direction": Rule(
        "fault",
        "no edge enters an Input or leaves an Output",
        "nir.read raises: types do not match, or no Output is left",
        "turn it",
    ),
    "unconnected": Rule(
        "fault",
        "something arrives at every node",
        "nir's type inference silently makes an Input of its own for it, which changes the network's interface",
        "connect it or remove it",
    ),
    "unreachable": Rule(
        "fault",
        "every node can be reached from an input or a root",
        "importers run it on zeros or never",
        "connect it to the rest, or remove it",
    ),
    "dead-end": Rule(
        "risk",
        "every node is read by another one",
        "nir's type inference silently adds an Output for it, so the network returns more than was meant",
        "connect it to an Output, or remove it",
    ),
    "no-input": Rule(
        "fault",
        "there is an Input",
        "nir makes one for every root; with a cycle at the front it raises",
        "add an Input",
    ),
    "no-output": Rule(
        "fault", "there is an Output", "nir makes one for every leaf; without a leaf it raises", "add an Output"
    ),
    "several-inputs": Rule(
        "risk",
        "there is one Input",
        "nirtorch (norse, snnTorch, sinabs, Rockpool) passes one tensor only",
        "concatenate the inputs, or use a target that names its inputs",
    ),
    "several-outputs": Rule(
        "risk",
        "there is one Output",
        "nirtorch returns the last node that it ran, whichever that is",
        "merge the outputs, or read them from the graph's populations",
    ),
    "output-fan-in": Rule(
        "risk",
        "one edge ends at the Output",
        "NIR sums; nirtorch returns a tuple of the parts",
        "sum in front of the Output, e.g. into a Scale by one",
    ),
    "fan-in": Rule(
        "risk",
        "one edge ends at every node",
        "NIR sums by convention; norse and sinabs return the other branch (nirtorch's execution order)",
        "check the import with `snnir validate`, or merge the branches into one weight",
    ),
    "subgraph-ports": Rule(
        "fault",
        "subgraphs that edges lead to have one Input and one Output",
        "NIR's edges name no port: nir raises on subgraphs with several",
        "put its nodes into the outer graph",
    ),
    "subgraph": Rule(
        "note",
        "there are no nested graphs",
        "norse, snnTorch and SpikingJelly flatten it; sinabs and Rockpool get it wrong or refuse all but a recurrent "
        "CubaLIF; nir.read(type_check=False) still checks inside",
        "flatten it (snnir does on reading)",
    ),
    "algebraic-loop": Rule(
        "fault",
        "every cycle holds state",
        "its values are undefined; importers run the nodes in some order",
        "put a neuron or a Delay on the cycle",
    ),
    "self-edge": Rule(
        "risk",
        "no neuron feeds itself without weights or a Delay",
        "NIR does not say that the edge is one step late; importers delay it, run it at once, or drop it",
        "put the recurrent weight and, where it matters, a Delay on it",
    ),
    "recurrence": Rule(
        "note",
        "there are no cycles",
        "NIR gives no delay for back edges: SpikingJelly, snnTorch and snnir let them be one step late; norse returns "
        "the wrong node, snnTorch's importer sends the input through the recurrent weights",
        "check the import with `snnir validate`",
    ),
    # -- shapes
    "batch-axis": Rule(
        "fault",
        "shapes have no batch or time axis",
        "nir's type check raises; exporters that trace with a batch leave it in (norse, Rockpool, snnTorch without "
        "ignore_dims=[0])",
        "remove the leading axes",
        "removes the leading axes",
    ),
    "flatten-batch": Rule(
        "fault",
        "Flatten counts its axes without the batch",
        "PyTorch's start_dim=1 was kept: the first axis stays unflattened",
        "count from 0: NIR has no batch axis",
        "lowers start_dim by one",
    ),
    "shape-mismatch": Rule(
        "fault",
        "what a node gives is what the next one takes",
        "nir's type check raises; with type_check=False importers fail at the first step, or broadcast",
        "export the network again, or correct the shape",
    ),
    # -- neurons
    "tau": Rule(
        "fault",
        "time constants are positive",
        "the membrane grows without bound, or the division by tau gives infinity",
        "write a positive time in seconds",
    ),
    "delay-negative": Rule("fault", "delays are not negative", "there is no such step", "write 0 or a time in seconds"),
    "threshold-reset": Rule(
        "fault",
        "thresholds lie above v_reset",
        "after a spike the neuron is above its threshold again: it fires in every step",
        "check the signs of v_threshold and v_reset",
    ),
    "fires-at-rest": Rule(
        "risk",
        "v_leak lies at or below the threshold",
        "the neuron fires without input",
        "check v_leak and v_threshold",
    ),
    "r-zero": Rule("risk", "r and w_in are not 0", "the neuron is deaf to its input", "check r and w_in"),
    "r-negative": Rule(
        "risk", "r and w_in are not negative", "every input acts with the other sign", "check r and w_in"
    ),
    "unit": Rule(
        "risk",
        "times are in seconds",
        "importers divide by dt in seconds: the neuron is a thousand times too slow, or unstable",
        "divide by 1000 what is in ms; multiply by dt what is in steps (sinabs), divide by dt what norse wrote",
    ),
    # -- time
    "euler-unstable": Rule(
        "fault",
        "a step is no longer than two time constants",
        "forward Euler grows without bound: |1 - dt/tau| > 1 (norse, snnTorch, SpikingJelly)",
        "use a shorter dt, or a longer tau",
    ),
    "euler-coarse": Rule(
        "risk",
        "a step is no longer than the time constant",
        "forward Euler turns the membrane's sign in every step; exponential decay (Rockpool, sinabs) does not",
        "use a shorter dt",
    ),
    "delay-steps": Rule(
        "risk",
        "delays are whole numbers of steps",
        "simulators round it, each in its own way",
        "write a multiple of dt",
    ),
    "time-step-disagree": Rule(
        "risk",
        "all populations imply the same time step",
        "no single dt gives every population the gain that it was trained with",
        "ask who trained it for dt, and scale r and w_in to it",
    ),
    "convention-mixed": Rule(
        "risk",
        "r follows one convention in the whole file",
        "populations with r = 1 get an input gain of dt/tau, the others of 1; snnTorch and SpikingJelly refuse some of "
        "these, norse and sinabs ignore r",
        "export all layers from one framework, or scale r (`normalise-gain`)",
    ),
    "time-step": Rule(
        "note",
        "what r and tau imply for the time step",
        "norse reads with dt = 1e-3 s unless told, SpikingJelly with 1e-4 s unless told, snnTorch always with 1e-4 s; "
        "norse and sinabs ignore r of LI, LIF and IF",
        "pass this dt to the importer (snnir: --dt)",
    ),
    "time-step-said": Rule(
        "note",
        "the time step stands where snnir alone looks",
        "other importers do not read it: norse takes 1e-3 s unless told, SpikingJelly 1e-4 s unless told, snnTorch "
        "always 1e-4 s, sinabs counts tau in steps",
        "pass this dt to the importer; for snnTorch, scale tau to 1e-4 s",
    ),
    "time-step-unsaid": Rule(
        "note",
        "something implies the time step",
        "norse reads with dt = 1e-3 s unless told, snnTorch and SpikingJelly with 1e-4 s, sinabs counts tau in steps: "
        "four networks from one file",
        "ask who trained the network for the dt of its training, and pass it (snnir: --dt)",
    ),
    "reset-unknown": Rule(
        "note",
        "the way of the reset is known",
        "NIR says v_reset only: norse, snnTorch and SpikingJelly reset to a value, sinabs and Rockpool subtract the "
        "threshold, whatever was trained",
        "keep the reset beside the file; snnir's files say it in their metadata",
    ),
    "v-reset-ignored": Rule(
        "risk",
        "v_reset is 0",
        "norse, snnTorch and sinabs ignore it without a word; SpikingJelly refuses it unless v_leak equals it",
        "shift the potentials so that v_reset is 0, or check the import with `snnir validate`",
    ),
    # -- names
    "name-slash": Rule(
        "fault",
        "no name has a '/'",
        "HDF5 takes it for a path, and nir.read raises a KeyError",
        "rename the node",
        "writes a '.' in its place",
    ),
    "name-clash": Rule(
        "risk",
        "names stay different when graphs are flattened and dots become underscores",
        "nirtorch writes '_' for '.': the later of the two nodes replaces the other",
        "rename one of them",
    ),
    "name-odd": Rule(
        "note",
        "names hold no dots, blanks or control characters",
        "nirtorch writes '_' for '.', so weights come back under other names",
        "use letters, digits and '_'",
    ),
    "not-loadable": Rule("fault", "snnir loads the file", "snnir refuses the file", "see what"),
}
