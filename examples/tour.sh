#!/usr/bin/env bash
# Run the commands of docs/tour.md in a temporary folder and print the page with their new output:
#
#   examples/tour.sh > /tmp/tour.md && cp /tmp/tour.md docs/tour.md
#
# The script needs `nervkit` and `python` on PATH, and the extra "bench". It takes about ten minutes
# on two idle CPU cores. It stops at the first command that fails.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$root/examples/bunny.mp4" "$work/clip.mp4"
cd "$work"
export COLUMNS=100

# A terminal redraws one progress line and a pipe gets many: keep the last of each stage. Wrap lines.
shown() {
  python -c '
import os, re, sys, textwrap

last, lines = None, []
for line in sys.stdin.read().rstrip().splitlines():
    stage = re.match("[a-z]+ (?=(step|frame) [0-9]+/)", line)
    if stage and last and stage[0] == last[0]:
        lines.pop()
    lines.append(line.rstrip())
    last = stage
width = int(os.environ["COLUMNS"])
for line in lines:
    print("\n".join(textwrap.wrap(line, width, replace_whitespace=False, break_on_hyphens=False)))
'
}

# Python as at its prompt, with the lines of standard input echoed.
session='
import code, sys

class Session(code.InteractiveConsole):
    def raw_input(self, prompt=""):
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        if line.strip():
            print(prompt + line, end="", flush=True)
        return line.rstrip("\n")

    def showtraceback(self):
        super().showtraceback()
        sys.exit(1)

sys.path.insert(0, "")
Session().interact(banner="", exitmsg="")
'

block="" command="" indented=""
while IFS= read -r line; do
  case "$block:$line" in
    :'```console' | :'```pycon') block=${line#'```'} command="" && echo "$line" ;;
    console:'```') block="" && echo "$line" ;;
    pycon:'```')
      printf '%s\n' "$command" | python -c "$session" | shown
      block="" indented="" && echo "$line"
      ;;
    console:'$ '* | console:'> '*)
      echo "$line"
      command+="${line#??}"$'\n'
      if [[ $line != *\\ ]]; then
        bash -euo pipefail -c "$command" </dev/null 2>&1 | shown
        command=""
      fi
      ;;
    pycon:'>>> '*) command+="${indented:+$'\n'}${line#????}"$'\n' indented="" ;;
    pycon:'... '*) command+="${line#????}"$'\n' indented=1 ;; # an empty line ends the block
    :*) echo "$line" ;;
  esac
done <"$root/docs/tour.md"
