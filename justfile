# The manual is `just --list`. On a machine that lacks something, `./justw RECIPE` installs it first.

set shell := ["bash", "-euo", "pipefail", "-c"]

compose := "docker compose"
target := env("CARGO_TARGET_DIR", justfile_directory() / "target")
venv := justfile_directory() / "target/interop"

[private]
default:
    @just --list --unsorted

# --- see it work ------------------------------------------------------------------------------------------------------

# The main job under load and faults, on the file registry; `demo etcd` on a local three-member etcd cluster
[group('see it work')]
[no-exit-message]
demo kind="file":
    cargo build --workspace --bins
    cargo run --quiet --package testkit --bin demo -- {{ kind }}

# A local three-member etcd cluster on loopback, until Ctrl-C; says how to reach it
[group('see it work')]
[no-exit-message]
etcd *args:
    cargo run --quiet --package testkit --bin testkit-etcd -- {{ args }}

# A certificate authority for development and certificates for services: `just certs certs greeter user`; again to renew them
[group('see it work')]
[no-exit-message]
certs *args:
    cargo run --quiet --package discovery -- certs {{ args }}

# The benchmarks of crates/bench; `bench --help` names them
[group('see it work')]
[no-exit-message]
bench *args:
    cargo build --release --package user-service --package greeter-server
    cargo run --release --package bench -- {{ args }}

# Ten minutes of calls of all kinds while servers come and go each second; fails when anything stays behind
[group('see it work')]
[no-exit-message]
soak *args:
    cargo run --release --package bench -- soak {{ args }}

# Every fault that the registry has to survive, with what came of it; `faults --help` says more
[group('see it work')]
[no-exit-message]
faults *args:
    cargo build --package greeter-server --package greeter-client --package discovery
    cargo run --quiet --package faults -- {{ args }}

# --- check it ---------------------------------------------------------------------------------------------------------

# Every test: units, doc tests, integration on real etcd processes, the binaries as processes, and Python's gRPC on either side
[group('check it')]
test *args: _compile _venv
    #!/usr/bin/env bash
    set -euo pipefail
    # Most of them wait, for leases and elections.
    export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
    cargo test --workspace --no-fail-fast {{ args }}
    just python-test
    just interop-cases
    echo "the tests took $SECONDS s, compilation not counted"

# What is compiled is not counted as testing: everything that the tests run is here before the first of them starts
_compile:
    cargo build --workspace --bins
    cargo test --workspace --no-run

# A gRPC client in another language on a real greeter-server: all calls, health and reflection
[group('check it')]
python-test: _venv
    cargo build --quiet --package greeter-server
    {{ venv }}/bin/python crates/greeter-server/tests/python/interop.py {{ target }}/debug/greeter-server proto

# gRPC's own interoperability cases through the channel, against one server in Python and over two in turn
[group('check it')]
interop-cases: _venv
    cargo build --quiet --package interop
    {{ venv }}/bin/python crates/interop/tests/python/interop.py {{ target }}/debug/interop-client proto

_venv:
    #!/usr/bin/env bash
    set -euo pipefail
    wanted=crates/greeter-server/tests/python/requirements.txt
    cmp --silent "$wanted" {{ venv }}/installed.txt && exit
    command -v python3 >/dev/null || { echo "please install python3 with its venv module (python3-venv)" >&2; exit 1; }
    python3 -m venv --clear {{ venv }} || { echo "please install python3-venv" >&2; exit 1; }
    {{ venv }}/bin/python -m pip install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" {{ venv }}/installed.txt

# Format, clippy, documentation, and the licences, bans and sources of dependencies
[group('check it')]
lint:
    cargo fmt --all --check
    cargo clippy --locked --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    cargo deny check bans licenses sources

# Known vulnerabilities in dependencies; needs the advisory database, which is not everywhere reachable
[group('check it')]
advisories:
    cargo deny check advisories

