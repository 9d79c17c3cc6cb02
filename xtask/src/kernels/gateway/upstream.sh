#!/bin/sh
# The provider: answers one request on standard input and output.

length=0
end=$(printf '\r')
while read -r line && [ "$line" != "$end" ]; do
    case $line in
    [Cc]ontent-[Ll]ength:*) length=$(echo "${line#*:}" | tr -cd 0-9) ;;
    esac
done
# What is left unread at the end makes a reset of it.
head -c "$length" >/dev/null
printf 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{"answer":"it"}'
