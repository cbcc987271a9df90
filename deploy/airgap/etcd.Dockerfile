# etcd where the original image has it, so that a compose file cannot tell the two apart.
ARG BASE
FROM ${BASE}
RUN apt-get update -q \
 && apt-get install -yq --no-install-recommends etcd-server etcd-client \
 && mv /usr/bin/etcd /usr/bin/etcdctl /usr/local/bin/ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /var/etcd
EXPOSE 2379 2380
CMD ["/usr/local/bin/etcd"]
