# Two commands do everything: `make demo` and `make test`. Both make their own .venv; both re-run fast.
PYTHON ?= python3
BIN := .venv/bin
# PyTorch's threads wait by spinning, which on few cores makes everything several times slower.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
WORKERS ?= 2

.PHONY: demo demo-digits test fuzz lint bench lava clean

demo: .venv/.ready
	$(BIN)/python examples/fsddim/demo.py

demo-digits: .venv/.ready
	$(BIN)/python examples/digits/demo.py

test: .venv/.ready
	$(BIN)/python -m pytest -n $(WORKERS) -q

# What `make test` draws is always the same; this draws anew, with one seed after the other (docs/testing.md).
SEEDS ?= 1 2 3 4 5 6 7 8 9 10
fuzz: .venv/.ready
	for seed in $(SEEDS); do \
	SNNIR_FUZZ=1 $(BIN)/python -m pytest -n $(WORKERS) -q -m hypothesis --hypothesis-seed=$$seed || exit 1; done

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.ready
	$(BIN)/python benchmarks/peers.py
	$(BIN)/python benchmarks/rockpool_modules.py
	$(BIN)/python benchmarks/xylo_simulator.py
	$(BIN)/python benchmarks/xylo_quantisation.py
	$(BIN)/python benchmarks/compile_time.py

# Lava's own Python, in the user's cache: with it `make test` compares with Lava itself, without with traces recorded
# from it. Needs a Python 3.10 on the path, in pyenv or uv, or `make lava PYTHON310=path`.
lava: .venv/.ready
	$(BIN)/python -m snnir targets lava --setup $(if $(PYTHON310),--python $(PYTHON310))

# PyTorch comes first and alone, so that nothing else chooses another build of it. Norse and SpikingJelly ask for
# torchvision, which what we use of them never imports and which would replace that build, and sinabs for samna and an
# older nir: so they are installed without their requirements, and the few of those that they do import are named.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TORCH := torch==2.13.0

.venv/.ready: pyproject.toml Makefile
	test -L snnir/backends || { echo "snnir/backends must be a symbolic link (git config core.symlinks true)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) '$(TORCH)'
	$(PIP) '$(TORCH)' --editable '.[dev]' rockpool==3.1.0 sanafe==2.2.9 loguru requests SciencePlots tqdm pbr
	$(PIP) --no-deps norse==1.1.0 spikingjelly==2.0.0 sinabs==3.1.3
	touch $@

clean:
	rm -rf .venv build dist out *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
