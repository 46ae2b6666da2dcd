# Turnpike. `make run` shows it, `make test` proves it. Everything these need is
# installed by scripts/setup.sh, or named by it where it cannot.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X github.com/turnpike-rtc/turnpike/internal/server.Version=$(VERSION)
PAGES    := console/dist/index.html
SOURCES  := $(shell find sdk/typescript/src console/src -type f 2>/dev/null) package.json

.PHONY: run build test check bench release

# Start the server with a demo device and print the page to open.
run: build
	@./bin/turnpike demo

build: $(PAGES)
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/turnpike ./cmd/turnpike

$(PAGES): $(SOURCES)
	@scripts/setup.sh build
	npm run build

# Everything: unit, race, fuzz seeds, shape, both databases, both buses, browsers, foreign clients.
test: build
	@scripts/setup.sh test
	scripts/test.sh

# What every commit must pass.
check: $(PAGES)
	@scripts/setup.sh check
	scripts/check.sh

# Measure, and draw docs/benchmarks.md anew.
bench: build
	@scripts/setup.sh test
	scripts/bench.sh

# Static binaries for the usual systems, in dist/.
release: $(PAGES)
	scripts/release.sh $(VERSION)
