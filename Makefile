# Each target is one or two commands that a person could type. `make demo` and `make test` need
# Debian 12, Rust by rustup, Java 17, Maven, Python 3, and the package registries; what is missing
# beyond that they install themselves, and say so.

CARGO ?= cargo
export CROSS_CONFIG := cross.toml

.PHONY: all demo test bins lint deny arm bench tools clean

all: bins

# Both binaries with the points at which tests kill them; never what is released.
bins: tools
	$(CARGO) build --locked -p headwater-agent -p headwater-loader --features headwater-agent/crash-points,headwater-loader/crash-points

demo: bins
	$(CARGO) run --locked -q -p headwater-tests --bin headwater-demo

test: lint bins
	$(CARGO) test --locked --workspace

lint: tools
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	tests/tools.sh systemd-analyze
	tests/verify-unit.sh

# Licences, sources, doubled crates. Advisories need the advisory database's own host.
deny:
	command -v cargo-deny >/dev/null || { echo "installing cargo-deny, once"; $(CARGO) install --locked cargo-deny; }
	$(CARGO) deny check licenses bans sources

# The agent for aarch64, and a short follow-deliver-resume run of it under qemu-user.
arm: tools bins
	tests/arm.sh

bench: tools
	tests/bench.sh

# What the build needs beyond the machine's own: a C toolchain, CMake and perl (for OpenSSL).
tools:
	@tests/tools.sh cc cmake perl make java mvn

clean:
	$(CARGO) clean
