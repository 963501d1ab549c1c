"""Bit-exact models of neuromorphic chips, in NumPy alone; import the chip you need: `snnir.simulators.xylo`."""
