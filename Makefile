# Bellhop's build. `make help` lists the targets; CONTRIBUTING.md says what is expected of a change.

GO      ?= go
BUILD   := build
KERNEL  := $(BUILD)/kernel/vmlinuz
AGENT_TAGS := netgo osusergo runc_nocriu seccomp
SOAK    ?= 1h
TOOL    := $(GO) tool -modfile=tools/go.mod
# Inlining costs half a megabyte, most of it in code that runs once: it is kept for the runtime, for what moves bytes,
# for JSON, in which each container is described three times before it runs, and for strings and numbers, in which everything else is done.
INLINED := runtime internal/runtime/... internal/poll syscall $(addprefix github.com/bellhop-vm/bellhop/,agent/relay agent/rawio \
           agent/control protocol protocol/stdio protocol/framefilter) encoding/json reflect internal/abi \
           strings bytes internal/bytealg strconv internal/strconv unicode/utf8
AGENT_GCFLAGS := -gcflags=all=-l $(patsubst %,-gcflags=%=,$(INLINED))
# Packages with cgo parts, which need the agent's tags to be checked and tested.
TAGS    := -tags "$(AGENT_TAGS)"

export CGO_ENABLED ?= 1

.PHONY: help deps build demo test unit lint generate check-generated bench soak nested clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## Install what is missing (Debian packages) and unpack the guest kernel
	@tools/deps

build: deps $(BUILD)/bellhopd $(BUILD)/bellhop ## Build the agent and the host command into build/

# The Go command decides what is stale.
.PHONY: $(BUILD)/bellhopd $(BUILD)/bellhop
$(BUILD)/bellhopd: $(BUILD)/agent.mod
	@echo "build  $@"
	@$(GO) build -modfile=$(BUILD)/agent.mod -trimpath $(TAGS) $(AGENT_GCFLAGS) -ldflags '-s -w -funcalign=8 -linkmode external -extldflags "-static -no-pie -Wl,-z,norelro,-z,noseparate-code"' -o $@ ./cmd/bellhopd
# The agent's module file: see cmd/bellhopd/standins/README.md.
$(BUILD)/agent.mod: go.mod go.sum Makefile
	@mkdir -p $(BUILD) && cp go.mod $@ && cp go.sum $(BUILD)/agent.sum
	@$(GO) mod edit -replace=github.com/godbus/dbus/v5=./cmd/bellhopd/standins/dbus \
	  -replace=github.com/coreos/go-systemd/v22=./cmd/bellhopd/standins/go-systemd \
	  -replace=github.com/cilium/ebpf=./cmd/bellhopd/standins/ebpf $@
$(BUILD)/bellhop:
	@echo "build  $@"
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $@ ./cmd/bellhop

demo: build ## Boot a VM and show the main job: processes in a container, stdio over vsock
	@docs/demo.sh

# One package at a time: several machines at once on two processors would only wait for each other.
test: build lint check-generated ## Everything: lint, generated code, unit tests with the race detector, tests in VMs
	@echo "build  tests"; $(GO) build $(TAGS) -race ./...
	$(GO) test $(TAGS) -race -shuffle=on -p 1 -timeout 30m ./...

unit: ## The tests that boot no machine
	$(GO) test $(TAGS) -short -shuffle=on ./...

lint: ## vet, staticcheck, gofumpt
	@echo "lint   vet";         $(GO) vet $(TAGS) ./...
	@echo "lint   staticcheck"; $(TOOL) staticcheck $(TAGS) ./...
	@echo "lint   gofumpt";     out=$$(git ls-files '*.go' | grep -v '\.pb\.go$$' | xargs $(TOOL) gofumpt -l); \
	  if [ -n "$$out" ]; then echo "not formatted (run: $(TOOL) gofumpt -w FILE):"; echo "$$out"; exit 1; fi

generate: deps ## Generate the protocol's types from the .proto
	@$(TOOL) -n protoc-gen-go-lite >/dev/null
	protoc -I protocol/pb --plugin=protoc-gen-go-lite=$$($(TOOL) -n protoc-gen-go-lite) --go-lite_out=protocol/pb \
	  --go-lite_opt=paths=source_relative,features=marshal+unmarshal+size+equal protocol/pb/bellhop.proto

check-generated: ## Fail if the generated types are not those of the .proto
	@tmp=$$(mktemp -d) && trap 'rm -rf $$tmp' EXIT && protoc -I protocol/pb --plugin=protoc-gen-go-lite=$$($(TOOL) -n protoc-gen-go-lite) \
	  --go-lite_out=$$tmp --go-lite_opt=paths=source_relative,features=marshal+unmarshal+size+equal protocol/pb/bellhop.proto && \
	  cmp $$tmp/bellhop.pb.go protocol/pb/bellhop.pb.go || { echo "protocol/pb/bellhop.pb.go is not current: run make generate"; exit 1; }

soak: build ## Cut connections at random for a long time (SOAK=1h): thousands of faults, gigabytes, sums equal
	$(GO) test $(TAGS) -count=1 -timeout 24h -v -run '^TestSoak$$' ./vmtest/faults -soak=$(SOAK)

nested: build ## Boot a machine in a machine: vhost_vsock, AF_VSOCK and KVM for real, without any of them on this host
	$(GO) test $(TAGS) -count=1 -v -run '^TestNested$$' ./vmtest/nested -nested

bench: build ## Measure; each figure is a line `figure NAME VALUE LIMIT` (FIGURES=NAME,… runs some)
	@$(GO) run ./vmtest/bench -figures '$(FIGURES)'

clean: ## Remove build/
	rm -rf $(BUILD)
