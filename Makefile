# Dirpost: see README.md. `make run` is the whole thing on your machine,
# `make test` is what must pass before anything lands.

SHELL       := /bin/sh
GO          ?= go
PREFIX      ?= /usr/local
export GOTOOLCHAIN ?= local

# go build with what a release has: no C, no paths of this machine in the binary.
GOBUILD      = CGO_ENABLED=0 $(GO) build -trimpath $(if $(VERSION),-ldflags '-X main.release=$(VERSION)')
# The version of a release; without it a build says which commit it was made of.
VERSION     ?=
# What is passed to `dirpost demo` by `make run`: make run DEMO='--users 1000'
DEMO        ?=
# What is passed to internal/bench by `make bench`: make bench BENCH='-rounds 1'
BENCH       ?=
# How long `make fuzz` spends on each target.
FUZZTIME    ?= 20s

.PHONY: all build check vet staticcheck deb rfc packages test-packages test run run-ad demo fuzz bench bench-peers bench-bare bench-go soak acceptance first-hour cover install clean help
.DEFAULT_GOAL := all

all: check build ## check and build

build: ## build bin/dirpost
	$(GOBUILD) -o bin/dirpost ./cmd/dirpost

check: vet staticcheck ## what can be said about the code without running it
	@bad=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$bad" ] || { echo "gofmt: please format:"; echo "$$bad"; exit 1; }
	$(GO) test -count=1 ./internal/archtest

vet:
	$(GO) vet ./...
	$(GO) vet -tags acceptance ./cmd/dirpost ./directory/ldap
	$(GO) vet -C tools ./...
	$(GO) vet -C tools/otelcol ./...

staticcheck: .cache/staticcheck
	.cache/staticcheck ./...

.cache/staticcheck: tools/go.mod tools/go.sum
	@mkdir -p .cache
	$(GO) build -C tools -o ../$@ honnef.co/go/tools/cmd/staticcheck

.cache/nfpm: tools/go.mod tools/go.sum
	@mkdir -p .cache
	$(GO) build -C tools -o ../$@ github.com/goreleaser/nfpm/v2/cmd/nfpm

