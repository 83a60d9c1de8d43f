# One way to run everything. `make demo` shows the product, `make test` runs every test.

TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: demo build ui test lint rust-test ui-test browser-test tools prerequisites deny bench bench-metrics bench-storage clean

## Build the UI and the release binaries, then run the backend with a whole mesh beside it.
demo: build
	$(TARGET)/release/pharos demo $(ARGS)

## The two release binaries, with the UI inside.
build: tools ui
	cargo build --release --bins

## The web UI, which `pharos` embeds.
ui: ui/dist/index.html

ui/node_modules/.installed: ui/package.json ui/package-lock.json
	npm --prefix ui ci --no-audit --no-fund
	@touch $@

ui/dist/index.html: ui/node_modules/.installed $(shell find ui/src ui/public ui/index.html ui/vite.config.ts -type f 2>/dev/null)
	npm --prefix ui run build
	@touch $@

## Every test: formatting, lints, Rust, UI, browser.
test: prerequisites lint ui-test rust-test browser-test

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

ui-test: ui
	npm --prefix ui run check
	npm --prefix ui test

# Always the whole workspace: with fewer packages cargo chooses fewer features and builds DataFusion once more.
# It builds the binaries too, which the end-to-end tests start as a user would.
rust-test: ui
	cargo test --workspace

browser-test: ui
	cargo test --workspace --no-run --quiet
	tests/browser.sh $(TARGET)/debug/pharos

## What must be on the machine: a linker; for the tests also Chromium and a Prometheus.
tools:
	@deploy/prerequisites.sh mold
prerequisites:
	@deploy/prerequisites.sh mold chromium prometheus prometheus-alertmanager python3-venv

## Licences, sources and doubled versions of dependencies.
deny:
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked
	cargo deny check bans licenses sources

bench:
	cargo bench --workspace

## Metrics side by side with Prometheus and VictoriaMetrics; see tests/bench/metrics/main.rs.
bench-metrics:
	deploy/prerequisites.sh prometheus victoria-metrics
	cargo build --release --bins
	cargo bench -p pharos-tests --bench metrics -- --pharos $(abspath $(TARGET))/release/pharos --results $(abspath $(TARGET))/bench-metrics $(ARGS)

## Rates and sizes of the storage as one table; `make bench-storage ARGS=--help` tells of parts and sizes.
bench-storage:
	cargo bench -p pharos-tests --bench storage -- $(ARGS)

clean:
	cargo clean
	rm -rf ui/dist ui/node_modules
