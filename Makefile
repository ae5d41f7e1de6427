# make demo    install, then show the whole path on a small world (about 11 minutes on 2 cores)
# make covost2-mini   install, then the whole of CoVoST 2 in miniature (21 languages; docs/results/covost2-mini.md)
# make test    install, then lint, types and the fast tests
# make slow    the tests that take minutes
# make lint    ruff and mypy only
# make bench   the benchmarks at reduced size beside their peers; PUBLISHED=DIR is a checkout of the published code
# make clean   remove .venv and caches
#
# PYTHON chooses the interpreter the environment is made from, VENV where it lies.

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
# Two test processes on two cores: more threads in each of them only wait for one another.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

PUBLISHED ?=
# Benchmarks use the machine as it is: no variable of the tests' environment.
RUN := HF_HUB_DISABLE_PROGRESS_BARS=1 $(BIN)/python -W ignore -m

.PHONY: demo covost2-mini test slow lint bench clean
.DELETE_ON_ERROR:

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit("make: Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: requirements.txt pyproject.toml $(VENV)/.created
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/comsl demo

covost2-mini: $(VENV)/.installed
	$(BIN)/comsl run recipes/covost2-mini

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy comsl

# The tests come last, so that their summary is the last thing on the screen.
test: lint
	$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) --durations=10 tests

slow: $(VENV)/.installed-dev
	$(TEST_ENV) $(BIN)/python -m pytest -m slow --durations=10 tests

$(VENV)/.installed-peers: benchmarks/requirements.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps -r benchmarks/requirements.txt
	@touch $@

# The peers' own model files are made on the way; about a quarter of an hour on two cores.
bench: $(VENV)/.installed-peers
	$(RUN) benchmarks.train_step --size shallow --repeats 3 $(if $(PUBLISHED),--peer $(PUBLISHED))
	$(RUN) benchmarks.train_step --size shallow --repeats 3 --frozen-speech $(if $(PUBLISHED),--peer $(PUBLISHED))
	$(RUN) benchmarks.translate --reduced
	$(RUN) benchmarks.input_pipeline --clips 100 --repeats 1
	$(RUN) benchmarks.scale --out runs/scale
	$(RUN) benchmarks.scoring --share 0.1
	$(RUN) benchmarks.startup

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
