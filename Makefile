# `make demo` and `make test` each work as the first command in a fresh clone: python3, make and pip's registry suffice.
# They install the versions of constraints/, which passed; with LATEST=1 the newest that pyproject.toml allows.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DOCS_READY := $(VENV)/.docs-ready
comma := ,
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])')
PINS := $(if $(LATEST),,$(wildcard constraints/py$(VERSION).txt))
READY := $(VENV)/.ready$(if $(LATEST),-latest)
# Warnings are of this machine's pip settings or of versions that are chosen here; errors are still shown.
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check $(if $(PINS),--constraint $(PINS)) \
	$(if $(LATEST),--upgrade --upgrade-strategy eager)
# TensorRT-RTX has wheels for x86-64 Linux only.
TRT := $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -))
EXTRAS := dev$(if $(TRT),$(comma)dev-trt)

.PHONY: setup demo test test-all test-slow test-fresh test-arm64 test-archive pins lint docs model clean

setup: $(READY)

# Made again whenever the dependencies change.
$(READY): pyproject.toml $(PINS)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 15) else f"hoiclip needs Python 3.10 to 3.14, found {v[0]}.{v[1]}; run make with PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing hoiclip and what it needs into $(VENV); the first time takes minutes."
	@$(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.ready*
	@touch $(READY)

demo: $(READY)
	$(BIN)/hoiclip demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A worker per core, though not so many that starting them takes the time they save.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST) -m 'not slow and not thorough'

# The others: they compile, train, serve, start processes or need real files.
test-all: $(READY)
	$(PYTEST) -m 'thorough and not slow'

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# What an edge box installs, in a fresh environment of every supported Python: without torch. FRESH=all: every test of the runtime.
FRESH := not all
test-fresh: $(READY)
	HOICLIP_REQUIRE_PYTHONS=1 HOICLIP_LATEST=$(LATEST) $(BIN)/python -m pytest -m slow tests/fresh -k '$(FRESH)'

# The runtime on aarch64, emulated by QEMU in a Debian that debootstrap makes, and the pip steps of the Jetson images. As root, on
# Linux 6.7 or newer, with the packages debootstrap and qemu-user-static; the emulator is registered for the tests alone.
test-arm64: $(READY)
	HOICLIP_REQUIRE_ARM64=1 $(BIN)/python -m pytest -m slow tests/fresh/test_arm64.py

# Archives on a Ray of their own, which `make setup` leaves out: half a gigabyte with what it brings.
test-archive: $(READY)
	$(PIP_INSTALL) --editable '.[archive]'
	HOICLIP_REQUIRE_ARCHIVE=1 $(BIN)/python -m pytest -m slow tests/engine/test_archive_ray.py

# The newest versions that each supported Python resolves to, into constraints/; PYTHONS: only of these, such as "3.10 3.13".
pins: $(READY)
	$(BIN)/python -m constraints.resolve $(PYTHONS)

# The site of README, docs/ and docstrings, in build/site. A link to nothing is an error (with --quiet it would not be).
docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --config-file website/mkdocs.yml
	@echo "Open build/site/index.html"

$(DOCS_READY): $(READY)
	$(PIP_INSTALL) --editable '.[docs]'
	@touch $(DOCS_READY)

# The bundled model from scratch: days on two cores without bf16, hours with. Give the same command again after an interrupt.
model: $(READY)
	$(BIN)/hoiclip train drawn_clip.toml --out runs/clip
	$(BIN)/hoiclip train drawn_detector.toml --out runs/detector
	$(BIN)/hoiclip train drawn.toml --out runs/drawn
	$(BIN)/hoiclip train drawn_further.toml --out runs/further --set init.model=runs/drawn/model.safetensors

clean:
	rm -rf $(VENV) build dist demo .pytest_cache .mypy_cache .ruff_cache
