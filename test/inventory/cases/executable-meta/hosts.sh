#!/bin/sh
[ "$1" = --list ] || exit 3
cat <<'END'
{"masters": {"hosts": ["m1", "m2"], "vars": {"a": 1, "t": "{{ b }}"}, "children": ["sub"]},
 "sub": {"hosts": ["s1"]}, "flat": ["f1", "m1"], "empty": {"hosts": []},
 "_meta": {"hostvars": {"m1": {"x": 1.0, "y": [1, {"z": null}]}, "nobody": {"q": 1}, "s1": {"u": {"__ansible_unsafe": "{{ z }}"}}}}}
END
