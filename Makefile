# make env   the environment .venv with everything
# make demo  teacher, control and student on Glyphs: runs/quickstart/report.html in about five minutes
# make test  ruff, mypy, pytest

PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: env demo test slow clean

env: .venv/ready

.venv/ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet -e ".[dev]" -c constraints.txt
	touch $@

demo: env
	$(BIN)/limbeck run recipes/quickstart.yaml

test: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m "not slow"

slow: env
	$(BIN)/pytest -m slow

clean:
	rm -rf .venv build dist *.egg-info
