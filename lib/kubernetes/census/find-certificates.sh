# Prints the certificates in the files of this machine: in the folders that are its arguments, in the kubeconfigs of everybody who has a
# home here, and where flags of Kubernetes' components and of etcd say so. Never a line with a key or a token. For any POSIX shell.
#   == FILE      what follows was found in it: PEM blocks, then of kubeconfigs the fields that name certificates and servers
#   :: COMPONENT FLAG FILE    a component that runs uses the file for this
#   ?? FOLDER    is not there
#   ?- HOME      can't be entered
#   !! TEXT      what find or grep said of what may not be read
#   .. end       nothing is missing
export LC_ALL=C
components='kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy|kubelet|etcd'
interesting='-BEGIN CERTIFICATE-|certificate(-authority)?-data|(certificate-authority|client-certificate)"?:'
newline='
'

# Folders with kubeconfigs of people.
homes() {
  { cut -d: -f6 /etc/passwd; printf '%s\n' /home/*; } 2>/dev/null | sort -u | while IFS= read -r home; do
    home=${home%/}
    case $home in /*) ;; *) continue ;; esac
    [ -d "$home" ] || continue
    [ -x "$home" ] || printf '?- %s\n' "$home"
    [ ! -d "$home/.kube" ] || printf '%s\n' "$home/.kube"
  done
}

# find over a folder, but for pods, volumes, what kubectl remembers, and what a rotation has staged.
search() {
  folder=$1
  shift
  find -H "$folder" \( -path /var/lib/kubelet/pods -o -path /var/lib/kubelet/plugins -o -path '*/.kube/cache' \
    -o -path '*/.kube/http-cache' -o -name '.rekey*' \) -prune -o "$@"
}

# The files of a folder that may hold certificates, links to files among them, and what can't be read.
files() {
  search "$1" \( -type f -size -1024k -o -type l -exec sh -c '[ -f "$1" ] && [ -n "$(find -L "$1" -prune -size -1024k)" ]' sh {} \; \) \
    -exec grep -lE -e "$interesting" {} + 2>&1
}

# Whether a folder lies within one that is searched already; of one that a link leads to, also whether it lies around one.
is_covered() {
  real=$(readlink -f "$1") || return 0
  while IFS= read -r known; do
    [ -n "$known" ] || continue
    case $real/ in "$known"/*) return 0 ;; esac
    [ -z "$2" ] || case $known/ in "${real%/}"/*) return 0 ;; esac
  done <<END
$covered
END
  covered=$covered$newline$real
  return 1
}

# COMPONENT FLAG FILE, by the command lines of what runs, by etcd's environment, and by their own configuration files.
uses() {
  grep -lsE "(^|/)($components)" /proc/[0-9]*/cmdline 2>/dev/null | while IFS= read -r file; do
    process=${file%/cmdline}
    { tr '\000' '\n' <"$file"; printf '\001\n'; tr '\000' '\n' <"$process/environ"; } 2>/dev/null | awk -v components="^($components)\$" '
      NR == 1 || (NR == 2 && name == "hyperkube") { count = split($0, parts, "/"); name = parts[count] }
      NR > 1 && name !~ components { exit }
      $0 == "\001" { environment = 1; next }
      environment {
        at = index($0, "=")
        if (name == "etcd" && $0 ~ /^ETCD_[A-Z_]+=./) {
          flag = tolower(substr($0, 6, at - 6)); gsub(/_/, "-", flag)
          print name, flag, substr($0, at + 1)
        }
        next
      }
      flag != "" && $0 !~ /^-/ { print name, flag, $0 }
      { flag = "" }
      /^--?[a-z0-9-]+/ {
        sub(/^--?/, ""); at = index($0, "=")
        if (at) print name, substr($0, 1, at - 1), substr($0, at + 1); else flag = $0
      }' | while read -r name flag value; do
      case $value in /*) ;; *) value=$(readlink "$process/cwd" 2>/dev/null)/$value ;; esac
      [ -f "$value" ] || continue
      printf '%s %s %s\n' "$name" "$flag" "$value"
      case $flag in config | config-file) ;; *) continue ;; esac
      grep -oE '[A-Za-z-]+: *"?/[^"[:space:]]+' "$value" 2>/dev/null | while IFS= read -r line; do
        [ ! -f "/${line#*/}" ] || printf '%s %s %s\n' "$name" "${line%%:*}" "/${line#*/}"
      done
    done
  done | sort -u
}

# The certificates of a file, each whole: on lines of their own, indented, or several within one line.
blocks() {
  awk '
    BEGIN { first = "-----BEGIN CERTIFICATE-----"; last = "-----END CERTIFICATE-----" }
    {
      line = $0
      sub(/\r$/, "", line)
      for (;;) {
        if (block == "") {
          start = index(line, first)
          if (!start) next
          block = first
          line = substr(line, start + length(first))
        }
        end = index(line, last)
        body = end ? substr(line, 1, end - 1) : line
        # Whatever else comes before its end, it is no certificate, and may be what nobody should see.
        if (body ~ /[^ \tA-Za-z0-9+\/=\\]/ || length(block) > 100000) { block = ""; continue }
        block = block body
        if (!end) { block = block "\n"; next }
        print block last
        block = ""
        line = substr(line, end + length(last))
      }
    }' "$1"
}

uses=$(uses)
covered=
found=$(
  {
    homes
    for folder in "$@"; do
      [ -d "$folder" ] && printf '%s\n' "$folder" || printf '?? %s\n' "$folder"
    done
  } | {
    roots=
    while IFS= read -r folder; do
      case $folder in '?'*) printf '%s\n' "$folder" && continue ;; esac
      is_covered "$folder" || roots=$roots$newline$folder
    done
    # Links to folders elsewhere are followed once: where pki is one, its certificates are found by that name.
    printf '%s\n' "$roots" | while IFS= read -r folder; do
      [ -n "$folder" ] || continue
      files "$folder"
      case $folder in */.kube) continue ;; esac
      search "$folder" -type l -print 2>/dev/null | while IFS= read -r link; do
        [ ! -d "$link" ] || printf '%s\n' "$link"
      done
    done | while IFS= read -r line; do
      if [ -d "$line" ]; then is_covered "$line" link || files "$line"; else printf '%s\n' "$line"; fi
    done
  }
  printf '%s\n' "$uses" | while read -r _ _ file; do
    [ ! -f "$file" ] || grep -lE -e "$interesting" "$file" 2>&1
  done
)
# What kubeconfigs lead to.
led_to=$(printf '%s\n' "$found" | while IFS= read -r file; do
  [ -f "$file" ] || continue
  grep -oE '(certificate-authority|client-certificate)"?:[[:space:]]*"?[^"[:space:],}]+' "$file" 2>/dev/null | while IFS= read -r line; do
    path=$(printf '%s' "${line#*:}" | tr -d '" \t')
    case $path in /*) ;; *) path=${file%/*}/$path ;; esac
    [ -f "$path" ] && folder=$(cd "${path%/*}/" 2>/dev/null && pwd) && printf '%s/%s\n' "${folder%/}" "${path##*/}"
  done
done)

printf '%s\n' "$uses" | while IFS= read -r line; do [ -z "$line" ] || printf ':: %s\n' "$line"; done
printf '%s\n' "$found" "$led_to" | sort -u | while IFS= read -r file; do
  case $file in
  '?'*) printf '%s\n' "$file" ;;
  *': Permission denied') printf '!! %s\n' "$file" ;;
  /*)
    [ -f "$file" ] || continue
    printf '\n== %s\n' "$file"
    blocks "$file"
    grep -oE '(certificate-authority|client-certificate)(-data)?"?:[[:space:]]*"?[^"[:space:],}]+|server"?:[[:space:]]*"?https?://[^"@[:space:],}]+|(^|[[:space:]{,"-])cluster"?:[[:space:]]*(\{|$)' "$file"
    ;;
  esac
done
printf '\n.. end\n'
