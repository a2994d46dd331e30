#!/bin/sh
# Runs commands for the outside, several at once. One line each way over a virtio port:
#   NUMBER SECONDS BASE64(script)
#   NUMBER EXITCODE BASE64(output) BASE64(errors)
# Output is cut at 4 MiB. A script whose time is up is killed with all it started (137).
port=/dev/vport0p1
[ -e $port ] || port=/dev/vport1p1
[ -e $port ] || exit
cd /run/agent || exit
exec 3<>$port

say() { (flock 9; printf '%s\n' "$1" >&3) 9>/run/agent/lock; }

work() {
    setsid /bin/sh -c 'echo $$ >"$0.pid"; exec timeout -s KILL "$1" /bin/sh "$0"' "$1" "$2" >"$1.out" 2>"$1.err" </dev/null
    code=$?
    # The shell that was waited for is the leader of its own process group.
    [ $code = 137 ] && kill -KILL "-$(cat "$1.pid")" 2>/dev/null
    say "$1 $code $(head -c 4194304 "$1.out" | base64 -w0) $(head -c 4194304 "$1.err" | base64 -w0)"
    rm -f "$1" "$1".*
}

say ready
while read -r number limit script <&3; do
    echo "$script" | base64 -d >"$number"
    work "$number" "$limit" &
done
