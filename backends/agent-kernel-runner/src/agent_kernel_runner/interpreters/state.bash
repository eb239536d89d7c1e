# The state of queries in bash: begin with what the last one left, and leave it for the next one.
# Sourced by a command line whose arguments are the files of this script and state, and the code or,
# where that is too long for an argument, its file as well.
[ -r "$2" ] && . "$2" 2>/dev/null
__agent_state=$2 __agent_code=$3
[ -z "$4" ] || __agent_code=$(<"$4")
set --
__agent_leave() {
    trap '' INT TERM  # whoever interrupts twice must not lose the state
    set +o >|"$__agent_state.options"
    {
        set +euxfv +o noclobber
        __agent_ifs=$IFS
        local __agent_name IFS=$' \t\n'
        {
            printf 'cd -- %q\n' "$PWD"
            for __agent_name in $(compgen -v); do
                case $__agent_name in
                    __agent_*|BASH*|DIRSTACK|EPOCH*|EUID|FUNCNAME|GROUPS|HISTCMD|IFS|LINENO) ;;
                    PIPESTATUS|PPID|RANDOM|SECONDS|SHELLOPTS|SRANDOM|UID|_) ;;
                    *) declare -p "$__agent_name" ;;
                esac
            done
            printf 'IFS=%q\n' "$__agent_ifs"
            declare -f
            shopt -p
            alias -p
            printf 'umask %s\n' "$(umask)"
            printf '%s\n# end of state\n' "$(<"$__agent_state.options")"
        } >"$__agent_state.new"
    } 2>/dev/null
}
trap __agent_leave EXIT
