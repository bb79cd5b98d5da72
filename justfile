# The commands of this house. `just` alone lists them.

python := env("DISCERN_PYTHON", "python3")
bin := justfile_directory() / ".venv" / "bin"
export PATH := bin + ":" + env("PATH")

_list:
    @just --list --unsorted

# make .venv and install Discern with its developer tools
setup:
    {{ python }} -m venv .venv
    pip install -e '.[dev]'

# lint, format, types, import contracts
check:
    .ci/check

# let the linter and the formatter mend what they can
fix:
    ruff check --fix .
    ruff format .

# the tests of the README's command; arguments go to pytest
test *arguments:
    pytest {{ arguments }}

# all tests, the slow ones too; each command in a new interpreter
test-all *arguments:
    DISCERN_TEST_COLD=1 pytest -m 'not gpu' --timeout 1800 {{ arguments }}

# rewrite the generated pages: parity, commands, config
docs:
    python tests/parity/write_parity.py
    PYTHONPATH=src python tests/docs/reference_pages.py

# run every benchmark; each prints its command, versions and spread
bench *names:
    python -m benchmarks {{ names }}
