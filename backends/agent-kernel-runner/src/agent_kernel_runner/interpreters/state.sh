# The state of queries in a plain POSIX shell: directory and exported variables pass to the next.
# Sourced by a command line whose arguments are the files of this script and state, and the code or,
# where that is too long for an argument, its file as well. Built-ins alone: an image may have no
# other program, and starting one takes longer than all else here.
[ -r "$2" ] && . "$2" 2>/dev/null
__agent_state=$2 __agent_code=$3
[ -z "$4" ] || __agent_code=$(cat "$4")
set --
__agent_leave() {
    {
        set +eux +C
        pwd -P >"$__agent_state.dir"
        export -p >"$__agent_state.new"
        printf '# end of state\n' >>"$__agent_state.new"
    } 2>/dev/null
}
trap __agent_leave EXIT
trap 'exit 130' INT
