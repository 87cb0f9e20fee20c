# Each target sets up what it needs: `make run` is the main job on the embedded default, `make test` all tests.
PYTHON ?= python3
CORES ?= all
CONFIG ?=
BIN := .venv/bin
READY := .venv/ready
CONFIGFILE := $(if $(CONFIG),--configfile $(CONFIG))
# One thread a process: jobs share the cores by Snakemake, and small matrices only lose by more threads.
export OMP_NUM_THREADS ?= 1

.PHONY: run test test-slurm test-databases faults lint bench env

run: $(READY)
	$(BIN)/snakemake --cores $(CORES) $(CONFIGFILE)

# What runs Snakemake itself uses the cores by that; the rest shares them by processes.
test: $(READY)
	$(BIN)/pytest tests/unit tests/science -n 2 --dist loadfile
	$(BIN)/pytest tests/workflow tests/dft tests/faults

# A real Slurm on this machine (Debian or Ubuntu, root). SHORT=1 leaves out what takes minutes.
test-slurm: $(READY)
	$(BIN)/pytest tests/slurm $(if $(SHORT),-m "not slow")

# Databases behind a network: a real OPTIMADE server, and a real MariaDB where it is installed.
test-databases: $(READY)
	$(BIN)/pytest tests/databases

# Kills, full disks, damaged files, hostile input, fuzzing: an hour or more, best on an idle machine.
faults: $(READY)
	$(BIN)/pytest tests/faults --reliability docs/reliability.md

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

# Half an hour on two cores; best on an idle machine.
bench: $(READY)
	@mkdir -p results
	$(BIN)/python -m benchmarks | tee results/benchmarks.jsonl
	$(BIN)/python -m benchmarks.page results/benchmarks.jsonl docs/performance.md

env: $(READY)

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kimberlite: $$($(PYTHON) --version) is too old, 3.11 or newer is needed: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@touch $@
