# `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help run test faults lint static image up down bench bench-competitors load

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## broker, worker and gateway in one process; needs only Rust: make run ROUTES=examples/routes.toml
	@cargo run --release --package standalone

test: ## unit and end-to-end tests, and one fault scenario; real Kafka needs a JDK and Maven
	cargo test --workspace
	rustup target add "$$(uname -m)-unknown-linux-musl"
	cargo test --release --target "$$(uname -m)-unknown-linux-musl" --package static-rt
	cargo test --package e2e --test faults -- 9 built_in

faults: ## fault scenarios under load (40 minutes; installs tools with apt-get); make faults ONLY="3 7"
	scripts/install java:openjdk-17-jdk-headless mvn:maven kcat:kcat flock:util-linux faketime:faketime \
		slowhttptest:slowhttptest nginx:nginx-light
	cargo build --release --package gateway --package worker # scenario 28 needs both, and its time limit starts after the build
	cargo test --release --package e2e --test faults -- $(ONLY)

lint: ## format, clippy, docs, and no C in the default build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	cargo clippy --package e2e --test faults -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
	scripts/no-c

static: ## static binaries into dist/, without a C compiler
	scripts/static

image: ## container images of gateway and worker
	scripts/compose build

up: ## Kafka, worker and gateway in containers; returns when they are healthy
	scripts/compose up

down: ## remove the containers; the images stay
	scripts/compose down

bench: static ## compare in alternating rounds: make bench ARGS="--pair before=DIR --pair after=DIR --rounds 12"
	cargo run --release --package bench --bin compare -- $(ARGS)

bench-competitors: static ## the same beside librdkafka, franz-go and sarama (15 minutes); needs a C compiler and Go
	scripts/competitors $(ARGS)

load: ## load on a running gateway: make load ARGS="--connections 256"
	cargo run --release --package bench -- $(ARGS)