# What each binary is made of (SBOM), as CycloneDX 1.5 in JSON, in target/sbom
[group('check it')]
sbom:
    #!/usr/bin/env bash
    set -euo pipefail
    rm -rf {{ target }}/sbom && mkdir -p {{ target }}/sbom
    # It writes beside the manifest of each crate.
    trap 'rm -f crates/*/*.cdx.json' EXIT
    cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries
    for binary in greeter-server greeter-client user-service discovery; do
        found=(crates/*/"$binary"_bin.cdx.json)
        mv "${found[0]}" {{ target }}/sbom/"$binary".cdx.json
        echo "{{ target }}/sbom/$binary.cdx.json"
    done

# The containers, end to end: three greeters found, five, one killed, one left, and no failed call; users shared by three services
[group('check it')]
compose-test:
    deploy/compose-test

# The containers under faults: members of etcd, greeters and callers are killed and cut off from the network, under load
[group('check it')]
fault-test:
    deploy/fault-test

# Go and this project in one registry: a caller and a greeter on etcd's own Go package find ours, and ours find them
[group('check it')]
interop-test:
    deploy/interop-test

# Rollouts under load: greeters are scaled, restarted and replaced by a second version; no call and no long stream fails
[group('check it')]
rollout-test:
    deploy/rollout-test

# The containers with TLS and etcd's own permissions: each service writes under its own name only, and nobody reads without credentials
[group('check it')]
secure-test:
    deploy/secure-test

# The manifests of deploy/kubernetes rendered by Kustomize, and their etcd asked what a kubelet asks: with one member of three, and with all
[group('check it')]
kubernetes-test:
    deploy/kubernetes-test

# etcd upgraded member by member under load: from this machine's version to that of the image
[group('check it')]
upgrade-test:
    cargo build --package greeter-server --package greeter-client --package discovery --package faults --bins
    deploy/upgrade-test {{ target }}/debug/faults

# The units of deploy/systemd run by a systemd in a container: started without a registry, hung, killed, and stopped under long streams
[group('check it')]
systemd-test:
    cargo build --package greeter-server --package greeter-client --package user-service --package discovery
    deploy/systemd-test {{ target }}/debug

# A minute of random faults on the containers, by the binary that `just chaos` runs
[group('check it')]
chaos-test:
    cargo build --package faults --bin chaos
    deploy/chaos-test {{ target }}/debug/chaos

# What a change has to pass besides `test`: lint and the containers; and what the binaries are made of
[group('check it')]
ci: lint sbom compose-test fault-test interop-test rollout-test secure-test kubernetes-test systemd-test upgrade-test chaos-test

# --- run it in containers ---------------------------------------------------------------------------------------------

# Whoever changes what runs does so by the Compose files that it was started from: COMPOSE_FILE says which
[no-exit-message]
_same-stack:
    @deploy/same-stack

# Build the images and start etcd, greeters, a client, and user services on PostgreSQL
[group('run it in containers')]
up *args: _same-stack
    {{ compose }} up --build --detach --wait {{ args }}

# Run that many copies of a service: `just scale greeter=3`; those that are not named stay as they are
[group('run it in containers')]
scale +counts: _same-stack
    {{ compose }} up --detach --wait --wait-timeout 120 --no-recreate --no-deps {{ prepend("--scale ", counts) }} {{ replace_regex(counts, "=\\S*", "") }}

# Replace every instance of a service by one of the image and the configuration as they are now, one after another, without loss
[group('run it in containers')]
[no-exit-message]
restart service: _same-stack
    deploy/restart {{ service }}

# A second version at a share of the calls: `just canary greeter 10 IMAGE`, then `just canary greeter 50`, `… promote` or `… 0`
[group('run it in containers')]
[no-exit-message]
canary service percent *image: _same-stack
    deploy/canary {{ service }} {{ percent }} {{ image }}

# Random faults on the running containers under calls to greeters and user services, for so many minutes; `--seed N` repeats them
[group('run it in containers')]
[no-exit-message]
chaos *args: _same-stack
    cargo run --quiet --package faults --bin chaos -- {{ args }}

# Follow the logs, of all services or of those named
[group('run it in containers')]
[no-exit-message]
logs *services:
    {{ compose }} logs --follow --tail 100 {{ services }}

# What is running, and how it is doing
[group('run it in containers')]
ps:
    {{ compose }} ps

# Stop and remove the containers; `down --volumes` also removes the data of etcd and PostgreSQL
[group('run it in containers')]
down *args: _same-stack
    {{ compose }} --profile '*' down {{ args }}

# Build the base images from Debian packages, where no container registry can be reached
[group('run it in containers')]
airgap *mirror:
    deploy/airgap/build {{ mirror }}

# --- tidy up ----------------------------------------------------------------------------------------------------------

# Remove all that was built: target/, and the containers with their images; etcd's data stays
[group('tidy up')]
clean:
    cargo clean
    ! docker info >/dev/null 2>&1 || {{ compose }} --profile '*' down --rmi local
