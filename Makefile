# `make serve` and `make test` need nothing but Python >= 3.10: each does all its own set-up, in .venv.

# The first interpreter that is new enough; override with `make test PYTHON=python3.13`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
	&& { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
# COMPILED=1: what `make compile` has made, in the place of the source tree.
COMPILED ?=
BUILT := build/compiled
# From there to $(BIN), which may be given as a path from the root, too.
UP := $(if $(filter /%,$(VENV)),,../../)
ifeq ($(COMPILED),1)
NEEDED := built-copies
IN := cd $(BUILT) && export PYTHONPATH="$$PWD" && $(UP)
endif
BIND ?= 127.0.0.1:7000
WORKERS ?= auto
# Most tests wait for processes and sockets: more of them at a time than there are cores. PARALLEL= for one at a time.
PARALLEL ?= -n 4 --dist worksteal
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip install --quiet

# Printed before the server's own lines: how to talk to it, with a tool that is here.
define HOW_TO_TRY
address='$(BIND)'; host=$${address%:*}; port=$${address##*:}; \
host=$$(echo "$$host" | tr -d '[]'); test -n "$$host" || host=127.0.0.1; \
echo "An echo service on $$address. Try it from another terminal:"; echo; \
case $$address in \
unix:*) say="socket.socket(socket.AF_UNIX); s.connect('$${address#unix:}')"; nc="nc -U $${address#unix:}";; \
*) say="socket.create_connection(('$$host', $$port))"; nc="nc $$host $$port";; \
esac; \
if command -v nc >/dev/null 2>&1; then \
echo "    $$nc"; echo; echo "Type a line and it comes back; Ctrl-C ends nc."; \
else \
echo "    $(PYTHON) -c \"import socket; s = $$say; s.sendall(b'hello'); print(s.recv(99))\""; echo; \
echo "It prints b'hello'. (nc would be handier, but is not installed here.)"; \
fi; \
echo "Ctrl-C here stops the server."; echo
endef

# Set, each boot of a server would compile all its modules again, and each run of the tests all tests: twice the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve compile test test-long test-all lint format docs coverage bench bench-peers bench-peers-latency \
	bench-peers-memory bench-peers-balance bench-reloads bench-reload-time \
	bench-instructions bench-sizing accepting simulate clean

serve: $(VENV)/.installed $(NEEDED) ## set up, then run the echo service on all cores
	@$(HOW_TO_TRY)
	@$(if $(IN),$(IN),exec )$(BIN)/hybrid-serve examples/echo.py:echo --bind $(BIND) --workers $(WORKERS)

compile: $(BUILT)/.built ## the hot path compiled by mypyc, in build/compiled; `make serve COMPILED=1`, `make test COMPILED=1`

test: $(VENV)/.installed-test $(NEEDED) ## set up, then run the tests
	$(IN)$(BIN)/python -m pytest $(PARALLEL) -m "not long" $(ARGS)

test-long: $(VENV)/.installed-test $(NEEDED) ## the tests that boot server after server: every fault at every step, with every model
	$(IN)$(BIN)/python -m pytest $(PARALLEL) -m long $(ARGS)

test-all: ## run the tests on every CPython from 3.10 on that is found, each in a venv of its own
	@sh .ci/test-all

lint: $(VENV)/.installed-lint ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-test ## regenerate what is made from code: the option reference, the state diagram
	$(BIN)/python -m tests.docs.generate

coverage: $(VENV)/.installed-test ## the tests, with a figure; parent, molds and workers are measured too
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

bench: $(VENV)/.installed-test ## the tables of docs/explanation/performance.md, on this machine
	-$(BIN)/python -m tests.benchmarks.raw_echo
	-$(BIN)/python -m tests.benchmarks.fetch
	$(BIN)/python -m tests.benchmarks.pool

bench-peers: ## HTTP beside uvicorn, granian and others, in an environment of its own; ARGS="--workload hello --fifo"
	@$(MAKE) --no-print-directory VENV=.venv-peers .venv-peers/.installed-peers
	.venv-peers/bin/python -m tests.benchmarks.peers $(ARGS)

