# dvmvs_ros from a fresh clone, without a ROS installation. `make help` lists the targets.
#
# On a ROS 2 distribution use colcon instead (README.md).

SEQUENCE ?=
OUT ?= out/demo
VIEW ?=
PYTEST_ARGS ?=
WORKERS ?= 2
MINUTES ?= 10
FIRST ?= 0
SOAK_OUT ?= out/soak

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all fuzz soak lint docs gpu-wheels clean

# .venv holds its own ROS 2: a distribution sourced in this shell would mix its libraries in.
unexport PYTHONPATH PYTHONHOME LD_LIBRARY_PATH
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH ROS_DISTRO RMW_IMPLEMENTATION
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: ## make .venv: packages, ROS 2 from wheels, tf2_msgs (PYTHON=python3.12 chooses the interpreter)
	@PYTHON='$(PYTHON)' bash scripts/setup.sh

demo: setup ## run the node on examples/room, SEQUENCE=office (fetched) or SEQUENCE=scene-or-bag, into OUT=out/demo; VIEW=rerun or foxglove shows it
ifeq ($(VIEW),rerun)
	@.venv/bin/python -c 'import rerun' 2>/dev/null || \
		.venv/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt rerun-sdk
endif
	@.venv/bin/python -m dvmvs_ros.demo.run $(if $(SEQUENCE),--sequence '$(SEQUENCE)') $(if $(VIEW),--view '$(VIEW)') --out '$(OUT)'

# A file's tests stay together, since they share nodes, and so do all of test/ros (test/conftest.py).
pytest = .venv/bin/python -m pytest -n $(WORKERS) --dist loadfile

test: setup ## run the tests but the slow ones (PYTEST_ARGS='-k keyframes' for some of them, WORKERS=2 at a time)
	@$(pytest) -m 'not slow' $(PYTEST_ARGS)

test-all: setup ## run all tests: builds, compilers, whole trainings and long recordings too
	@$(pytest) $(PYTEST_ARGS)

fuzz: setup ## damage recordings, messages and files at random for MINUTES=10, and read them
	@.venv/bin/python test/fuzz/fuzz_run.py --minutes $(MINUTES) --first $(FIRST)

soak: setup ## run the node at full rate for MINUTES=10 with a random fault every few seconds, and judge it
	@.venv/bin/python benchmarks/soak.py --minutes $(MINUTES) --out '$(SOAK_OUT)'

lint: setup ## check style and imports with ruff
	@.venv/bin/ruff check .

# Not part of the set-up: nothing but the manual needs it. No --quiet: it would hide warnings, and let them pass.
docs: setup ## build the manual into out/manual; a link that leads nowhere is an error
	@.venv/bin/python -c 'import material, mkdocstrings' 2>/dev/null || \
		.venv/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt mkdocs-material 'mkdocstrings[python]'
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build
	@echo "out/manual/index.html (its search needs a server: python3 -m http.server -d out/manual)"

# What a bare machine with torch and CUDA lacks; pure Python, but for kornia's half that reads images.
gpu-wheels: setup ## fetch what scripts/gpu_minutes.sh takes to a machine without network, into .gpu/wheels
	@rm -rf .gpu && .venv/bin/python -m pip download --disable-pip-version-check -q --no-deps --only-binary=:all: \
		--python-version 3.12 --platform manylinux2014_x86_64 --platform any -c constraints.txt -d .gpu/wheels \
		tyro typeguard docstring-parser typing-extensions kornia kornia-rs packaging pytest pluggy iniconfig pygments \
		lz4 backports.zstd
	@ls .gpu/wheels && du -sh .gpu

clean: ## remove all that these targets made: .venv, out/, build output and caches
	rm -rf .venv .gpu out build install log *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
