for command in show logs discard
    complete -c agent-core -n "__fish_agent_core_using_subcommand $command" -f -a "(agent-core tasks --ids 2>/dev/null)"
end
complete -c agent-core -n "__fish_agent_core_using_subcommand try" -l replay -r -f -a "(agent-core tasks --ids 2>/dev/null)"
complete -c agent-core -n "__fish_agent_core_using_subcommand ledger" -l task -r -f -a "(agent-core tasks --ids 2>/dev/null)"
