
# Names of tasks where a command takes one.
_agent-core_with_ids() {
    local i word command="" previous="${COMP_WORDS[COMP_CWORD-1]}" config=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        case "$word" in
            --config | -c) config=(--config "${COMP_WORDS[++i]}") ;;
            --config=*) config=("$word") ;;
            --log-format) ((++i)) ;;
            -*) ;;
            *) [[ -n "$command" ]] || command="$word" ;;
        esac
    done
    word="${COMP_WORDS[COMP_CWORD]}"
    case "$command $previous" in
        "try --replay" | "ledger --task" | "show "* | "logs "* | "discard "* | "command "*)
            if [[ "$word" != -* && "$previous" != --config && "$previous" != -c && "$previous" != --tail ]]; then
                COMPREPLY=($(compgen -W "$(agent-core "${config[@]}" tasks --ids 2>/dev/null)" -- "$word"))
                return 0
            fi ;;
    esac
    _agent-core "$@"
}
complete -F _agent-core_with_ids -o bashdefault -o default agent-core
