# make test      set-up, linter and tests          make demo [SYSTEM=hip]   set-up and a run end to end on phantoms
# make reproduce SYSTEM=femur [PRESET=quick] [SEEDS=3] [DATA=folder]     every table and figure of a paper; see docs/cluster.md
#                [CONTROLS=1] [CASES=N] [ITERATIONS=N] [TRAIN="--FIELD VALUE"] [C3D=file] [OUT=folder] [CORES=2] [GPUS=1]
# make lint      the linter alone                  make setup               the virtual environment alone
# make kills     30 kills of commands, each resumed and compared; ten minutes
# make disks     all commands on a full disk; five minutes, needs root
# make fuzz [MINUTES=10]                          random changes of input files, for so long each reader
# make minimums  a slice of the tests on the lowest versions of setup.cfg, in an environment of its own (3 GB, removed)
# make pythons   the same slice on the other interpreters of PYTHONS; one that is not there is skipped
# make docs      the site in build/site, with links checked
# make networks  draws the networks on the papers' pages again
# make docs-check  runs the commands of the pages on phantoms; half an hour
# make pictures  the images of the pages again, from five demos; half an hour
# make docker [EXTRA=] [BASE=python:3.12-slim]     make clean               removes the virtual environment and caches
# make image-check                                 builds the CPU image and uses it: doctor, the demo, stops and resumes
#
# PYTHON names the interpreter to build the environment with; without it the first suitable one is used.
PYTHON ?= python3.13 python3.12 python3.11 python3.10 python3
SYSTEM ?= hip
EXTRA ?= gpu
BASE ?= python:3.12-slim
MINUTES ?= 10
PRESET ?= quick
SEEDS ?= 1
OUT ?= reproduction/$(SYSTEM)
CORES ?= $(shell nproc 2>/dev/null || echo 1)
PYTEST_ARGUMENTS ?=
PYTHONS ?= python3.10 python3.11 python3.12 python3.13
SLICE ?= $(addprefix tests/test_,$(addsuffix .py,architecture config files packaging data_cache volumes_image \
	volumes_dicom volumes_landmarks metrics_surface geometry_ellipse layers report_plots export stored_models examples))

VENV := .venv
# Only what is used is compiled, by its first import, on all cores; pip would compile 8,000 files on one.
INSTALL := $(VENV)/bin/python -m pip --disable-pip-version-check --quiet install --no-compile --use-pep517
# TensorFlow has wheels for these; ensurepip is missing where Debian's python3-venv is not installed.
FITS := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
OFFLINE := pip could not install what setup.cfg asks for (its message is above). It needs the network, \
	or a folder of wheels: make PIP_FIND_LINKS=/folder PIP_NO_INDEX=1

# The slice on the interpreter $(1), in a new environment with pip's options $(2).
SLICE_ON = rm -rf build/slice && $(1) -m venv build/slice && \
	build/slice/bin/python -m pip --disable-pip-version-check --quiet install --use-pep517 $(2) --editable ".[test]" && \
	build/slice/bin/python -m pip check && build/slice/bin/python -m pytest -q $(PYTEST_ARGUMENTS) $(SLICE) && \
	rm -rf build/slice

# Options of the workflow that were given.
WORKFLOW = $(VENV)/bin/python workflow/run.py --directory $(OUT) --cores $(CORES) \
	$(if $(GPUS),--resources gpu=$(GPUS) --set-threads train=$(CORES) evaluate=$(CORES)) --keep-going $(SNAKEMAKE) --config system=$(SYSTEM) \
	preset=$(PRESET) seeds=$(SEEDS) $(if $(DATA),"data=$(abspath $(DATA))") $(if $(C3D),"c3d=$(abspath $(C3D))") \
	$(if $(CASES),cases=$(CASES)) $(if $(ITERATIONS),iterations=$(ITERATIONS)) $(if $(CONTROLS),controls=$(CONTROLS)) \
	$(if $(TRAIN),"train=$(TRAIN)")

.PHONY: test demo reproduce lint setup kills disks fuzz docker image-check clean minimums pythons docs docs-check \
	networks pictures