# Reads the recipes of deploy/ in the tests.
.cache/deploycheck: tools/go.mod tools/go.sum $(wildcard tools/deploycheck/*.go)
	@mkdir -p .cache
	$(GO) build -C tools -o ../$@ ./deploycheck

deb: build .cache/nfpm ## Debian packages in dist/, for this machine's architecture: make deb VERSION=1.2.3
	@deploy/deb/build.sh bin/dirpost .cache/nfpm

rfc: ## list the citations of RFCs by number
	@git grep -hoE 'RFC [0-9]+( §[0-9A-Z][0-9A-Za-z.]*)?' -- '*.go' '*.dialog' '*.sql' | sed 's/\.$$//' | sort -t' ' -k2,2n -k3,3V | uniq -c

packages: ## install the Debian packages that the demo needs
	@deploy/install-packages.sh run

test-packages:
	@deploy/install-packages.sh run ad test

test: test-packages check .cache/deploycheck ## install what is missing, check, and run all tests with the race detector
	@# The ports of a domain controller cannot be chosen, and an ordinary user may not have them on this network.
	@set --; if [ "$$(id -u)" != 0 ]; then \
	    if deploy/own-network.sh true 2>/dev/null; then set -- -exec "'$(CURDIR)/deploy/own-network.sh'"; \
	    else echo "Ordinary users get no network of their own here (unshare --user --net): tests with a domain controller will fail; 'sudo -E make test' runs them." >&2; fi; fi; \
	echo $(GO) test -race -shuffle=on -timeout 15m "$$@" ./...; $(GO) test -race -shuffle=on -timeout 15m "$$@" ./...

run: packages build ## a working company mail system on this machine
	exec bin/dirpost demo $(DEMO)

demo: run

run-ad: build ## the same with a real Active Directory, by Samba, as root
	@deploy/install-packages.sh run ad
	exec bin/dirpost demo --ad $(DEMO)

fuzz: ## run each fuzz target for FUZZTIME
	@git grep -l '^func Fuzz' -- '*_test.go' | xargs -n 1 dirname | sort -u | while read -r dir; do \
	  grep -ho '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | sed 's/func //' | while read -r f; do \
	    echo "$$dir $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) ./$$dir || exit 1; \
	  done || exit 1; \
	done

bench: bench-peers bench-bare ## measure Dirpost beside Postfix and Dovecot, and beside bare SQL

bench-peers: build ## all workloads on Dirpost and on its peers: make bench-peers BENCH='-only inbound'
	@deploy/install-packages.sh run bench
	@mkdir -p .cache
	$(GO) build -o .cache/bench ./internal/bench
	@deploy/bench/run.sh $(BENCH)
	@case "$(BENCH)" in *-only*) ;; *) deploy/bench/run.sh -only remembered $(BENCH) ;; esac

bench-bare: test-packages ## the store and the door alone, without network and clients
	$(GO) test -run '^$$' -bench '^(BenchmarkAccept|BenchmarkDeliver)$$' -timeout 20m ./internal/store ./mta/intake

bench-go: test-packages ## all Go benchmarks
	$(GO) test -run '^$$' -bench . -benchmem -timeout 60m ./...

# Postfix and Exim start as root only; DIRPOST_ACCEPTANCE_CLIENTS=1000 make acceptance
# for a machine without room for 10,000 clients. What Thunderbird shows is in
# .cache/pictures afterwards.
acceptance: build ## the slow suites, as root: real clients and peers at length, nodes and servers that die
	@deploy/install-packages.sh run ad test acceptance
	@mkdir -p .cache/pictures
	DIRPOST_PICTURES=$(CURDIR)/.cache/pictures $(GO) test -race -shuffle=on -tags acceptance -run '^TestAcceptance|^TestLargeList' -timeout 60m ./cmd/dirpost
	$(GO) test -shuffle=on -tags acceptance -run '^TestAcceptance' -timeout 30m ./directory/ldap
	$(GO) test -count=1 -tags acceptance -run "^TestAcceptanceHostile" -timeout 10m ./cmd/dirpost

first-hour: ## a Debian that has nothing becomes a company's mail server, read by Thunderbird: how long it takes, as root
	@deploy/install-packages.sh run ad test acceptance
	@mkdir -p .cache/pictures
	DIRPOST_PICTURES=$(CURDIR)/.cache/pictures $(GO) test -count=1 -v -tags acceptance -run '^TestAcceptanceFirstHour$$' -timeout 30m ./cmd/dirpost

# How long `make soak` goes on: make soak SOAK=12h
SOAK        ?= 10m
soak: test-packages build ## mixed load for SOAK, then every promise is checked; crashes again and again
	DIRPOST_SOAK=$(SOAK) $(GO) test -race -tags acceptance -run '^TestAcceptanceSoak$$' -v -timeout 0 ./cmd/dirpost
	$(GO) test -race -shuffle=on -count 20 -run '^TestKill9$$' -timeout 60m ./cmd/dirpost
	DIRPOST_SOAK=1 $(GO) test -race -shuffle=on -timeout 60m ./internal/store

cover: test-packages ## coverage of all tests by all packages
	@mkdir -p .cache
	$(GO) test -coverpkg=./... -coverprofile=.cache/cover.out -timeout 30m ./...
	$(GO) tool cover -func=.cache/cover.out | tail -n 1

install: build ## install dirpost, and sendmail and mailq beside it
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/sbin
	install -m 755 bin/dirpost $(DESTDIR)$(PREFIX)/bin/dirpost
	ln -sf ../bin/dirpost $(DESTDIR)$(PREFIX)/sbin/sendmail
	ln -sf dirpost $(DESTDIR)$(PREFIX)/bin/mailq

clean: ## remove what was built
	rm -rf bin dist .cache

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST)
