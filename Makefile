# make run   search on this machine: the digits example, from manifest to trained network
# make test  format, lint, types, import contracts, and every test
#
# Both set up what they need on the first call, in .venv, and nothing on the next.
#   PYTHON=python3.12    another interpreter (3.11 or later)
#   TORCH_BACKEND=cpu    another build of torch: cpu, cu128, rocm6.3, auto, ... (see uv's
#                        --torch-backend); left empty, the build that PyPI serves
#   EXAMPLE=FILE         another manifest for make run
#   WORKERS=0            make test in one process; by default there are two, side by side
#   NODE=real            make cluster with a node that runs containers (as root)

PYTHON ?= python3
TORCH_BACKEND ?=
EXAMPLE ?= examples/digits.yaml
WORKERS ?= 2
NODE ?= stand-in
BIN := .venv/bin
SETUP := .make/setup$(if $(TORCH_BACKEND),-$(TORCH_BACKEND))
UV := $(or $(shell command -v uv),.make/uv/bin/uv)

.DEFAULT_GOAL := help
.PHONY: help setup run test lint types unit soak bench generate docs lock clean cluster operator cluster-down e2e

help: ## Show this help
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(SETUP) ## Make the environment in .venv

.make/uv/bin/uv:
	@mkdir -p .make
	$(PYTHON) -m venv .make/uv && .make/uv/bin/pip install --quiet uv \
	  || { rm -rf .make/uv; $(PYTHON) -m pip install --quiet --target .make/uv uv; }

# Another torch build has other wheels: then the lock gives the versions and not the hashes.
$(SETUP): requirements.lock pyproject.toml $(UV)
	@mkdir -p .make && rm -f .make/setup*
	$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
ifeq ($(TORCH_BACKEND),)
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
else
	$(UV) pip install --quiet --python $(BIN)/python --no-verify-hashes \
	  --torch-backend $(TORCH_BACKEND) --constraint requirements.lock \
	  --group dev --requirement pyproject.toml --all-extras
endif
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

run: $(SETUP) ## Search on this machine (EXAMPLE=examples/digits.yaml)
	$(BIN)/kinase run $(EXAMPLE)

test: $(SETUP) lint types unit ## Format, lint, types and every test

lint: $(SETUP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tests.modules

types: $(SETUP)
	$(BIN)/mypy

unit: $(SETUP)
	$(BIN)/python -m tests.twice -n $(WORKERS) $(PYTEST_ARGS)

soak: $(SETUP) ## The long tests, before a release: every repetition of what `make test` has once
	$(BIN)/python -m pytest -n $(WORKERS) -m soak $(PYTEST_ARGS)

generate: docs ## Write crds/, docs/manifest and the dashboards from the code
	$(BIN)/python -m kinase.api.crd crds charts/kinase/files/crds
	$(BIN)/python -m charts.dashboards charts/kinase/files/dashboards

e2e: $(SETUP) ## From images and chart to a search on real nodes, and its removal (as root)
	$(BIN)/python -m tests.twice tests/node $(PYTEST_ARGS)

cluster: $(SETUP) ## Start a cluster to try things on, in the background (NODE=real: with containers)
	@$(BIN)/python -m tests.cluster.lab up --node=$(NODE)

operator: $(SETUP) ## Run the operator on it, in the foreground, and say what to type
	@$(BIN)/python -m tests.cluster.demo

cluster-down: $(SETUP) ## End it
	@$(BIN)/python -m tests.cluster.lab down

docs: $(SETUP) ## Write docs/manifest and the tables of fields in other pages from kinase/api
	$(BIN)/python -m kinase.api.reference --pages docs
	$(BIN)/python -m kinase.api.reference $$(grep -rl '^<!-- fields: ' docs --include '*.md')

.PHONY: site
site: $(SETUP) ## Build the documents as a site, in .make/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

COMPILE = $(UV) pip compile --quiet --universal --generate-hashes --no-annotate --no-header \
  --python-version 3.11

lock: pyproject.toml $(UV) ## Resolve the dependencies again into requirements.lock and requirements/
	$(COMPILE) pyproject.toml --all-extras --group dev --upgrade --output-file requirements.lock
	$(MAKE) requirements

# What each image holds, in the versions of requirements.lock. The trainer's is in two files, for torch
# can also be the base image's (Dockerfile).
.PHONY: requirements
requirements: requirements.lock pyproject.toml $(UV)
	for image in build operator; do \
	  $(COMPILE) requirements/$$image.in --constraint requirements.lock \
	    --output-file requirements/$$image.lock || exit; \
	done
	$(COMPILE) pyproject.toml --extra operator --extra s3 --extra report --extra curves \
	  --constraint requirements.lock --output-file requirements/controller.lock
	$(COMPILE) pyproject.toml --extra trainer --extra s3 \
	  --constraint requirements.lock --output-file .make/trainer.lock
	awk '/^[^ ]/ { file = /^(torch|torchvision|triton|(nvidia|cuda)-[a-z0-9-]+)==/ ? "torch" : "trainer" } \
	  { print > "requirements/" file ".lock" }' .make/trainer.lock

# REGISTRY and TAG name the images, PUSH=1 pushes them; ENGINE, IMAGES, BASE, TRAINER_BASE, TORCH, SOURCE
# and CA are in docs/images.md.
ENGINE ?= $(shell for e in docker podman buildah; do $$e info >/dev/null 2>&1 && echo $$e && break; done)
IMAGES ?= operator controller trainer
TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
image_options = --build-arg VERSION=$(TAG) --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null) \
  $(foreach name,BASE TRAINER_BASE TORCH SOURCE PIP_INDEX_URL UV_DEFAULT_INDEX, \
    $(if $($(name)),--build-arg $(name)=$($(name)))) \
  $(if $(CA),--secret id=ca$(comma)src=$(CA)) $(if $(NETRC),--secret id=netrc$(comma)src=$(NETRC))
comma := ,

.PHONY: images
images: ## Build the images of operator, controller and trainer (REGISTRY=... TAG=... PUSH=1)
	@test -n "$(ENGINE)" || { echo "none of docker, podman and buildah works here" >&2; exit 1; }
	for image in $(IMAGES); do \
	  name=$(if $(REGISTRY),$(REGISTRY)/)kinase-$$image:$(TAG); \
	  $(ENGINE) build --target $$image --tag $$name $(image_options) . || exit; \
	  $(if $(PUSH),$(ENGINE) push $$name || exit;) \
	done

clean: ## Remove the environment and what the tools cached
	rm -rf .venv .make .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
