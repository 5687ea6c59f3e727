#!/bin/sh
if [ "$1" = --list ]; then echo '{"g": {"hosts": ["h1", "h2", "h3"]}}'
elif [ "$2" = h1 ]; then echo '{"name": "first", "big": 12345678901234567890}'
elif [ "$2" = h2 ]; then echo '{}'
fi
