//! A stand-in for docker, for rows that are about the agent alone. Its containers have ended as soon as they are started.

use crate::support::agent::Agent;

/// Installs the stand-in as the agent's docker client.
pub fn install(agent: &Agent) {
    let state = agent.path("stand-in/containers");
    std::fs::create_dir_all(&state).expect("make a folder");
    std::fs::write(agent.path("stand-in/events"), "").expect("make a file");
    let text = SCRIPT.replace("STATE", &state.to_string_lossy());
    let script = agent.write_script("stand-in/docker", &text);
    agent.change_config(&format!("[executor]\ndocker = {:?}", script.to_string_lossy()));
}

/// A container is a file in the folder `STATE` with its id as name, and the time of its run, its owner and its name in it.
/// Only what takes a process of its own costs much here: `date` at `run`, and `rm`.
const SCRIPT: &str = r#"#!/bin/sh
cd 'STATE' || exit 1
case $* in
--version) echo 'Docker version 28.0.0, build 0000000' ;;
version*) echo 28.0.0 ;;
info*)
    case $* in
    *LiveRestore*) echo false ;;
    *RootDir*) echo 'STATE' ;;
    *) echo '[]' ;;
    esac
    ;;
image*)
    case $* in
    *json*) echo null ;;
    *User*) echo ;;
    *) echo sha256:0 ;;
    esac
    ;;
run*)
    name= workspace= cidfile= instance=
    while [ $# -gt 0 ]; do
        case $1 in
        --name) name=$2 ;;
        --cidfile) cidfile=$2 ;;
        open-aaas.instance=*) instance=${1#*=} ;;
        type=bind,source=*,target=/workspace)
            workspace=${1#type=bind,source=}
            workspace=${workspace%,target=/workspace}
            ;;
        esac
        shift
    done
    read -r id < /proc/sys/kernel/random/uuid
    IFS=-
    set -- $id
    unset IFS
    id=$1$2$3$4$5$1$2$3$4$5
    printf %s "$id" > "$cidfile"
    echo result > "$workspace/output/result"
    date -u "+%FT%TZ $instance $name" > "$id"
    printf '["%s","start","",1]\n["%s","die","0",2]\n' "$id" "$id" >> ../events
    ;;
inspect*)
    for wanted; do :; done
    for id in * none; do
        read -r at instance name 2>/dev/null < "$id" || continue
        case $wanted in "$id" | "$name") break ;; esac
    done
    if [ "$id" = none ]; then
        echo "Error: No such container: $wanted" >&2
        exit 1
    fi
    state="\"Status\":\"exited\",\"ExitCode\":0,\"OOMKilled\":false,\"Error\":\"\""
    state="$state,\"StartedAt\":\"$at\",\"FinishedAt\":\"$at\"}"
    echo "{\"Id\":\"$id\",\"State\":{$state,\"Labels\":{\"open-aaas.instance\":\"$instance\"}}"
    ;;
'events --filter'*) exec tail -n 0 -f ../events ;;
events*) for name in *; do [ ! -e "$name" ] || echo "[\"$name\",\"die\",\"\"]"; done ;;
ps*)
    case $* in
    *' -q '*name=*) ;;
    *Names*) for id in *; do read -r at instance name 2>/dev/null < "$id" && echo "$id $name"; done ;;
    esac
    ;;
rm*)
    shift
    names=
    for name; do
        case $name in -*) ;; *) names="$names $name" ;; esac
    done
    # Names of containers have no blanks.
    exec rm -f $names
    ;;
esac
"#;
