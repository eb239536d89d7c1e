# The state of queries in a plain POSIX shell: directory and exported variables pass to the next.
# Sourced by a command line whose arguments are the files of this script, state and code.
[ -r "$2" ] && . "$2" 2>/dev/null
__agent_state=$2 __agent_code=$(cat "$3")
set --
__agent_leave() {
    {
        set +eux +C
        pwd -P >"$__agent_state.dir"
        export -p >"$__agent_state.new"
        printf 'cd -- "$(cat "%s.dir")"\n# end of state\n' "$__agent_state" >>"$__agent_state.new"
    } 2>/dev/null
}
trap __agent_leave EXIT
trap 'exit 130' INT
