# Each target is one or two commands that a person could type. `make demo` and `make test` need
# Debian 12, Rust by rustup, Java 17, Maven, Python 3, and the package registries; what is missing
# beyond that they install themselves, and say so.

CARGO ?= cargo
# Points at which tests kill the binaries; never in what is released. The same features everywhere,
# so that nothing is built twice.
TESTED := --locked --workspace --features headwater-agent/crash-points,headwater-loader/crash-points
export CROSS_CONFIG := cross.toml

.PHONY: all demo test bins lint deny release arm lambda bench fuzz tools clean

all: bins

bins: tools
	$(CARGO) build $(TESTED)

demo: bins
	$(or $(CARGO_TARGET_DIR),target)/debug/headwater-demo

# DYNAMODB_LOCAL=accepted: with Amazon's own DynamoDB Local too, whose licence wants an AWS account of
# whoever runs it. The tests run on moto and MiniStack in any case.
test: lint bins
	tests/tools.sh chromium-headless-shell kcat
	$(CARGO) test $(TESTED) --no-run
	tests/suite.sh "$(CARGO)" $(TESTED)
	$(CARGO) test $(TESTED) --doc
	$(if $(DYNAMODB_LOCAL),$(CARGO) test $(TESTED) --test dynamodb_holds_each_item_once -- --ignored)

lint: tools
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy $(TESTED) --all-targets -- -D warnings
	tests/tools.sh systemd-analyze
	tests/verify-unit.sh

# Licences, sources, doubled crates. Advisories need the advisory database's own host.
deny:
	command -v cargo-deny >/dev/null || { echo "installing cargo-deny, once"; $(CARGO) install --locked cargo-deny; }
	$(CARGO) deny check licenses bans sources

# What is installed on x86-64, stripped or with line tables: target/release-fast/headwater-agent and
# target/release/headwater-loader. For devices with aarch64: `make arm`.
release: tools
	$(CARGO) build --locked -p headwater-agent --profile release-fast
	$(CARGO) build --locked -p headwater-loader --release

# The agent for aarch64, and a short follow-deliver-resume run of it under qemu-user.
arm: tools bins
	tests/arm.sh

# The loader as a package for AWS Lambda, and a short run of it as a function: ARCH=arm64 or x86-64,
# CONFIG=loader.toml to have it in there.
lambda: tools bins
	tests/lambda.sh $(or $(ARCH),arm64) $(CONFIG)

# What is released, measured beside kcat and rsyslog; PARTS="following outage" for some of it.
bench: tools bins
	tests/bench.sh $(PARTS)

# Coverage-guided fuzzing with libFuzzer, a target after another: SECONDS=600 TARGETS="agent/framing record".
fuzz: tools
	tests/fuzz.sh run $(or $(SECONDS),150) $(TARGETS)

# What the build needs beyond the machine's own: a C toolchain, CMake and perl (for OpenSSL); and what
# the tests need: Java with its compiler (the MSK emulator), Maven, the openssl command, and what reads
# and writes journals of systemd.
tools:
	@tests/tools.sh cc cmake perl make java javac mvn openssl journalctl systemd-journal-remote

clean:
	$(CARGO) clean
