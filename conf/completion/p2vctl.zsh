#compdef p2vctl
# zsh completion for p2vctl: p2vctl itself says what may come next. See p2vctl(1), COMPLETION.
local -a answer values shown
local entry
answer=("${(@f)$(p2vctl complete -- "${(@)words[2,CURRENT]}" 2> /dev/null)}")
if [[ $answer[1] == :files ]]; then
  _files
  return
fi
for entry in ${answer:#}; do
  values+=("${entry%%$'\t'*}")
  shown+=("${entry/$'\t'/  -- }")
done
(( $#values )) && compadd -l -d shown -a values
