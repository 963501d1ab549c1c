"""Names: from op names, which may hold any character, to unique Python identifiers."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

# Attributes of torch.nn.Module and of emitted models, which hold a layer per op: no layer may be called like these.
_OF_MODULES = frozenset(
    "INPUTS OUTPUTS SHARED SPELT STEPWISE T_destination add_module apply bfloat16 buffers call_super_init children "
    "compile cpu cuda double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter "
    "get_submodule half ipu load_state_dict modules mtia named_buffers named_children named_modules "
    "named_parameters parameters register_backward_hook register_buffer register_forward_hook "
    "register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook "
    "register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ self set_extra_state set_submodule "
    "share_memory state_dict to to_empty train training type xpu zero_grad".split()
)


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """Op name -> Python identifier, unique and stable: `down.0.lif` becomes `down_0_lif`.

    A name that is an identifier already stays as it is, so an identifier that is also an op's name means that op. The
    same names in the same order always give the same identifiers, so that weights find their way back.
    """
    names = list(names)
    stems = {name: _stem(name) for name in names}
    taken = {name for name in names if stems[name] == name}
    found: dict[str, str] = {}
    for name in names:
        ident, n = stems[name], 1
        while ident in taken and ident != name:
            n += 1
            ident = f"{stems[name]}_{n}"
        taken.add(ident)
        found[name] = ident
    return found


def _stem(name: str) -> str:
    stem = re.sub(r"\W", "_", name, flags=re.ASCII) or "op"
    if stem[0].isdigit():
        return f"_{stem}"
    if stem[0] == "_" and not stem[1:2].isdigit():  # private names are those of the class that holds the layers
        return f"op{stem}"
    return f"{stem}_" if keyword.iskeyword(stem) or stem in _OF_MODULES else stem


def fresh(stem: str, taken: Iterable[str]) -> str:
    """`stem`, or `stem.1`, `stem.2`, ...: the first that is not taken."""
    there = taken if isinstance(taken, (set, dict)) else set(taken)
    name, n = stem, 0
    while name in there:
        n += 1
        name = f"{stem}.{n}"
    return name


def apart(mark: str, names: Iterable[str]) -> str:
    """`mark`, repeated until no name holds it: what is put together with it is none of them, and comes apart again."""
    there, found = list(names), mark
    while any(found in name for name in there):
        found += mark
    return found
