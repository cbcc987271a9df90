# PostgreSQL where the original image has it, so that a compose file cannot tell the two apart.
ARG BASE
FROM ${BASE}
ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/bin:/bin PGDATA=/var/lib/postgresql/data
# No cluster of its own: the data is the volume's.
RUN mkdir --parents /etc/postgresql-common \
 && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
 && apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends --option Dpkg::Options::=--force-confold postgresql-17 \
 && install --directory --owner=postgres --mode=0700 "$PGDATA" \
 && rm -rf /var/lib/apt/lists/*
COPY postgres-entrypoint /usr/local/bin/docker-entrypoint.sh
USER postgres
VOLUME /var/lib/postgresql/data
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres", "-c", "listen_addresses=*"]
