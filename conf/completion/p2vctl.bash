# bash completion for p2vctl: p2vctl itself says what may come next. See p2vctl(1), COMPLETION.
_p2vctl() {
  local line=${COMP_LINE:0:COMP_POINT} word done_part text
  local -a words answer
  read -ra words <<< "$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  word=${words[-1]}
  mapfile -t answer < <(p2vctl complete -- "${words[@]:1}" 2> /dev/null)
  COMPREPLY=()
  if [[ ${answer[0]-} == :files ]]; then
    compopt -o filenames 2> /dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
    return
  fi
  # readline takes what follows the last : or = for the word.
  done_part=${word%"${word##*[:=]}"}
  for text in "${answer[@]%%$'\t'*}"; do
    [[ $text == "$word"* ]] && COMPREPLY+=("${text#"$done_part"}")
  done
}
complete -F _p2vctl p2vctl
