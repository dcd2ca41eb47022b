# Two commands: `make book` and `make test`. `make` alone prints what there is.
VENV   ?= .venv
BIN    := $(VENV)/bin
PY     ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p) 2>/dev/null)))
SITE   := _build/html/index.html
STAMP  := $(VENV)/.installed
SOURCES := $(shell find chapters lib _ext _static tools -type f ! -path '*/__pycache__/*' \
             ! -path '*.egg-info/*' ! -path '*/.ipynb_checkpoints/*' 2>/dev/null) \
           _config.yml _toc.yml index.md references.bib notation.toml claims.toml constraints.txt
WITNESSES := $(wildcard tests/claims/*.py) conftest.py claims.toml $(wildcard lib/advreg/*.py)

# Small arrays: threads contend more than they help. Parallel by process instead.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.PHONY: help setup book test site-test check claims bench gpu serve lab clean
.DELETE_ON_ERROR:

help:
	@echo 'make setup   set up the environment, and nothing else'
	@echo 'make book    set up, run every notebook, build the site, print the path to open'
	@echo 'make test    set up, then lint, unit and claim tests, and every notebook'
	@echo 'make serve   show the built site on this machine'
	@echo 'make lab     open JupyterLab in the same environment'
	@echo 'make claims  run the witness of every claim and print the ledger with its margins'
	@echo 'make bench   time what readers wait for, as ratios to other libraries'
	@echo 'make gpu     run the pages that use torch with CUDA chosen and compare what they print'
	@echo 'make site-test  open every built page in a headless browser and check it'
	@echo 'make clean   remove what was built (not the environment)'

$(STAMP): pyproject.toml constraints.txt
	@test -n '$(PY)' || { echo 'Python 3.11 or newer is needed; none was found. Set PY=/path/to/python3'; exit 1; }
	@'$(PY)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed; $(PY) is older. Set PY=/path/to/python3'; exit 1; }
	@echo '== environment: $(VENV) (about 1.7 GB, a few minutes the first time)'
	'$(PY)' -m venv $(VENV) || { echo 'the venv module is missing: install python3-venv'; exit 1; }
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[book,test,lab]'
	@touch $@

setup: $(STAMP)

_build/claims.json: $(STAMP) $(WITNESSES)
	@echo '== claims: every statement meets its witness'
	$(BIN)/python -m advreg.claims
	@touch $@

$(SITE): $(STAMP) _build/claims.json $(SOURCES)
	@echo '== notebooks: run what changed'
	$(BIN)/python tools/execute.py
	@echo '== pages'
	@rm -f $@
	ADVREG_STATIC=1 $(BIN)/jupyter-book build . -W -n --keep-going --all

book: $(SITE)
	@echo
	@echo 'The book is built. Open  $(CURDIR)/$(SITE)'

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/nb.py check

test: check
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m 'not site'

site-test: $(SITE)
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m site tests/site

claims: $(STAMP)
	$(BIN)/python -m advreg.claims

bench: $(STAMP)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]'
	# torchattacks asks for a torchvision that it never imports
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -c constraints.txt torchattacks
	$(BIN)/python -m pytest benchmarks -q -p no:cacheprovider

gpu: $(STAMP)
	$(BIN)/python tools/on_device.py --device cuda

serve: $(SITE)
	@echo 'http://127.0.0.1:8000 (stop with Ctrl-C)'
	$(BIN)/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

lab: $(STAMP)
	$(BIN)/jupyter lab chapters

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis .benchmarks
