# Two commands: `make demo` and `make test`. Both make their own virtual environment first.
# TORCH picks another build, e.g. `make test TORCH=torch==2.13.0+cu130`.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
# Part of the stamps' names, so that another TORCH is another installation.
STAMP := $(VENV)/.installed-$(subst /,_,$(subst ==,-,$(TORCH)))

.PHONY: demo test lint clean

demo: $(STAMP)-demo
	$(BIN)/fastprune finetune --epochs 3 --out runs/demo-$$(date +%Y%m%d-%H%M%S)

test: $(STAMP)-test lint
	$(BIN)/python -m pytest -q

lint: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The compiled extension is rebuilt when its sources change; an editable install follows the Python files.
$(STAMP)-%: pyproject.toml setup.py $(wildcard csrc/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info fastprune/*.so
