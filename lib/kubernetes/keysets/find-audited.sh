# Prints who came to an API server by which client certificate, as its audit log says: never a line of the log itself. At most the last BYTES of it
# are read, of the file of before where that of now has fewer.
#   sh find-audited.sh PID PATH BYTES
#   since TIME                                            of the first event that was read
#   .. SHA-256 TIME COUNT<tab>USER<tab>AGENT<tab>ADDRESS  the last time, and how often; texts as JSON has them
#   ?                                                     the log can't be read; `lost` where more came than are told
export LC_ALL=C
case $2 in
  /*) log=/proc/$1/root$2 ;;
  *) log=/proc/$1/cwd/$2 ;;
esac
[ -r "$log" ] || { echo '?'; exit; }

size=$(stat -Lc %s "$log")
stem=${log%.*}
before=
for file in "$stem"-*."${log##*.}"; do
  # They are called by their times: the last one is the newest.
  [ -f "$file" ] && before=$file
done
{
  [ -n "$before" ] && [ "$size" -lt "$3" ] && tail -c $(($3 - size)) "$before"
  tail -c "$3" "$log"
} 2>/dev/null | nice awk '
  function value(key,  at, rest) {
    at = index($0, key)
    if (!at) return "-"
    rest = substr($0, at + length(key), 512)
    match(rest, /^([^"\\]|\\.)*/)
    return substr(rest, 1, RLENGTH)
  }
  # The first line may be the end of one.
  substr($0, 1, 1) != "{" { next }
  !since { since = value("\"requestReceivedTimestamp\":\""); print "since " since }
  {
    # Whoever comes is told before what is asked for, in which anything may stand.
    shown = index($0, "\"authentication.kubernetes.io/credential-id\":[\"X509SHA256=")
    if (!shown || shown > index($0, "\"sourceIPs\":[")) next
    who = substr($0, shown + 58, 64)
    key = value("\"username\":\"") "\t" value("\"userAgent\":\"") "\t" value("\"sourceIPs\":[\"")
    key = who SUBSEP key
    if (!(key in count) && ++kinds > 2000) { lost = 1; next }
    count[key]++
    last[key] = value("\"requestReceivedTimestamp\":\"")
  }
  END {
    for (key in count) {
      split(key, part, SUBSEP)
      printf ".. %s %s %d\t%s\n", part[1], last[key], count[key], part[2]
    }
    if (lost) print "lost"
  }'
printf '.. end\n'