# Else each process of the tests compiles TensorFlow's modules again, for six seconds.
test: export PYTHONDONTWRITEBYTECODE =
test: lint
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile --durations=10 $(PYTEST_ARGUMENTS)

kills disks: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -m $@ --capture=no $(PYTEST_ARGUMENTS)

fuzz: $(VENV)/.installed-test
	MINUTES=$(MINUTES) $(VENV)/bin/python -m pytest -m fuzz --capture=no $(PYTEST_ARGUMENTS)

docs-check: $(VENV)/.installed-test
	$(VENV)/bin/python -m pytest -m pages --capture=no $(PYTEST_ARGUMENTS)

networks: $(VENV)/.installed-test
	$(VENV)/bin/python docs/networks.py

pictures: $(VENV)/.installed
	$(VENV)/bin/python docs/pictures.py build/pictures

docs: $(VENV)/.installed-docs
	$(VENV)/bin/python docs/generate.py build/pages
	$(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo "wrote build/site/index.html"

lint: $(VENV)/.installed-test
	$(VENV)/bin/python -m flake8

demo: $(VENV)/.installed
	$(VENV)/bin/tfsono demo $(SYSTEM)

reproduce: $(VENV)/.installed-workflow
	@$(WORKFLOW)
	@$(if $(filter --dry-run -n,$(SNAKEMAKE)),,echo "wrote $(OUT)/report.html")

setup: $(VENV)/.installed

# The stamps are touched last: an installation that was cut off is done again.
$(VENV)/.installed-test: $(VENV)/.created setup.cfg setup.py
	@echo "installing tfsono and the test tools into $(VENV) (once; TensorFlow is large, this takes a minute or two)"
	@$(INSTALL) --editable ".[test]" || { echo 'error: $(OFFLINE)' >&2; exit 1; }
	@touch $(VENV)/.installed $@

$(VENV)/.installed-workflow: $(VENV)/.created setup.cfg setup.py
	@echo "installing tfsono and Snakemake into $(VENV) (once)"
	@$(INSTALL) --editable ".[workflow]" || { echo 'error: $(OFFLINE)' >&2; exit 1; }
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/.created setup.cfg setup.py
	@echo "installing tfsono and MkDocs into $(VENV) (once)"
	@$(INSTALL) --editable ".[docs]" || { echo 'error: $(OFFLINE)' >&2; exit 1; }
	@touch $(VENV)/.installed $@

$(VENV)/.installed: $(VENV)/.created setup.cfg setup.py
	@echo "installing tfsono into $(VENV) (once; TensorFlow is large, this takes a minute or two)"
	@$(INSTALL) --editable . || { echo 'error: $(OFFLINE)' >&2; exit 1; }
	@touch $@

$(VENV)/.created:
	@for python in $(PYTHON); do \
		if $$python -c '$(FITS)' 2>/dev/null; then \
			echo "creating $(VENV) with $$($$python --version)"; \
			$$python -m venv --clear $(VENV) && touch $@; exit; \
		fi; \
	done; \
	echo 'error: Python 3.10 to 3.13 with venv is needed; none of these is that: $(PYTHON).' \
		'Name one: make PYTHON=/path/to/python3.12 (on Debian and Ubuntu also: apt install python3-venv)' >&2; \
	exit 1

minimums: $(VENV)/.installed
	@mkdir -p build && $(VENV)/bin/python tests/minimums.py > build/minimums.txt
	@$(call SLICE_ON,$(VENV)/bin/python,--constraint build/minimums.txt)

pythons:
	@for python in $(PYTHONS); do \
		if $$python -c '$(FITS)' 2>/dev/null; then \
			$$python --version; { $(call SLICE_ON,$$python,); } || exit 1; \
		else echo "$$python: skipped, it is not installed"; fi; \
	done

docker:
	docker build --build-arg EXTRA=$(EXTRA) --build-arg BASE=$(BASE) --build-arg REVISION=$$(git rev-parse HEAD) --tag tfsono .

image-check:
	bash benchmarks/image_check.sh build/image_check

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
