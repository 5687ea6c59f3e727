#!/bin/sh
printf "%s\n" "rekey test password"
