# One verb a target; anything longer than a line is Python below infra/. `make` alone lists them.
PYTHON ?= python3
ENV := $(PYTHON) -m infra.local.environments
STACK := .local/envs/stack/bin/python -m infra.local
DEV := .local/envs/dev/bin
# What Python compiles is kept, but not among the sources.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.local/pycache

.DEFAULT_GOAL := help
.PHONY: audit dashboard screenshots sbom bench-lists help run test up down logs status metrics token verify conformance model faults mutants soak fuzz problems lint format unit contract e2e prove lock deploy

help: ## List the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  \033[1m%-11s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: stack-env ## Start everything and run a real pipeline (INPUT=folder: with your files)
	@$(STACK) run $(if $(INPUT),--input "$(INPUT)")

up: stack-env ## Start the stack in the background, deployed and healthy
	@$(STACK) up

down: stack-env ## Stop the stack; runs and files are kept
	@$(STACK) down

status: stack-env ## Show what runs, where, and how much memory it takes
	@$(STACK) status

logs: stack-env ## Follow the logs (PART=conductor: of one part)
	@$(STACK) logs $(PART)

metrics: stack-env ## Show the service's figures and alarms, live (ONCE=1: print them once)
	@.local/envs/stack/bin/python -m infra.metrics $(if $(ONCE),--once)

token: stack-env ## Print a token for the API (TENANT=, SCOPES="runs:read", SUBJECT=, HOURS=)
	@$(STACK) token $(if $(TENANT),--tenant "$(TENANT)") $(if $(SCOPES),--scopes "$(SCOPES)") $(if $(SUBJECT),--subject "$(SUBJECT)") $(if $(HOURS),--hours "$(HOURS)")

test: dev-env ## Lint, then all tests but the long proofs
	@$(MAKE) --no-print-directory lint
	@$(DEV)/python -m pytest -n 3

dashboard: stack-env ## Print a link that opens the dashboard of the stack (HOURS=)
	@$(STACK) dashboard $(if $(HOURS),--hours "$(HOURS)")

verify: stack-env ## Check the invariants of the running stack (EVERY=1: also of what is rare)
	@.local/envs/stack/bin/python -m infra.verify $(if $(EVERY),--everything)

conformance: ## Judge a Workbench by the contract (WORKBENCH_API_URL=, WORKBENCH_TOKEN=, INPUT=, OUTPUT=, JOB_MINUTES=)
	@$(ENV) stack && .local/envs/stack/bin/python -m infra.conformance $(if $(INPUT),--input "$(INPUT)") $(if $(OUTPUT),--output "$(OUTPUT)") $(if $(REPORT),--report "$(REPORT)") $(if $(PARAMETERS),--parameters '$(PARAMETERS)') $(if $(JOB_MINUTES),--job-minutes "$(JOB_MINUTES)")

model: dev-env ## 10,000 random histories of the whole service (HISTORIES=n, SEED=n)
	@$(DEV)/python -m pytest tests/model -n 2 --histories $(or $(HISTORIES),10000) --model-seed $(or $(SEED),1)

faults: dev-env ## What happens when real parts fail, also the slow ones
	@$(DEV)/python -m pytest tests/faults -m "prove or not prove"

mutants: dev-env ## Take away the safety code, one thing at a time: the tests have to notice
	@PYTHONPATH=tests $(DEV)/python -m mutation

soak: dev-env ## Half an hour under load while parts are killed (MINUTES=, RUNS=, SEED=)
	@PYTHONPATH=.:tests $(DEV)/python -m soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED))

fuzz: dev-env ## Schemathesis over a stack of its own, with and without tokens (MINUTES=, SEED=)
	@PYTHONPATH=.:tests $(DEV)/python -m fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

lint: dev-env ## Ruff, mypy, import-linter, deptry, cfn-lint
	@$(DEV)/python -m infra.local.lint

problems: dev-env ## Write docs/problems.md from the API's catalogue
	@PYTHONPATH=functions:. $(DEV)/python -m infra.problems

screenshots: dev-env ## Take the documentation's pictures: command line, dashboard (needs Chromium)
	@PYTHONPATH=.:functions:client/src:tests $(DEV)/python -m cli_screenshots
	@PYTHONPATH=.:functions:tests $(DEV)/python -m dashboard_screenshots

format: dev-env ## Format the code
	@$(DEV)/ruff format . && $(DEV)/ruff check --fix-only --quiet .

unit: dev-env ## Tests that open no socket
	@$(DEV)/python -m pytest tests/unit

contract: dev-env ## Tests on a real Postgres, Conductor and Workbench
	@$(DEV)/python -m pytest tests/contract

e2e: dev-env ## Tests on the deployed stack
	@$(DEV)/python -m pytest tests/e2e

prove: dev-env ## The proofs that take too long for `make test`
	@$(DEV)/python -m pytest -m prove

deploy: ## Migrate, deploy to AWS with SAM, register the workflows (SKIP=migrate: leave out)
	@$(ENV) stack sam && .local/envs/stack/bin/python -m infra.deploy $(if $(SKIP),--skip $(SKIP))

audit: ## Known vulnerabilities in the locks (exit code 1: some; 2: its source didn't answer)
	@$(ENV) uv audit && $(PYTHON) -m infra.audit

sbom: ## Write bills of materials (CycloneDX) of the locks to .local/sbom
	@$(PYTHON) -m infra.sbom

bench-lists: dev-env ## A list's page at a million runs against one at a thousand (RUNS=, ROUNDS=)
	@PYTHONPATH=.:functions:tests $(DEV)/python -m benchmarks.lists $(if $(RUNS),--runs $(RUNS)) $(if $(ROUNDS),--rounds $(ROUNDS))

lock: ## Resolve the dependencies anew and write the lock files
	@$(ENV) uv && $(PYTHON) -m infra.local.lock

.PHONY: stack-env dev-env
stack-env:
	@$(ENV) stack functions workbench localstack
dev-env:
	@$(ENV) dev stack functions workbench localstack