bench-peers-latency bench-peers-memory bench-peers-balance: ## how late at 70 % of what is possible; what two workers hold; how evenly they work
	@$(MAKE) --no-print-directory VENV=.venv-peers .venv-peers/.installed-peers
	.venv-peers/bin/python -m tests.benchmarks.$(subst -,_,$(patsubst bench-peers-%,peer-%,$@)) $(ARGS)

bench-reloads: $(VENV)/.installed-test ## reload after reload under load: nothing may be lost; ARGS="--count 1000"
	$(BIN)/python -m tests.benchmarks.reloads $(ARGS)

bench-sizing: $(VENV)/.installed-plot ## a real pool that sizes itself, under load that steps up and back; ARGS="--quick"
	$(BIN)/python -m tests.benchmarks.sizing_steps $(ARGS)

bench-instructions: $(VENV)/.installed-test $(if $(NEEDED),$(BUILT)/.built) ## of a request, and the last ones; COMPILED=1 ARGS="--update"
	$(BIN)/python -m tests.benchmarks.instructions $(if $(NEEDED),--tree $(BUILT)) $(ARGS)

bench-reload-time: ## how long new code takes to be served, beside gunicorn and uvicorn; ARGS="--rounds 1"
	@$(MAKE) --no-print-directory VENV=.venv-peers .venv-peers/.installed-peers
	.venv-peers/bin/python -m tests.benchmarks.reload_time $(ARGS)

simulate: $(VENV)/.installed-test ## rules for the number of workers in simulated time: the tables of docs/explanation/sizing.md
	$(BIN)/python -m tests.docs.sizing $(ARGS)

accepting: $(VENV)/.installed-plot ## measure, and rewrite docs/explanation/accepting.md: tables, pictures, verdict
	$(BIN)/python -m tests.docs.accepting

clean:
	rm -rf $(VENV) .venv-* build *.egg-info .coverage* .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.10 found. Install one, or say which: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	echo "make: $(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# A tree of its own: .so files beside the sources would go on being imported when these have changed.
$(BUILT)/.built: setup.py $(shell find hybrid -name '*.py') | $(VENV)/.installed-compile
	@rm -rf $(BUILT)
	@mkdir -p $(BUILT)
	@cp -R setup.py pyproject.toml README.md LICENSE hybrid $(BUILT)
	cd $(BUILT) && HYBRID_COMPILE=1 $(UP)$(BIN)/python setup.py --quiet build_ext --inplace
	@rm -rf $(BUILT)/build
	@touch $@

.PHONY: built-copies
built-copies: $(BUILT)/.built
	@rm -rf $(BUILT)/tests $(BUILT)/examples $(BUILT)/docs $(BUILT)/.ci
	@cp -R .ci .gitignore Makefile pyproject.toml $(wildcard *.md) tests examples docs $(BUILT)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@$(PIP) --config-settings editable_mode=compat --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@$(PIP) --config-settings editable_mode=compat --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-compile: pyproject.toml | $(BIN)/python
	@$(PIP) --config-settings editable_mode=compat --editable '.[compile]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-plot: pyproject.toml | $(BIN)/python
	@$(PIP) --config-settings editable_mode=compat --editable '.[test,plot]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

$(VENV)/.installed-peers: pyproject.toml tests/benchmarks/peers.txt tests/benchmarks/peers-optional.txt | $(BIN)/python
	@$(PIP) --config-settings editable_mode=compat --editable . --requirement tests/benchmarks/peers.txt
	@grep -v '^#' tests/benchmarks/peers-optional.txt | while read -r peer; do $(PIP) "$$peer" || \
	echo "make: $$peer does not install here; the benchmarks say so where they would have measured it" >&2; done
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: pyproject.toml | $(BIN)/python
	@$(PIP) --config-settings editable_mode=compat --editable '.[test,lint]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test
