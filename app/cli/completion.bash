# SPDX-License-Identifier: MIT
# bash completion for holdfast(1). Commands and options are asked of the program, so they are never out of date; operands
# are completed as files.
_holdfast() {
    local word=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]} command= at words

    for ((at = 1; at < COMP_CWORD; at++)); do
        [[ ${COMP_WORDS[at]} == -* ]] || { command=${COMP_WORDS[at]}; break; }
    done
    COMPREPLY=()
    if [[ -z $command || ($command == help && $at -eq $((COMP_CWORD - 1))) ]]; then
        words=$("$program" --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p')
        [[ -n $command ]] || words="$words help --help --version --no-color"
    elif [[ $word == -* ]]; then
        words=$("$program" "$command" --help 2>/dev/null | sed '/^Examples:/,$d' | grep -oE '(^|[^a-z-])--[a-z][a-z-]*' |
            grep -oE -- '--[a-z-]+' | sort -u)
        words="$words --help"
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _holdfast holdfast
