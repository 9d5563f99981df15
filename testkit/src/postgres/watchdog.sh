folder=$1
shift
"$@" >&2 &
server=$!
echo "server $server"
if ! read -r line; then
    # A shell starts what runs beside it with SIGQUIT ignored, so a server that has only just been started needs the second signal.
    kill -QUIT "$server"
    sleep 1
    kill -KILL "$server"
    wait "$server"
    rm -rf -- "$folder"
fi
wait "$server"
