# Prints the files with credentials for registries that a kubelet and a container runtime read, a line each: `file KIND PATH REAL MODE OWNER TEXT`, names and
# text in base64. Called with the kubelet's root directory and its process, which may be empty. Ends with `end`.
root=$1
pid=$2

tell() {
  [ -f "$2" ] || return 0
  real=$(readlink -f -- "$2") || return 0
  printf 'file %s %s %s %s %s\n' "$1" "$(printf %s "$2" | base64 | tr -d '\n')" "$(printf %s "$real" | base64 | tr -d '\n')" \
    "$(stat -c '%a %U:%G' -- "$real")" "$(base64 <"$real" | tr -d '\n')"
}

# Where kubelets look, in their order: their root directory, the one that they run in, their user's home, the root of all.
cwd=
home=
if [ -n "$pid" ]; then
  cwd=$(readlink "/proc/$pid/cwd")
  home=$(tr '\0' '\n' <"/proc/$pid/environ" | sed -n 's/^HOME=//p' | head -n 1)
fi
for folder in "$root" /var/lib/kubelet "$cwd"; do
  [ -n "$folder" ] || continue
  tell config "${folder%/}/config.json"
  tell cfg "${folder%/}/.dockercfg"
done
for folder in "$home" /root /; do
  [ -n "$folder" ] || continue
  tell config "${folder%/}/.docker/config.json"
  tell cfg "${folder%/}/.dockercfg"
done

# containerd's own file, what that imports, and the folders of registries that it names; those of its defaults in any case.
config=
for process in /proc/[0-9]*; do
  name=
  read -r name 2>/dev/null <"$process/comm" || continue
  [ "$name" = containerd ] || continue
  config=$(tr '\0' '\n' <"$process/cmdline" | sed -n -e '/^-\{1,2\}c\(onfig\)\{0,1\}$/{n;p;}' -e 's/^-\{1,2\}c\(onfig\)\{0,1\}=//p' | head -n 1)
  break
done
config=${config:-/etc/containerd/config.toml}
value() { sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*\\(.*\\)/\\1/p" "$config" 2>/dev/null | tr -d "\"'[] " | tr ',:' '\n\n' | sed 's/#.*//'; }
tell runtime "$config"
for file in $(value imports); do
  case $file in /*) ;; *) file=$(dirname -- "$config")/$file ;; esac
  tell runtime "$file"
done
for folder in $(value config_path) /etc/containerd/certs.d /etc/docker/certs.d; do
  for file in "$folder"/*/hosts.toml; do tell runtime "$file"; done
done
echo end
