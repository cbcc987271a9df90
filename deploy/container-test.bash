# What the tests of the containers share; sourced by them, in strict mode and at the top of the workspace. A test brings
# docker-compose.yml up as a project of its own, beside whatever else is running, and ends with nothing left behind.

test=$(basename "$0")
export COMPOSE_PROJECT_NAME=discovery-$test-$$ COMPOSE_ANSI=never
export ETCD_PORT=0 CLIENT_ADMIN_PORT=0 # any free one
export CLIENT_TIMEOUT=30s # a machine that is busy fails no call
work=$(mktemp -d)
passed=0
detached=()
images=() # those that a test has built itself
background=() # processes that do something to the containers; they end when they are interrupted
trap finish EXIT
trap 'exit 130' INT TERM

# Runs a command whose output matters only when something has failed.
quietly() { "$@" >>"$work/log" 2>&1; }
say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
ok() { passed=$((passed + 1)) && say "ok: $*"; }
fail() { say "FAILED: $*" && exit 1; }

finish() {
  local code=$?
  trap - EXIT
  set +e
  for process in "${background[@]}"; do
    quietly kill -INT "$process"
    quietly wait "$process"
  done
  [ "$code" -eq 0 ] || show_logs
  [ "${#detached[@]}" -eq 0 ] || quietly docker rm --force "${detached[@]}"
  quietly docker compose --profile '*' down --volumes --remove-orphans --rmi local --timeout 5 || say "could not remove all of it"
  [ "${#images[@]}" -eq 0 ] || quietly docker image rm --force "${images[@]}"
  rm -rf "$work"
  echo "${test/-/ }: $passed passed, $((code == 0 ? 0 : 1)) failed, in $SECONDS s"
  exit "$code"
}

show_logs() {
  tail --lines 50 "$work/log"
  docker compose ps --all
  for service in $(docker compose config --services); do
    docker compose logs --no-color --timestamps --tail 30 "$service" | sed 's/\x1b\[2K//'
  done
  for container in "${detached[@]}"; do
    docker logs --tail 30 "$container" 2>&1 | sed "s/^/$container | /"
  done
}

# prints COUNT COMMAND…: it succeeds, and prints so many lines, empty ones not counted. A question that could not be asked is not
# answered by that: `[ "$(COMMAND | wc -l)" -eq 0 ]` would take it for none. It is asked again, as a machine that is busy may be late.
prints() {
  local said end=$((SECONDS + 20))
  until said=$("${@:2}" 2>>"$work/log"); do
    [ "$SECONDS" -lt "$end" ] || return
    sleep 0.3
  done
  [ "$(grep -c . <<<"$said")" -eq "$1" ]
}

# refused WHAT TEXT COMMAND…: it fails, and says so with that text
refused() {
  local what=$1 text=$2 code=0
  shift 2
  "$@" >"$work/said" 2>&1 || code=$?
  cat "$work/said" >>"$work/log"
  [ "$code" -eq 1 ] && grep -qF -- "$text" "$work/said" || fail "$what: exit code $code, $(cat "$work/said")"
  ok "$what"
}

# within SECONDS WHAT COMMAND…: waits until the command succeeds
within() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || fail "$what"
    sleep 0.3
  done
  ok "$what"
}

build_images() {
  say "building the images (some minutes when nothing is cached)"
  quietly timeout 2400 docker compose --profile tools build || fail "the images are built"
  ok "the images are built"
}

start_all() {
  quietly docker compose up --detach --wait --wait-timeout 120 || fail "all services are healthy within two minutes"
  ok "all services are healthy"
}

# run_detached NAME SERVICE ARGS…: a container beside those that `up` starts; its name is then in $container
run_detached() {
  container=$COMPOSE_PROJECT_NAME-$1
  detached+=("$container")
  quietly docker compose run --detach --no-deps --name "$container" "${@:2}" || fail "$container starts"
}

# contained SERVICE…: its containers, those that have ended too, are nobody's root, can change nothing but their volumes, and are asked how they
# are without a shell
contained() {
  local service containers said
  for service; do
    containers=$(docker ps --all --quiet --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" \
      --filter "label=com.docker.compose.service=$service") || fail "Docker names the containers of $service"
    [ -n "$containers" ] || fail "$service has a container"
    said=$(xargs docker inspect --format "$containment" <<<"$containers") || fail "Docker tells how $service is contained"
    ! said=$(grep -vE "$is_contained" <<<"$said") || fail "not root, nothing to write, no capabilities, no shell: $said"
  done
  ok "not root, nothing to write, no capabilities and no shell: $*"
}
containment='{{.Name}} user={{.Config.User}} read-only={{.HostConfig.ReadonlyRootfs}} dropped={{.HostConfig.CapDrop}} added={{.HostConfig.CapAdd}} security={{.HostConfig.SecurityOpt}} privileged={{.HostConfig.Privileged}} asked-by={{with .Config.Healthcheck}}{{with .Test}}{{index . 0}}{{end}}{{end}}'
is_contained=' user=[1-9][0-9]*:[1-9][0-9]* read-only=true dropped=\[ALL\] added=\[\] security=\[no-new-privileges:true\] privileged=false asked-by=(CMD)?$'

scale() { quietly just scale "greeter=$1" || fail "just scale greeter=$1"; }
greeters() { docker compose ps --quiet greeter; }
etcdctl() { docker compose exec -T etcd-0 etcdctl "$@"; }
keys() { etcdctl get --prefix --keys-only "$1/"; }
# registers COUNT [SERVICE]: so many instances are registered
registers() { prints "$1" keys "${2:-greeter}"; }
now() { date --utc +%FT%T.%NZ; }
exit_code() { timeout 60 docker wait "$1"; }
client() { docker compose ps --quiet client; }

# figure KEY CONTAINER: a whole figure of the JSON that a load has ended with
figure() { docker logs "$2" 2>>"$work/log" | sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p"; }
# unload CONTAINER LEAST WHAT: ends a load that has made so many calls at least; none may have failed
unload() {
  local code
  quietly docker kill --signal INT "$1"
  code=$(exit_code "$1") || fail "$3 end when they are interrupted"
  [ "$code-$(figure failures "$1")" = 0-0 ] || fail "none of the $3 fails: exit code $code, $(docker logs "$1" 2>/dev/null)"
  [ "$(figure calls "$1")" -ge "$2" ] || fail "there were $2 $3 at least, and not $(figure calls "$1")"
  ok "none of $(figure calls "$1") $3 failed"
}

# answers CONTAINER SINCE: the addresses in a caller's log, one for each call: those of the instances that answered it
answers() { docker logs --since "$2" "$1" 2>/dev/null | sed -n 's/^[0-9]*: Hello .* from //p'; }
answered() { [ "$(answers "$1" "$2" | wc -l)" -ge "$3" ]; }
who_answered() { answers "$@" | sort -u; }
answered_by() { prints "$3" who_answered "$1" "$2"; }
