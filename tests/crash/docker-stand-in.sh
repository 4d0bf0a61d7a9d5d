#!/bin/sh
# Stands in for docker. Notes every call in `calls`, and at the one that `armed` names ("VERB NUMBER HOW") it kills
# the agent whose process id is in `pid`. What a test arms is over once the agent is dead: calls that come later find
# another `armed`, or none of theirs.
here='@HERE@'
case "$1 $2" in
'logs --follow') verb=follow ;;
# The events that go on until they are ended.
'events --filter') verb=stream ;;
'ps '*) case "$*" in *label=*) verb=sweep ;; *) verb=absent ;; esac ;;
*) verb=$1 ;;
esac
number=1
while ! mkdir "$here/seen/$verb.$number" 2>/dev/null; do
    [ -d "$here/seen" ] || exit 1
    number=$((number + 1))
done
printf '%s %s: %s\n' "$verb" "$number" "$*" >>"$here/calls"
read -r armed_verb armed_number how <"$here/armed"
# Without them, the engine is asked how a container has ended, as after each end that is in doubt.
case "$verb $armed_verb" in 'stream inspect' | 'stream events') exit 1 ;; esac
if [ "$verb $number" != "$armed_verb $armed_number" ]; then
    exec docker "$@"
fi

kill_agent() {
    until [ -s "$here/pid" ]; do sleep 0.01; done
    printf '  kills the agent here: %s\n' "$how" >>"$here/calls"
    kill -9 "$(cat "$here/pid")"
}

# `docker run` as far as the container's creation.
create() {
    shift
    for word; do
        shift
        [ "$word" = --sig-proxy=false ] || set -- "$@" "$word"
    done
    docker create "$@" >/dev/null
}

wait_until_running() {
    until [ "$(docker inspect --format '{{.State.Running}}' "$1" 2>/dev/null)" = true ]; do sleep 0.02; done
}

name=$3
case $how in
# The client dies with the agent and has done nothing.
instead)
    kill_agent
    exit 1
    ;;
# The client outlives the agent and does what it was asked for.
before)
    kill_agent
    exec docker "$@"
    ;;
# All is done, and the agent isn't told.
after)
    docker "$@"
    kill_agent
    ;;
# `run`: the container exists and hasn't been started; the client dies.
created)
    create "$@"
    kill_agent
    ;;
# `run`: the container exists and hasn't been started; the client outlives the agent and goes on.
created-on)
    create "$@"
    kill_agent
    exec docker start --attach "$name"
    ;;
# `run`: the container runs; the client outlives the agent.
started-on)
    docker "$@" &
    client=$!
    wait_until_running "$name"
    kill_agent
    wait "$client"
    ;;
# `run`: the container runs; the client dies.
started)
    docker "$@" &
    client=$!
    wait_until_running "$name"
    kill_agent
    kill -9 "$client"
    ;;
# `logs --follow`: the agent is following.
midway)
    docker "$@" &
    client=$!
    sleep 0.2
    kill_agent
    wait "$client"
    ;;
# `rm` of a container that wasn't running when it was looked at: now it is.
raced)
    docker start "$name" >/dev/null
    docker "$@"
    kill_agent
    ;;
# `rm` of a container that is to be replaced: the client outlives the agent, and its request is slow to leave. By then
# the next agent has replaced the container.
late)
    container=$(docker inspect --format '{{.Name}}' "$name")
    old=$(docker inspect --format '{{.Id}}' "$name")
    kill_agent
    for _ in $(seq 200); do
        now=$(docker inspect --format '{{.Id}}' "$container" 2>/dev/null) || continue
        [ "$now" = "$old" ] || break
        sleep 0.01
    done
    exec docker "$@"
    ;;
# The same as `raced`, and the agent is killed when it follows that container.
raced-on)
    echo 'follow 1 midway' >"$here/armed"
    docker start "$name" >/dev/null
    exec docker "$@"
    ;;
esac
