"""Bit-exact models of neuromorphic chips, in NumPy alone; import the one you need: `xylo` or `loihi`."""
