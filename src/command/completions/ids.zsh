_agent-core_ids() {
    local -a names
    names=(${(f)"$(agent-core tasks --ids 2>/dev/null)"})
    compadd -a names
}

