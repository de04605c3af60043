"""Completion in bash, zsh and fish: as in click, but words with `=` or `:` are completed as one."""

from __future__ import annotations

import os
import re
import shlex
from typing import Any

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)


def install() -> None:
    """Use these classes instead of click's."""
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)


def _option_part(incomplete: str) -> str:
    """Return `--set=` of `--set=train.ep`, which click removes before it asks for suggestions."""
    return incomplete[: incomplete.find("=") + 1] if incomplete.startswith("-") else ""


class _Bash(BashComplete):
    """bash splits words at `=` and `:`, and replaces only the text after the last of these."""

    source_template = """\
%(complete_func)s() {
    local response type value
    COMPREPLY=()
    response=$(IFS=$'\\n'; env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        %(complete_var)s=bash_complete "$1" 2> /dev/null)
    while IFS=',' read -r type value; do
        if [[ $type == 'dir' ]]; then
            compopt -o dirnames 2> /dev/null
        elif [[ $type == 'file' ]]; then
            compopt -o default 2> /dev/null
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
            if [[ $value == *[=/.] ]]; then
                compopt -o nospace 2> /dev/null
            fi
        fi
    done <<< "$response"
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        text, position = os.environ["COMP_WORDS"], int(os.environ["COMP_CWORD"])
        words = split_arg_string(text)[: position + 1]
        if len(words) <= position:
            words.append("")
        joined: list[str] = []
        for index, word in enumerate(words):
            if joined and word and (_breaks(word) or _breaks(words[index - 1])):
                joined[-1] += word
            else:
                joined.append(word)
        incomplete = joined.pop()
        replaced = "" if _breaks(words[-1]) else words[-1]
        self._typed_length = max(0, len(incomplete) - len(_option_part(incomplete)) - len(replaced))
        self._quoted = _is_quoted(text)
        return joined[1:], incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        if item.type != "plain":
            return super().format_completion(item)
        value = str(item.value)[self._typed_length :]
        return "plain," + (value if self._quoted else re.sub(r"([^\w@%+=:,./-])", r"\\\1", value))


def _breaks(word: str) -> bool:
    return bool(word) and set(word) <= set("=:")


def _is_quoted(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return True
    return False


class _WholeOption(ShellComplete):
    """Adds the option of `--set=train.ep`, which click removes, to each suggestion."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        self._option = _option_part(incomplete)
        return args, incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        if item.type == "plain":
            item = CompletionItem(self._option + item.value, item.type, item.help)
        return super().format_completion(item)


class _Zsh(_WholeOption, ZshComplete):
    """click's own script, but no space is added after `path=` and `folder/`."""

    source_template = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a response described described_open plain plain_open
    local type key descr
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        %(complete_var)s=zsh_complete ${(Q)words[1]} 2> /dev/null)}")
    for type key descr in ${response}; do
        if [[ $type == "dir" ]]; then
            _path_files -/
        elif [[ $type == "file" ]]; then
            _path_files -f
        elif [[ $type == "plain" && $descr == "_" ]]; then
            if [[ $key == *[=/.] ]]; then plain_open+=("$key"); else plain+=("$key"); fi
        elif [[ $type == "plain" ]]; then
            if [[ $key == *[=/.] ]]; then
                described_open+=("$key":"$descr")
            else
                described+=("$key":"$descr")
            fi
        fi
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#described_open )) && _describe -V unsorted_open described_open -U -S ''
    (( $#plain )) && compadd -U -V unsorted -a plain
    (( $#plain_open )) && compadd -U -S '' -V unsorted_open -a plain_open
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class _Fish(_WholeOption, FishComplete):
    source_template = FishComplete.source_template.replace('string split ","', 'string split -m 1 ","')
