# Everything that a person types here is `make up` and `make test`; the rest is
# what those two stand on. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
PROGRAMS := sluice web mongo-agent gateway
VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
# Minutes that a package's tests may take, at most.
TEST_TIMEOUT ?= 15m
FUZZ_TIME ?= 10s
# The packages whose tests start a Consul, a mongod, a browser or whole labs: one at a
# time, because each of these takes the machine.
ALONE := ^sluice/((consul|drills|lab|ledger|mongo-agent|web|mesh/mongowire)(/|$$)|gateway$$|gateway/(bench|difference)$$|internal/(mongotest|fakemongod|browsertest)$$)

tests = $(GO) test -race -count=1 -timeout $(TEST_TIMEOUT) $(1)

.PHONY: help pictures up up-dc2 down tools build test fabio-differential test-dc2 test-dc2-short test-compose lint fmt fuzz bench bench-failover bench-gateway soak calm clean
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

up: tools build ## Install and build what is missing, start datacenter dc1, print URLs
	@bin/sluice up $(ARGS)

up-dc2: tools build ## The same with the second datacenter, or add it to a lab that runs
	@bin/sluice up --dc2 $(ARGS)

down: build ## Stop the lab
	@bin/sluice down $(ARGS)

tools: ## Get Consul and mongod into the user's cache folder
	@tools/get

build: ## Build bin/sluice, bin/web, bin/mongo-agent and bin/gateway
	@tools/get go
	@[ -x bin/sluice ] || echo 'building sluice (a minute or two, once)' >&2
	@$(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/sluice ./cmd/sluice
	@$(GO) build -trimpath -o bin/ ./web ./mongo-agent ./gateway

test: tools build ## Run every test: unit, race, integration on real Consul and mongod, up to down in both engines
	$(GO) vet ./...
	@failed=0; \
	$(call tests,-p 2 $$($(GO) list ./... | grep -vE '$(ALONE)')) || failed=1; \
	$(call tests,-p 1 $$($(GO) list ./... | grep -E '$(ALONE)')) || failed=1; \
	exit $$failed
	$(GO) test -count=1 -timeout $(TEST_TIMEOUT) -run '^(TestThousandsOfConnections.*|TestNothingIsAllocatedForAMessage)$$' ./mesh ./gateway/h1

test-dc2: tools build ## The proofs with two datacenters: federation, failover, partition, promotion (some minutes)
	$(GO) test -tags dc2 -race -count=1 -timeout $(TEST_TIMEOUT) -v ./lab/federation

test-dc2-short: tools build ## Those of them that put no load on the machine, which CI runs
	$(GO) test -tags dc2 -race -count=1 -timeout $(TEST_TIMEOUT) -v -run 'TestTwoDatacenters/(an_interrupted|the_second|intentions|each_datacenter|one_way)' ./lab/federation

# SLUICE_FABIO names the program; else tools/peers/get gets it. It is not a part of test, because not every registry serves it.
fabio-differential: tools ## Compare Fabio's own program with the model that the gateway is tested against
	$(GO) test -count=1 -timeout $(TEST_TIMEOUT) -tags fabio -run '^TestFabioItself' ./gateway/difference

test-compose: tools build ## Run docker-compose.yml, both datacenters, on a Docker of its own (root, docker.io, docker-compose)
	@tools/compose/test

lint: ## vet, staticcheck, gofumpt, the import rule and the budgets
	$(GO) vet ./...
	$(GO) vet -tags fabio ./gateway/difference
	$(GO) tool -modfile=tools/lint/go.mod staticcheck ./...
	@unformatted=$$($(GO) tool -modfile=tools/lint/go.mod gofumpt -l .); \
	  [ -z "$$unformatted" ] || { echo "not formatted (run: make fmt):"; echo "$$unformatted"; exit 1; }
	$(GO) test ./internal/imports

fmt: ## Format every file
	$(GO) tool -modfile=tools/lint/go.mod gofumpt -w .

fuzz: ## Fuzz every parser for FUZZ_TIME each (default 10s)
	@for package in $$($(GO) list ./...); do \
	  dir=$$($(GO) list -f '{{.Dir}}' $$package); \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go 2>/dev/null | sed 's/^func //'); do \
	    echo "== $$package $$target"; \
	    $(GO) test $$package -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_TIME); \
	  done; \
	done

pictures: tools build ## Take the pictures in docs/img from a lab (Chromium)
	SLUICE_PICTURES=$(CURDIR)/docs/img $(GO) test -count=1 -timeout $(TEST_TIMEOUT) -run '^TestPictures$$' -v ./lab/proofs
	SLUICE_PICTURES=$(CURDIR)/docs/img $(GO) test -count=1 -timeout $(TEST_TIMEOUT) -run '^TestAnOperatorWorksWithTheAdminPageInABrowser$$' ./gateway

bench: tools build ## Measure; docs/benchmarks.md keeps the results
	$(GO) test -run '^$$' -bench . -benchtime 2s -timeout 30m ./mesh ./consul
	$(GO) test -run '^$$' -bench Up -benchtime 3x -timeout 30m ./lab
	$(GO) test -run '^$$' -bench 'ListPage|Configuration' -benchtime 5x -timeout 30m ./lab/proofs

# RUNS and STOCK_RUNS of each row; ROWS selects some (with commas), MEMBERS_RATE adds
# a driver with every member. Results are kept in bin/bench-failover and added to.
bench-failover: tools build ## Measure failover, row by row, with both profiles, into docs/failover.md
	@$(GO) build -trimpath -o bin/ ./drills/rehearse
	@bin/rehearse bench -out bin/bench-failover -runs $(or $(RUNS),10) -stock-runs $(or $(STOCK_RUNS),3) \
	  -rows '$(ROWS)' -members-rate $(or $(MEMBERS_RATE),50) -page docs/failover.md

# ARGS are further flags: -short is 2 minutes, -scenarios and -peers select, -help
# lists all. Results are kept in bin/bench-gateway.d.
bench-gateway: tools build ## Measure the gateway beside nginx, haproxy, Envoy, Traefik and Fabio, into docs/benchmarks.md
	@tools/peers/get
	@$(GO) build -trimpath -o bin/bench-gateway ./gateway/bench
	@bin/bench-gateway -out bin/bench-gateway.d -page docs/benchmarks.md $(ARGS)

# SEED replays the schedule of an earlier soak.
soak: tools build ## Break a lab at random for SOAK (default 30m), and check the ledger after each fault
	@$(GO) build -trimpath -o bin/ ./drills/rehearse
	@bin/rehearse soak -out bin/soak -for $(or $(SOAK),30m) -seed $(or $(SEED),0)

calm: tools build ## Leave a lab alone for CALM (default 30m) on a busy machine, and count false elections
	@$(GO) build -trimpath -o bin/ ./drills/rehearse
	@bin/rehearse calm -out bin/calm -for $(or $(CALM),30m)

clean: ## Delete what was built here (the cache of Consul and mongod stays)
	rm -rf bin
