# Prints the public keys in files that tokens of service accounts are signed or verified with, and by which key the tokens are signed that
# pods hold here, wherever in a projected volume, and kubeconfigs of network plugins. Never a line of a private key or of another file, and of
# tokens their first part alone, which is no secret.
#   sh find-token-keys.sh KUBELET-FOLDER CNI-FOLDER FILE…
#   == FILE            then PEM blocks: public keys and certificates; `?` where it holds a private key that nothing here can read
#   .. HEADER FILE     the first part of a token that lies there
#   ~~ TIME FILE       when the CAs beside it were written last, in seconds
export LC_ALL=C
kubelet=$1
cni=$2
shift 2

for file in "$@"; do
  printf '== %s\n' "$file"
  if grep -q 'PRIVATE KEY-----' "$file" 2>/dev/null; then
    openssl pkey -in "$file" -pubout -passin pass: 2>/dev/null </dev/null || ssh-keygen -e -m PKCS8 -P '' -f "$file" 2>/dev/null </dev/null || echo '?'
  fi
  awk '
    /^-----BEGIN (RSA PUBLIC KEY|PUBLIC KEY|CERTIFICATE)-----/ { inside = 1 }
    inside && !/[^ \t\rA-Za-z0-9+\/=-]/ { print }
    /^-----END / { inside = 0 }' "$file" 2>/dev/null
done
IFS=
jwt='eyJ[A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+'
# A pod says what its token is called, and in which folder of the volume it lies. What is no token is not printed: Secrets lie there, too.
find -L "$kubelet"/pods/*/volumes/kubernetes.io~projected -mindepth 2 -maxdepth 3 -name '..*' -prune -o -type f -exec grep -m1 -HsoE "^$jwt\$" {} + </dev/null 2>/dev/null |
  while read -r found; do
    file=${found%:*}
    header=${found##*:}
    printf '.. %s %s\n' "${header%%.*}" "$file"
    ca=${file%/*}/ca.crt
    [ -f "$ca" ] && printf '~~ %s %s\n' "$(stat -Lc %Y "$ca")" "$ca"
  done 2>/dev/null
for file in "$cni"/*kubeconfig* "$cni"/*/*kubeconfig*; do
  [ -f "$file" ] && grep -oE "token[\"']?: *[\"']?$jwt" "$file" </dev/null | grep -oE "$jwt" | cut -d. -f1 |
    while read -r header; do printf '.. %s %s\n' "$header" "$file"; done
done 2>/dev/null
printf '.. end\n'
