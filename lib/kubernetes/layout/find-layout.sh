# Prints what of Kubernetes and etcd runs on this machine, how, and the files that it lives by. Never a line with a key, a token or a
# password. For any POSIX shell with busybox' tools; its arguments are folders to look in for certificates beside those that are named.
#   == host NAME
#   == process PID     what follows: `exe`, `cgroup`, `cwd`, then `a WORD` of its command line, `e NAME=VALUE` of its environment
#   == units           `u PROPERTY=VALUE` as systemctl shows them
#   == env FILE        `|LINE` of a file that a unit's environment is read from
#   == file FILE       `real`, `stat MODE OWNER:GROUP`, `key private|public` where it holds one, then `|LINE`: certificates, kubeconfigs
#                      without what is secret in them, and the configuration and the manifests of these components
#   .. end             nothing is missing
export LC_ALL=C
components='kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy|kubelet|etcd'
others='hyperkube|k3s|k3s-server|k3s-agent|rke2|kubelite|k0s'
newline='
'

# The lines of a file, NUL for end of line.
words() { tr '\000\n' '\n ' <"$1" 2>/dev/null; }

processes() {
  own=$(readlink /proc/self/ns/net 2>/dev/null)
  grep -lsE "(^|/)($components|$others)" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3 | while IFS= read -r pid; do
    exe=$(readlink "/proc/$pid/exe" 2>/dev/null); exe=${exe% (deleted)}
    first=$(words "/proc/$pid/cmdline" | head -n 1)
    printf '%s\n%s\n' "${exe##*/}" "${first##*/}" | grep -qxE "($components|$others)( .*)?" || continue
    # What has a network of its own is a pod of somebody's, not what the machine runs by.
    net=$(readlink "/proc/$pid/ns/net" 2>/dev/null)
    [ -z "$own" ] || [ -z "$net" ] || [ "$net" = "$own" ] || continue
    printf '== process %s\nexe %s\ncwd %s\n' "$pid" "$exe" "$(readlink "/proc/$pid/cwd" 2>/dev/null)"
    sed 's/^/cgroup /' "/proc/$pid/cgroup" 2>/dev/null
    words "/proc/$pid/cmdline" | sed 's/^/a /'
    case $exe$first in *etcd*) words "/proc/$pid/environ" | grep -E '^ETCD(CTL)?_' | grep -vE '^[A-Z_]*(TOKEN|PASSWORD|SECRET|_USER)[A-Z_]*=' | sed 's/^/e /' ;; esac
  done
}

# The units that processes belong to, those that start a component by their definition, and those with the usual names.
units() {
  command -v systemctl >/dev/null 2>&1 || return 0
  names=$({
    printf '%s\n' "$1" | sed -n 's#^cgroup .*/\([^/]*\.service\)\(/.*\)*$#\1#p' | grep -vE '^(containerd|docker|crio|cri-docker)\.service$'
    grep -lsE "^ExecStart=.*($components|$others)([[:space:]\\]|\$)" /etc/systemd/system/*.service /run/systemd/system/*.service \
      /usr/local/lib/systemd/system/*.service /lib/systemd/system/*.service /usr/lib/systemd/system/*.service | sed 's#.*/##' | grep -v '@\.service$'
    printf '%s\n' "$components" | tr '|' '\n' | sed 's/$/.service/'
  } | sort -u)
  systemctl show -p Id,LoadState,ActiveState,UnitFileState,FragmentPath,DropInPaths,EnvironmentFiles,Environment,NeedDaemonReload,ExecStart,Type,WorkingDirectory \
    $names 2>/dev/null | sed -E 's/([A-Z_]*(TOKEN|PASSWORD|SECRET)[A-Z_]*=)[^[:space:]]*/\1/g; s/^/u /'
}

environments() {
  printf '%s\n' "$1" | sed -n 's/^u EnvironmentFiles=//p' | tr ' ' '\n' | grep '^/' | sort -u | while IFS= read -r file; do
    [ -f "$file" ] || continue
    printf '== env %s\n' "$file"
    grep -vE '^[[:space:]]*([A-Z_]*(TOKEN|PASSWORD|SECRET)[A-Z_]*=|#|$)' "$file" | sed 's/^/|/'
  done
}

