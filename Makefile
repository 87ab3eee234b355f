# What you can do here: `make help`.

PYTHON ?= python3
ARGS ?=
PORT ?= 8080
REDIS_URL ?=
WORKERS ?= 1
TLS ?=
# How many tests run at a time. Most of them wait for processes, so there may be more of them than processors.
JOBS ?= 4
# Bounds of the load tests: users, seconds, the share of failed requests and the 95th percentile (ms) of any request.
LOAD_USERS ?= 20
LOAD_SECONDS ?= 120
LOAD_MAX_ERRORS ?= 0.0
LOAD_MAX_P95 ?= 1000
# How many mutated recordings are tried, or histories of crashes played, how many requests are made from the served
# document, and the seed of each: a random one, if none is given.
COUNT ?= 2000
CASES ?= 2000
SEED ?=
# How many pairs of requests are compared for each route.
PAIRS ?= 20000

export PYTHON PORT REDIS_URL TLS WORKERS
# A stack is many short processes. Each would compile anew what it imports, for most of a second.
unexport PYTHONDONTWRITEBYTECODE

# What runs in the foreground takes the place of its shell (exec), so that a signal to make reaches it.

.DEFAULT_GOAL := help
.PHONY: help install run demo tls test check bench bench-flood fuzz crashes contract security strangers load load-smoke clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.run .venv/.test .venv/.check .venv/.load .venv/.node ## Install all that the other commands need into .venv

run: .venv/.run ## Run Volant here: PORT= (8080), WORKERS= (1), REDIS_URL= (an own Redis), TLS=1 (HTTPS); its data stays in var/
	@exec .venv/bin/python -m deploy.run

demo: .venv/.run ## Watch a recording be accepted, recognised, kept encrypted, and deleted for good
	@exec .venv/bin/python -m deploy.demo

tls: .venv/.run ## Make an authority and certificates for development in var/tls
	@exec .venv/bin/python -m deploy.certificates

test: .venv/.run .venv/.test .venv/.node ## Run the tests: JOBS= at a time (4), ARGS= for pytest, such as ARGS="tests/unit -x -n0"
	@exec .venv/bin/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: .venv/.run .venv/.test .venv/.check .venv/.load ## Check format, lint, types and the direction of imports
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: .venv/.run .venv/.test ## Measure recognition, decoding and sealing against their bare parts, and what erasing costs others
	.venv/bin/python -m tests.bench.recognition
	.venv/bin/python -m tests.bench.decoding
	.venv/bin/python -m tests.bench.sealing
	.venv/bin/python -m tests.bench.erasure
	.venv/bin/python -m tests.bench.accuracy

bench-flood: .venv/.run .venv/.test ## Measure what a flood from a tenant at its limits does to another's submissions and polls
	@exec .venv/bin/python -m tests.bench.flood

fuzz: .venv/.run .venv/.test ## Try mutated recordings of every format on the sandboxed decoder: COUNT= (2000), SEED= (a random one)
	@exec .venv/bin/python -m tests.fuzz --count $(COUNT) $(if $(SEED),--seed $(SEED))

crashes: .venv/.run .venv/.test ## Kill and interleave all that is done to jobs and keys, at every step: COUNT= (2000; 0 is all), SEED=
	@exec .venv/bin/python -m tests.crashes --count $(COUNT) $(if $(SEED),--seed $(SEED))

contract: .venv/.run .venv/.test ## Try the served OpenAPI document out with schemathesis: CASES= (2000) at least, SEED= to repeat
	@exec .venv/bin/python -m tests.contract --cases $(CASES) --seed "$(SEED)"

security: .venv/.run .venv/.test .venv/.node ## Run the tests that README's table of promises names
	@exec .venv/bin/python -m pytest -n $(JOBS) --dist worksteal $$(.venv/bin/python -m tests.security.page --tests) tests/security

strangers: .venv/.run .venv/.test ## Compare what is answered for another tenant's ids and for unknown ones, and how fast: PAIRS= (20000)
	@exec .venv/bin/python -m tests.security.strangers --pairs $(PAIRS)

load: .venv/.run .venv/.load ## Load a stack (or VOLANT_URL with VOLANT_APIKEYS, as in var/run.env) with users; report in var/load.html
	@exec .venv/bin/python -m tests.load --users $(LOAD_USERS) --seconds $(LOAD_SECONDS) \
		--max-errors $(LOAD_MAX_ERRORS) --max-p95 $(LOAD_MAX_P95)

load-smoke: .venv/.run .venv/.load ## The same for one minute with a few users
	@exec .venv/bin/python -m tests.load --users 4 --seconds 60 --max-errors 0.0 --max-p95 $(LOAD_MAX_P95)

clean: ## Remove what was installed, built and stored: .venv, var, caches
	rm -rf .venv var dist tests/node/node_modules .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.run: groups = local
.venv/.test: groups = local test
.venv/.check: groups = check
.venv/.load: groups = local load
.venv/.run .venv/.test .venv/.check .venv/.load: uv.lock pyproject.toml deploy/install.sh
	@deploy/install.sh $@ $(groups)

.venv/.node: tests/node/package.json tests/node/package-lock.json tests/node/install.sh | .venv/.run
	@tests/node/install.sh $@
