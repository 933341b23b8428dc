# `make help` lists the targets. Everything is installed into .venv and written below build/ (as root: README, "Try it").
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV   := .venv
PY     := $(VENV)/bin/python
BUILD  := build
LOCKED := $(shell cat requirements.lock pyproject.toml deploy/venv.sh 2>/dev/null | sha256sum | cut -c1-16)
STAMP  := $(VENV)/.installed-$(LOCKED)
CODE   := workers model streams storage tests
DATA   ?= $(BUILD)/data
WORK   ?= $(BUILD)/nano
DEMO_ARGS ?=
RECIPE ?= nano
ARGS   ?=
SEED   ?= 1
RUNS   ?= 1000000
SEEDS  ?= 2000
JOBS   ?= 1
FAULTS ?=
MINUTES ?= 30
PROCESSES ?= 2

.PHONY: audit bench-extra check clean demo deploy-lint distclean evaluate-extra faults format full-geometry fuzz growth help install kill lint lock recordings sim soak soak-engine test train train-ablation train-nano train-nano-smoke types

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## .venv with the exact versions of requirements.lock (idempotent)

$(STAMP): requirements.lock pyproject.toml deploy/venv.sh
	@bash deploy/venv.sh $(VENV)
	@rm -f $(VENV)/.installed-*; touch $@

check: install lint types deploy-lint ## ruff, mypy --strict, Dockerfile and compose file

lint: install
	$(PY) -m ruff check $(CODE)
	$(PY) -m ruff format --check $(CODE)

types: install
	$(PY) -m mypy

deploy-lint: install
	$(VENV)/bin/hadolint deploy/Dockerfile
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml

format: install ## let ruff rewrite what it can
	$(PY) -m ruff check --fix $(CODE)
	$(PY) -m ruff format $(CODE)

test: install ## the whole suite, against real Kafka and PostgreSQL, in two processes; PROCESSES=2
	$(PY) -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

recordings: install ## the demo's recordings, into build/recordings
	$(PY) -m workers.recordings $(BUILD)/recordings

demo: recordings ## install, fetch recordings, play three live streams (about 2 minutes); DEMO_ARGS="--json"
	$(VENV)/bin/eureka demo --recordings $(BUILD)/recordings $(DEMO_ARGS)

train-nano: install ## train the nano checkpoint anew (hours); DATA=folder WORK=folder, see model/train/README.md
	$(PY) -m model.train nano --work $(WORK) --data $(DATA)

train-nano-smoke: install ## train from scratch in two minutes: falling losses, readable transcripts of unheard takes (needs flite)
	rm -rf $(BUILD)/train-smoke/run
	$(PY) -m model.train smoke --work $(BUILD)/train-smoke

train: install ## train a recipe on manifests, resumes; RECIPE=nano DATA="a.jsonl b.jsonl" WORK=folder ARGS="--minutes 60"
	$(PY) -m model.train run --recipe $(RECIPE) --work $(WORK) --data $(DATA) $(ARGS)

train-ablation: install ## word error rate of routed experts and of one dense FFN of equal active size (minutes; needs flite)
	$(PY) -m model.train ablation --work $(BUILD)/train-ablation

kill: install ## kill -9 the worker at 20 seeded points on real Kafka, compare the rows (about 10 minutes); SEED=1
	$(PY) -m tests.faults.kill --points 20 --seed $(SEED)

sim: install ## a simulated cluster, seed by seed: crashes, zombies, outages, lost answers; SEEDS=2000 JOBS=1 (minutes)
	$(PY) -m tests.sim --seeds $(SEEDS) --jobs $(JOBS)

faults: install ## every row of the fault table, three seeds each, into build/faults.json (17 minutes); FAULTS="--row zombie"
	$(PY) -m tests.faults --json $(BUILD)/faults.json $(FAULTS)

soak: recordings ## sessions come and go on 6 live lines through one worker: memory, descriptors, losses; MINUTES=30
	$(PY) -m tests.faults.soak --minutes $(MINUTES) --seed $(SEED) --json $(BUILD)/soak.json --plot $(BUILD)/soak.png

full-geometry: install ## build the 1.7B geometry on the CPU and answer one window (about 10 GB of memory)
	$(PY) -m model.full_geometry

lock: ## requirements.lock anew from requirements.in (uses the registry that pip and uv are configured with)
	$(VENV)/bin/uv pip compile requirements.in -o requirements.lock --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" --quiet $(LOCK_ARGS)
	$(VENV)/bin/uv pip compile requirements-demo.in -o requirements-demo.lock --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" --quiet $(LOCK_ARGS)
	$(VENV)/bin/uv pip compile requirements-bench.in -o requirements-bench.lock --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" --quiet $(LOCK_ARGS)
	for extra in evaluate fuzz audit; do \
	  $(VENV)/bin/uv pip compile requirements-$$extra.in -o requirements-$$extra.lock --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" --quiet $(LOCK_ARGS); \
	done

fuzz: install ## extra "fuzz": atheris on message parsing and audio decoding (20 minutes); RUNS=1000000 SEED=1
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements-fuzz.lock
	$(PY) -m tests.fuzz parse --runs $(RUNS) --seed $(SEED)
	$(PY) -m tests.fuzz decode --runs $(RUNS) --seed $(SEED)

audit: install ## extra "audit": bandit, pip-audit where OSV can be reached, an SBOM into build/sbom.cdx.json
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements-audit.lock
	$(PY) -m tests.security.audit

bench-extra: install ## the extra "bench": a peer to measure against
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements-bench.lock

evaluate-extra: install ## the extra "evaluate": an independent aligner for word times, a reader of Parquet
	$(PY) -m pip install --quiet --no-deps --require-hashes -r requirements-evaluate.lock

growth: install ## model/bench/growth.png anew: time and memory against windows in flight, length, slots (minutes)
	$(VENV)/bin/eureka bench growth --plot model/bench/growth.png

soak-engine: install ## 2 000 windows through the engine; its memory must stay within 5 % (minutes)
	$(VENV)/bin/eureka bench soak

clean: ## remove caches and build/, keep .venv
	rm -rf $(BUILD) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

distclean: clean ## remove .venv too
	rm -rf $(VENV)