# What may be shown of a file, by what it is.
shown='
  { line[NR] = $0 }
  /PRIVATE KEY-----/ { private = 1 }
  /PUBLIC KEY-----/ { public = 1 }
  /-BEGIN CERTIFICATE-----/ { certificate = 1 }
  /(certificate-authority|client-certificate)(-data)?"?:|^"?clusters"?:/ { kubeconfig++ }
  /^"?contexts"?:|"contexts"[ \t]*:|^"?current-context"?:/ { contexts = 1 }
  /^[ \t"]*kind"?:[ \t]*"?(KubeletConfiguration|KubeProxyConfiguration|KubeSchedulerConfiguration|Pod)"?[ \t,]*$/ { known = 1 }
  /^(client-transport-security|peer-transport-security|listen-client-urls|data-dir)[ \t]*:/ { known = 1 }
  END {
    if (private) print "key private"
    else if (public) print "key public"
    if (contexts && kubeconfig) {
      for (n = 1; n <= NR; n++) {
        text = line[n]
        if (text ~ /^[ \t]*#/) continue
        # A secret that goes on over several lines is left out by its lines: they are no fields.
        if (text ~ /(client-key-data|token|password|client-secret|id-token|refresh-token)"?[ \t]*:/) {
          match(text, /^[ \t-]*/); depth = RLENGTH
          hidden = 1
          text = hide(text)
          print "|" text
          continue
        }
        match(text, /^[ \t-]*/)
        if (hidden && RLENGTH > depth && text !~ /^[ \t"-]*[A-Za-z-]+"?[ \t]*:/) continue
        hidden = 0
        print "|" text
      }
    } else if (known) {
      for (n = 1; n <= NR; n++) if (line[n] !~ /^[ \t]*#/) print "|" line[n]
    } else if (certificate) {
      for (n = 1; n <= NR; n++) {
        if (line[n] ~ /-BEGIN CERTIFICATE-----/) inside = 1
        if (inside && line[n] !~ /[^ \t\rA-Za-z0-9+\/=-]/) print "|" line[n]
        if (line[n] ~ /-END CERTIFICATE-----/) inside = 0
      }
    }
  }
  function hide(text,   at, rest, found) {
    found = ""
    while (match(text, /(client-key-data|token|password|client-secret|id-token|refresh-token)"?[ \t]*:[ \t]*/)) {
      found = found substr(text, 1, RSTART + RLENGTH - 1) "\"\""
      text = substr(text, RSTART + RLENGTH)
      if (text ~ /^"/) { sub(/^"[^"]*"/, "", text) } else { sub(/^[^,} \t]*/, "", text) }
    }
    return found text
  }'

# What of a file may be shown; nothing of one that was shown, or is none.
show() {
  case $seen in *"$newline$1$newline"*) return 0 ;; esac
  seen=$seen$1$newline
  [ -f "$1" ] || return 0
  stat=$(stat -L -c '%a %U:%G %s' "$1" 2>/dev/null)
  # Programs are named, too.
  [ "${stat##* }" -le 1048576 ] || return 0
  text=$(awk "$shown" "$1" 2>/dev/null)
  [ -n "$text" ] || [ -n "$2" ] || return 0
  printf '== file %s\nreal %s\nstat %s\n' "$1" "$(readlink -f "$1")" "${stat% *}"
  [ -z "$text" ] || printf '%s\n' "$text"
}

# Paths that a text names, those of kubeconfigs by their folder, and those of command lines by the process' own.
paths() {
  awk '
    $1 == "==" { section = $2; file = $3; folder = file; sub(/\/[^\/]*$/, "", folder); next }
    section == "process" && $1 == "cwd" { folder = $2 == "/" ? "" : $2 }
    section == "units" && $0 !~ /^u (ExecStart|Environment)=/ { next }
    {
      text = $0
      if (section == "file") {
        if (text ~ /^\|[ \t-]*"?(certificate-authority|client-certificate|client-key)"?[ \t]*:[ \t]*"?[^"\/ ]/) {
          value = text; sub(/^[^:]*:[ \t]*"?/, "", value); sub(/[" \t].*$/, "", value); print folder "/" value
        }
        if (text !~ /^\|/ || text ~ /-data"?[ \t]*:/ || text ~ /^\|[A-Za-z0-9+\/=]+$/) next
      }
      if (section == "process" && text ~ /^a -[^=]*=[^\/]/) { value = text; sub(/^[^=]*=/, "", value); print folder "/" value }
      if (section == "process" && text ~ /^a [^-\/]/) print folder "/" substr(text, 3)
      while (match(text, /\/[A-Za-z0-9._\/@+:%~-]+/)) {
        path = substr(text, RSTART, RLENGTH)
        text = substr(text, RSTART + RLENGTH)
        print path
        # `--tls-sni-cert-key=CERT,KEY:NAMES`
        if (sub(/:.*/, "", path)) print path
      }
    }' | sort -u
}

# Folders that hold the certificates of everybody, or more than can be looked through.
is_everybodys() {
  case ${1%/} in
  # What somebody put there, and not what came with the machine.
  /usr/local/share/ca-certificates | /etc/pki/ca-trust/source/anchors | /etc/pki/trust/anchors) return 1 ;;
  '' | /etc | /etc/ssl | /etc/ssl/certs* | /etc/ca-certificates* | /etc/pki* | /etc/systemd* | /etc/default | /etc/sysconfig | /usr* | /lib* | /bin | /sbin | /opt | /opt/*bin* | /home | /home/* | /root | /root/* | /var | /var/lib | /var/log* | /var/lib/etcd* | /var/lib/containerd* | /var/lib/docker* | /tmp | /var/tmp | /run | /run/* | /var/run* | /proc* | /sys* | /dev* | /srv | /mnt | /media) return 0 ;;
  esac
  return 1
}

# The files of a folder that may hold certificates, keys or kubeconfigs.
look_in() {
  is_everybodys "$1" || [ ! -d "$1" ] || find -H "$1" -maxdepth 6 \( -path '*/kubelet/pods' -o -path '*/kubelet/plugins*' -o -path '*/kubelet/device-plugins' -o -name '.rekey*' -o -path '*/member/wal' -o -path '*/member/snap' \) -prune \
    -o \( -type f -size -1024k -o -type l \) -exec grep -lsE -e '-BEGIN [A-Z ]*(CERTIFICATE|KEY)-' -e '(certificate-authority|client-certificate)(-data)?"?:' {} + 2>/dev/null
}

seen=$newline
printf '== host %s\n' "$(uname -n)"
running=$(processes)
[ -z "$running" ] || printf '%s\n' "$running"
of_systemd=$(units "$running")
printf '== units\n%s\n' "$of_systemd"
read_by_them=$(environments "$of_systemd")
[ -z "$read_by_them" ] || printf '%s\n' "$read_by_them"

# What these name, what the files name that they name, and once more; with the manifests and the pieces of configuration in the folders that the
# kubelet is told.
named=$(printf '%s\n' "$running" '== units' "$of_systemd" "$read_by_them" | paths)
round=0
all=
while [ "$round" -lt 4 ]; do
  round=$((round + 1))
  marker='..round'
  out=$(
    printf '%s\n' "$named" | while IFS= read -r path; do show "$path" named; done
  )
  [ -z "$out" ] || printf '%s\n' "$out"
  all=$all$newline$out
  seen=$seen$(printf '%s\n' "$named")$newline
  folders=$({ printf '%s\n' "$running" "$of_systemd" "$read_by_them" | grep -oE -e '--(pod-manifest-path|config-dir)[= ]/[^ "]+' | sed 's/.*[= ]//'; printf '%s\n' "$all" | sed -n 's/^|staticPodPath:[[:space:]]*"\{0,1\}\([^"[:space:]]*\).*/\1/p'; echo /etc/kubernetes/manifests; } | sort -u)
  named=$({
    printf '%s\n' "$out" | paths
    [ "$round" -gt 2 ] || printf '%s\n' "$folders" | while IFS= read -r folder; do find -H "${folder%/}" -maxdepth 1 ! -name '.*' \( -type f -o -type l \) 2>/dev/null; done
    [ "$round" -gt 1 ] || for file in /root/.kube/config /root/*.kubeconfig /root/*.conf "$HOME/.kube/config" "$HOME"/*.kubeconfig; do [ -f "$file" ] && printf '%s\n' "$file"; done
  } | sort -u)
done

# All else that lies where they keep such files.
{
  printf '%s\n' "$@" /etc/kubernetes /var/lib/kubelet/pki
  printf '%s\n' "$all" | sed -n 's/^== file //p; s/^real //p' | sed 's#/[^/]*$##'
  printf '%s\n' "$all" | sed -n 's/^|[[:space:]-]*path:[[:space:]]*\(\/[^[:space:]]*\)$/\1/p'
} | sort -u | while IFS= read -r folder; do look_in "$folder"; done | sort -u | while IFS= read -r path; do show "$path"; done
printf '.. end\n'
