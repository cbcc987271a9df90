# What the rollouts share; sourced by them, in strict mode and at the top of the workspace. They work on the containers of the
# Compose project that COMPOSE_PROJECT_NAME names, by default this directory's.

export COMPOSE_ANSI=never COMPOSE_PROFILES=canary,tools
patience=${ROLLOUT_PATIENCE:-60} # seconds: how long an instance may take to be ready, and its callers to call it
calm=5      # seconds without a call to any instance, after which a service counts as not called

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
die() { echo "error: $*" >&2 && exit 1; }
trap 'die "interrupted: see \`just ps\` for what runs; whatever runs takes calls"' INT TERM

# grep reads to the end: who writes into a pipe that nobody reads any more fails.
has_service() { docker compose config --services | grep --line-regexp -- "$1" >/dev/null; }
project() { docker compose config --format json | sed -n 's/^  "name": "\(.*\)",*$/\1/p'; }
name() { docker inspect --format '{{slice .Name 1}}' "$1"; }

# instances SERVICE: its containers that run, the oldest first
instances() {
  docker compose ps --quiet "$1" | xargs --no-run-if-empty docker inspect --format '{{.Created}} {{.Id}}' | sort | cut --delimiter ' ' --fields 2
}
runs() { instances "$1" | wc -l; }

# An image has no shell: its own binary asks its admin page.
binary() { docker inspect --format '{{index .Config.Entrypoint 0}}' "$1"; }
is_ready() { docker exec "$1" "$(binary "$1")" --health-check >/dev/null 2>&1; }
metrics() { docker exec "$1" "$(binary "$1")" --admin-page /metrics 2>/dev/null; }

# calls_of CONTAINER…: how many calls they have served, gRPC's own services (health, reflection) not counted
calls_of() {
  for id in "$@"; do metrics "$id" || true; done |
    awk '/^rpc_server_call_duration_seconds_count\{/ && !/rpc_method="grpc\./ { n += $NF } END { printf "%d", n }'
}
# A stream is counted when it has ended.
has_calls() { [ "$(calls_of "$1")" -gt 0 ] || metrics "$1" | grep '^rpc_server_calls_active.* [1-9]' >/dev/null; }

# until_ready CONTAINER: waits until it serves and is registered
until_ready() {
  local end=$((SECONDS + patience))
  until is_ready "$1"; do
    [ "$SECONDS" -lt "$end" ] || return
    sleep 0.2
  done
}

# until_called CONTAINER OTHER…: waits until callers call it, for as long as they call the others; all of a service that
# nobody calls is as good as called
until_called() {
  local id=$1 end=$((SECONDS + patience)) quiet=$SECONDS before now
  shift
  before=$(calls_of "$@")
  until has_calls "$id"; do
    now=$(calls_of "$@")
    [ "$now" = "$before" ] || quiet=$SECONDS
    before=$now
    if [ $((SECONDS - quiet)) -ge "$calm" ]; then
      say "nobody calls it now, nor the others"
      return
    fi
    [ "$SECONDS" -lt "$end" ] || return
    sleep 0.2
  done
}

# start_one SERVICE: one instance more, of the image and the configuration as they are now, is ready and in $started; where that
# fails it is removed again, and the others run on
start_one() {
  local service=$1 before
  before=$(instances "$service")
  docker compose up --detach --no-deps --no-build --no-recreate --scale "$service=$(($(runs "$service") + 1))" "$service" >/dev/null 2>&1 || true
  started=$(comm -13 <(sort <<<"$before") <(instances "$service" | sort))
  if [ -z "$started" ]; then
    echo "an instance of $service could not be started" >&2
    return 1
  fi
  until_ready "$started" && return
  docker logs --tail 10 "$started" >&2 || true
  docker rm --force "$started" >/dev/null
  echo "an instance of $service was not ready within $patience s; its log is above" >&2
  return 1
}

# stop_one CONTAINER: it drains, and is gone
stop_one() {
  local id=$1 name code
  name=$(name "$id")
  docker stop "$id" >/dev/null || die "$name could not be stopped"
  code=$(docker inspect --format '{{.State.ExitCode}}' "$id")
  [ "$code" = 0 ] || docker logs --tail 10 "$id" >&2
  docker rm "$id" >/dev/null
  [ "$code" = 0 ] || die "$name ended with exit code $code, not in order; its log is above"
}
