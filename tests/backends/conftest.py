"""Fixtures of the backends' tests."""

from collections.abc import Iterator

import pytest


@pytest.fixture(params=["tensor", "numba"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The engine that the neuron loops of the torch target run on; a test that names another fails."""
    import torch

    from snnir.backends.torch import kernels

    monkeypatch.setattr(kernels, "NUMBA_AFTER", 0 if request.param == "numba" else 1 << 62)
    called: list[int] = []
    launch = kernels._launch
    monkeypatch.setattr(kernels, "_launch", lambda *a: (called.append(1), launch(*a)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield request.param
    torch.set_num_threads(threads)
    assert bool(called) == (request.param == "numba"), "the test did not run on the engine it names"
