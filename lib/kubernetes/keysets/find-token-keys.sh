# Prints the public keys in files that tokens of service accounts are signed or verified with, and by which key the tokens are signed that
# pods hold here. Never a line of a private key, and of tokens their first part alone, which is no secret.
#   sh find-token-keys.sh KUBELET-FOLDER FILE…
#   == FILE            then PEM blocks: public keys and certificates; `?` where it holds a private key that nothing here can read
#   .. HEADER FILE     the first part of a pod's token
#   ~~ TIME FILE       when the CAs beside it were written last, in seconds
export LC_ALL=C
kubelet=$1
shift

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
for file in "$kubelet"/pods/*/volumes/kubernetes.io~projected/*/token; do
  [ -f "$file" ] || continue
  IFS=. read -r header rest <"$file" || [ -n "$header" ] || continue
  printf '.. %s %s\n' "$header" "$file"
  [ -f "${file%token}ca.crt" ] && printf '~~ %s %s\n' "$(stat -Lc %Y "${file%token}ca.crt")" "${file%token}ca.crt"
done 2>/dev/null
printf '.. end\n'
