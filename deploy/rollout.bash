# What the rollouts share; sourced by them, in strict mode and at the top of the workspace. They work on the containers of the
# Compose project that COMPOSE_PROJECT_NAME names, by default this directory's.

export COMPOSE_ANSI=never COMPOSE_PROFILES=canary,tools
patience=${ROLLOUT_PATIENCE:-60} # seconds: how long an instance may take to be ready
calm=10 # seconds: how long callers may take to call one that is ready

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
die() { echo "error: $*" >&2 && exit 1; }
trap 'die "interrupted: see \`just ps\` for what runs; whatever runs takes calls"' INT TERM

# grep reads to the end: who writes into a pipe that nobody reads any more fails.
has_service() { docker compose config --services | grep --line-regexp -- "$1" >/dev/null; }
project() { docker compose config --format json | sed -n 's/^  "name": "\(.*\)",*$/\1/p'; }
name() { docker inspect --format '{{slice .Name 1}}' "$1"; }

# instances SERVICE: its containers that run, the oldest first, in the array of that name; who cannot be told of them is no service
# without instances
instances() {
  local said
  said=$(docker compose ps --quiet "$1" | xargs --no-run-if-empty docker inspect --format '{{.Created}} {{.Id}}' | sort) || die "Docker does not say what runs of $1"
  mapfile -t instances < <(cut --only-delimited --delimiter ' ' --fields 2 <<<"$said")
}
runs() { instances "$1" && [ "${#instances[@]}" -gt 0 ]; }

# An image has no shell: its own binary asks its admin page.
binary() { docker inspect --format '{{index .Config.Entrypoint 0}}' "$1"; }
is_ready() { docker exec "$1" "$(binary "$1")" --health-check >/dev/null 2>&1; }
metrics() { docker exec "$1" "$(binary "$1")" --admin-page /metrics 2>/dev/null; }

# has_calls CONTAINER: it has served calls, gRPC's own services (health, reflection) not counted, or has some in flight: a stream is
# counted when it has ended
has_calls() {
  metrics "$1" | awk '
    /^rpc_server_call_duration_seconds_count\{/ && !/rpc_method="grpc\./ { calls += $NF }
    /^rpc_server_calls_active/ { calls += $NF }
    END { exit !calls }'
}

# has_ended CONTAINER: nothing starts it again; `created` is one that could not be started at all
has_ended() { [[ $(docker inspect --format '{{.State.Status}}' "$1") =~ ^(created|exited|dead)$ ]]; }

# until_ready CONTAINER: waits until it serves and is registered
until_ready() {
  local end=$((SECONDS + patience))
  until is_ready "$1"; do
    [ "$SECONDS" -lt "$end" ] && ! has_ended "$1" || return
    sleep 0.2
  done
}

# until_called SERVICE CONTAINER: waits until callers call it. Where none does for a while (nobody calls now; callers with pick_first
# stay with whom they have until that one drains) a caller of our own has to be connected to it; it tries as long as one may take to be ready
until_called() {
  local soon=$((SECONDS + calm)) end=$((SECONDS + patience))
  until has_calls "$2"; do
    if [ "$SECONDS" -ge "$soon" ]; then
      reaches "$1" "$2" && say "$(name "$2") is not called yet: its callers stay with others, or there are none; one of ours reaches it" && return
      [ "$SECONDS" -lt "$end" ] || return
    fi
    sleep 0.2
  done
}

# reaches SERVICE CONTAINER: a caller that finds it by its name is connected to it, in whichever of its networks
reaches() {
  local ids
  ids=$(docker inspect --format '{{range .NetworkSettings.Networks}}"id":"{{.IPAddress}}:{{println}}{{end}}' "$2") &&
    docker compose run --rm --no-deps -T discovery resolve "$1" --policy round_robin --output json |
    sed 's/"id":/\n&/g' | grep '"state":"READY"' | grep --fixed-strings -- "$ids" >/dev/null
}

# start_one SERVICE: one instance more, of the image and the configuration as they are now, is ready and in $started; where that
# fails it is said why, what was made is removed again, and the others run on
start_one() {
  local service=$1 said state
  # What has stopped is as it was made: it would be started again in place of a new one.
  docker compose rm --force "$service" >/dev/null 2>&1 || die "Docker removes no container of $service that has stopped"
  instances "$service"
  said=$(docker compose up --detach --no-deps --no-build --no-recreate --scale "$service=$((${#instances[@]} + 1))" "$service" 2>&1) || true
  # Also one that could be made and not be started.
  started=$(docker compose ps --all --quiet "$service" | sort | comm -13 <(printf '%s\n' "${instances[@]}" | sort) -) || die "Docker does not say what it made of $service"
  if [ -z "$started" ]; then
    echo "an instance of $service could not be made: $said" >&2
    return 1
  fi
  until_ready "$started" && return
  docker logs --tail 10 "$started" >&2 || true
  state=$(docker inspect --format '{{.State.Status}}, exit code {{.State.ExitCode}}{{with .State.Error}}, {{.}}{{end}}' "$started") || true
  docker rm --force "$started" >/dev/null || die "$(name "$started") is not ready, and could not be removed"
  echo "an instance of $service is not ready after $patience s at most ($state); what it has logged last is above" >&2
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
