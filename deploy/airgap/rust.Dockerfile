# The build image: the host's toolchain, which is the one that rust-toolchain.toml asks for, and what it links with.
ARG BASE
FROM ${BASE}
RUN apt-get update -q \
 && apt-get install -yq --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
ENV CARGO_HOME=/usr/local/cargo \
    PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY bin /usr/local/bin
COPY lib /usr/local/lib
