# `make demo` and `make test` each work as the first command in a fresh clone: python3, make and pip's registry suffice.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
comma := ,
# TensorRT-RTX has wheels for x86-64 Linux only.
EXTRAS := dev$(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),$(comma)dev-trt)

.PHONY: setup demo test test-slow test-fresh test-archive lint docs model clean

setup: $(READY)

# Made again whenever the dependencies change.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 13) else f"hoiclip needs Python 3.10, 3.11 or 3.12, found {v[0]}.{v[1]}; run make with PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $(READY)

demo: $(READY)
	$(BIN)/hoiclip demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A worker per core, though not so many that starting them takes the time they save.
test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# What an edge box installs, in a fresh environment of every supported Python: without torch. FRESH=all: every test of the runtime.
FRESH := not all
test-fresh: $(READY)
	HOICLIP_REQUIRE_PYTHONS=1 $(BIN)/python -m pytest -m slow tests/fresh -k '$(FRESH)'

# Archives on a Ray of their own, which `make setup` leaves out: half a gigabyte with what it brings.
test-archive: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[archive]'
	HOICLIP_REQUIRE_ARCHIVE=1 $(BIN)/python -m pytest -m slow tests/engine/test_archive_ray.py

# The site of README, docs/ and docstrings, in build/site. A link to nothing is an error (with --quiet it would not be).
docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --config-file website/mkdocs.yml
	@echo "Open build/site/index.html"

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $(DOCS_READY)

# The bundled model from scratch: days on two cores without bf16, hours with. Give the same command again after an interrupt.
model: $(READY)
	$(BIN)/hoiclip train drawn_clip.toml --out runs/clip
	$(BIN)/hoiclip train drawn_detector.toml --out runs/detector
	$(BIN)/hoiclip train drawn.toml --out runs/drawn

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache
