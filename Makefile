# Herald's make targets; `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO ?= go
# The name of the lab that `make demo` leaves up.
LAB ?= demo
# The architectures of `make images`; tests and the demo need this machine's only.
ARCHS ?= amd64,arm64
TAG ?= dev
HOSTARCH := $(shell $(GO) env GOARCH)

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
CREATED := $(shell git show -s --format=%ct HEAD 2>/dev/null || echo 0)
LDFLAGS := -s -w -X heraldlb.io/herald/internal/cmdline.version=$(VERSION) -X heraldlb.io/herald/internal/cmdline.commit=$(COMMIT)

# The race detector needs cgo and a C compiler.
RACE := $(shell [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC)" >/dev/null && echo -race)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: lab images-host ## the main job, shown on a real cluster in this machine; leaves the cluster up
	@$(GO) build -o bin/demo ./e2etest/demo
	@bin/demo --name $(LAB)

.PHONY: test
test: lint unit fuzz e2e situations ## everything that CI runs: static checks, unit tests, fuzzing, end-to-end tests in the lab

.PHONY: build
build: lab ## the binaries, into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -tags grpcnotrace -ldflags "$(LDFLAGS)" -o bin/ ./controller ./speaker ./heraldctl
	ln -sf heraldctl bin/kubectl-herald
	ln -sf heraldctl bin/kubectl_complete-herald

.PHONY: lab
lab: ## bin/lab, the command that runs a real cluster on this machine
	@echo "building bin/lab (about a minute the first time)"
	@$(GO) build -o bin/lab ./e2etest/lab/cmd/lab

.PHONY: images
images: ## OCI images for $(ARCHS), into dist/images/
	@echo "building the images (about a minute the first time)"
	@$(GO) run ./internal/oci/mkimages -arch $(ARCHS) -tag $(TAG) -version $(VERSION) -commit $(COMMIT) -created $(CREATED) -out dist/images

.PHONY: images-host
images-host:
	@$(MAKE) --no-print-directory images ARCHS=$(HOSTARCH)

# Where the images of a release will be found.
REGISTRY ?= localhost
RELEASE = -version $(VERSION) -commit $(COMMIT) -created $(CREATED) -registry $(REGISTRY)

.PHONY: release
release: ## dist/VERSION/: images, manifests, chart, heraldctl, what they are made of, checksums; VERSION=v1.2.3, REGISTRY=host/path
	@[[ "$(VERSION)" =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$$ ]] || { echo "say which version: make release VERSION=v1.2.3"; exit 1; }
	@[ -z "$$(git status --porcelain)" ] || { echo "commit first: a release is of a commit"; exit 1; }
	@rm -rf dist/$(VERSION)
	@$(GO) run ./internal/oci/mkimages -arch $(ARCHS) -tag $(VERSION) $(RELEASE) -out dist/$(VERSION)/images controller speaker
	@$(GO) run ./internal/oci/mkrelease $(RELEASE) -out dist/$(VERSION)

.PHONY: generate
generate: metrics-doc ## what is generated: deep copies, CRDs, manifests/, the tables of docs/
	$(GO) tool controller-gen object paths=./api/...
	$(GO) tool controller-gen crd paths=./api/... output:crd:dir=config/crd
	$(GO) run ./config/crd/fields -w docs/configuration.md
	$(GO) run ./config/crd/fields -w -reported docs/status.md
	$(GO) run ./charts/values -w charts/herald/README.md
	$(GO) test ./internal/migrate -run '^TestTheDocumentation' -update
	$(GO) test ./e2etest/situations/page -run '^TestThePage' -update
	@$(MAKE) --no-print-directory manifests

.PHONY: metrics-doc
metrics-doc: ## the tables of docs/metrics.md, from what the programs register
	$(GO) run ./internal/metrics/reference/write -w docs/metrics.md

.PHONY: manifests
manifests: ## manifests/, rendered from config/
	@.ci/manifests manifests

.PHONY: lint
lint: ## static checks: formatting, vet, staticcheck, and that what is generated is up to date
	@bad=$$(git ls-files '*.go' | xargs gofmt -l); [ -z "$$bad" ] || { echo "not gofmt-ed:"; echo "$$bad"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@.ci/generated

.PHONY: unit
unit: ## unit tests, with the race detector where there is a C compiler
	$(GO) test $(RACE) -timeout 15m $$($(GO) list ./... | grep -v -x -E 'heraldlb.io/herald/e2etest(/lab|/lifecycle|/docs|/situations|/migration)?')
	@# Without it: what takes too long with it, and what GoBGP's own races end.
	$(if $(RACE),$(GO) test -run '^TestSimulation$$' ./internal/announce)
	$(if $(RACE),$(GO) test ./internal/bgp)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME, 60s unless told
	@.ci/fuzz

.PHONY: e2e
e2e: images-host ## end-to-end tests on real clusters in this machine (root)
	$(GO) test $(RACE) -count=1 -timeout 25m -p 1 -v ./e2etest/lab ./e2etest

.PHONY: situations
situations: images-host ## what breaks users' clusters, made on a real one (root)
	$(GO) test -count=1 -timeout 25m -parallel 6 -v ./e2etest/situations

# These three take longer than every change should wait for; what of the pages needs no cluster is part of `make unit`.
.PHONY: lifecycle docs migration
lifecycle: images-host ## Herald is installed by manifest and by chart, upgraded under traffic and taken out again (root)
	$(GO) test -count=1 -timeout 25m -v ./e2etest/lifecycle

docs: images-host ## what the documentation tells its readers to run, on a real cluster in this machine (root)
	$(GO) test -count=1 -timeout 15m -v ./e2etest/docs

migration: images-host ## from MetalLB to Herald, under clients that go on (root; builds MetalLB)
	$(GO) test -count=1 -timeout 35m -v ./e2etest/migration

.PHONY: test-long
test-long: lifecycle docs migration ## what is too long for CI: a whole life, the pages, the way over, more histories, sessions with routers again and again, busy cores (root; an hour or more)
	$(GO) test -count=1 -timeout 60m -run '^TestSimulation$$' ./internal/announce -simulation.histories 50000
	$(GO) test -count=1 -timeout 60m -run '^TestRandomHistoriesMatchTheModel$$' ./internal/ipam -rapid.checks 100000
	@# Each in a process of its own: Go remembers the interfaces of namespaces that are gone.
	for i in 1 2 3 4 5; do $(GO) test -count=1 -timeout 60m ./internal/bgp ./internal/bfd; done
	$(GO) test -count=1 -timeout 60m -run '^TestBusyNodesKeepTheirRoutes$$' -v ./e2etest -busy $(BUSY)

.PHONY: bench
bench: ## benchmarks, as Go prints them and as a table: of the pure parts, and of assignment on a real cluster (root)
	@mkdir -p dist
	$(GO) test -run '^$$' -bench . -benchmem ./internal/... | tee dist/bench.txt
	$(GO) test -run '^$$' -bench . -benchtime 3x -timeout 30m ./e2etest/bench | tee -a dist/bench.txt
	$(GO) tool benchstat dist/bench.txt

# How often `make bench-l2` has each fault happen, and with how many nodes one of them dies.
ROUNDS ?= 20
NODES ?= 3,7
# For how long `make bench-l2`, `make bench-bgp`, four times, and `make test-long` keep every core busy.
BUSY ?= 10m

.PHONY: bench-l2
bench-l2: images-host ## what users of layer 2 notice of faults, on real clusters beside keepalived (root; hours)
	@mkdir -p dist
	$(GO) test -run '^TestAddressesAreSpreadEvenly$$' -bench '^Benchmark(Answers|Replan)$$' -v ./internal/election ./internal/layer2 ./internal/announce | tee dist/bench-l2.txt
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 6h ./e2etest/bench/layer2 -rounds $(ROUNDS) -nodes $(NODES) -busy $(BUSY) | tee -a dist/bench-l2.txt

.PHONY: bench-bgp
bench-bgp: images-host ## what users behind routers notice of faults, and what many addresses cost, beside FRR (root; an hour or two)
	@mkdir -p dist
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 6h ./e2etest/bench/bgp -rounds $(ROUNDS) -busy $(BUSY) | tee dist/bench-bgp.txt

.PHONY: clean
clean: ## bin/ and dist/
	rm -rf bin dist
