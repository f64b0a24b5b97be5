# fish completion for p2vctl: p2vctl itself says what may come next. See p2vctl(1), COMPLETION.
function __p2vctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l answer (p2vctl complete -- $words[2..-1] 2>/dev/null)
    if test "$answer[1]" = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $answer
    end
end
complete -c p2vctl -f -a '(__p2vctl_complete)'
